"""Files of questions that are asked later, and of agents that work for others: in process, at exact moments."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from statestream import Store
from statestream.chat import Chat, Conversations, Question
from statestream.chat.agents import AgentPiece, File, Task
from statestream.chat.agents.context import Context
from statestream.chat.blobs import BlobMissing
from statestream.chat.file_urls import file_of
from statestream.chat.slices import kept_files, uploads
from statestream.core.errors import Refused
from statestream.journal.memory import MemoryJournal
from tests.support import eventually

Pieces = AsyncGenerator[AgentPiece, None]


class Talk:
    """A chat whose agent says what the files of a question contain, and waits if the question is to wait."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.chat = Chat(titles=False, while_busy="queue")
        self.journal = MemoryJournal()

        @self.chat.agent
        async def reader(task: Task, context: Context) -> Pieces:
            if task.text == "wait":
                await self.go_on.wait()
            for part in task.question["parts"]:
                if part["type"] == "file":
                    yield (await context.file(part)).decode()
            if task.text == "draw":
                yield await context.run("painter", "a table")
            yield "."

        @self.chat.agent
        async def painter(task: Task, context: Context) -> Pieces:
            yield "Here. "
            yield File(data=b"1,2", media_type="text/csv")

    async def run(self) -> AsyncIterator[Conversations]:
        async with Store(self.chat.slices, journal=self.journal) as store, self.chat.conversations(store) as chats:
            yield chats


@pytest.fixture
async def talk() -> Talk:
    return Talk()


@pytest.fixture
async def chats(talk: Talk) -> AsyncIterator[Conversations]:
    async for chats in talk.run():
        yield chats


def asking(text: str, *data: bytes) -> Question:
    urls = [f"data:text/plain;base64,{base64.b64encode(each).decode()}" for each in data]
    files = [{"type": "file", "mediaType": "text/plain", "url": url} for url in urls]
    return Question(parts=[{"type": "text", "text": text}, *files], id=f"q-{text}")


async def said(chats: Conversations, key: str, question: str) -> Any:
    """The reply to a question, once it is complete."""

    async def reply() -> Any:
        messages = (await chats.find(key))["messages"]
        found = [each for each in messages if each.get("parent") == question and each["status"] == "complete"]
        return found[0] if found else None

    return await eventually(reply)


def names(parts: list[Any]) -> list[str]:
    return [own[1] for part in parts if part["type"] == "file" and (own := file_of(part["url"])) is not None]


async def test_a_question_in_the_queue_keeps_its_files(talk: Talk, chats: Conversations) -> None:
    key = await chats.create()
    await chats.ask(key, asking("wait"))
    queued = await chats.submit(key, asking("second", b"in the queue"))
    assert queued.reply is None
    [waiting] = (await chats.find(key))["queued"]
    [file] = names(waiting["parts"])
    assert set(kept_files.kept_in(chats.view, key)) == {file}
    assert not uploads.waiting_in(chats.view, key)
    assert (await chats.submit(key, asking("second", b"in the queue"))).reply is None  # posted again
    talk.go_on.set()
    reply = await said(chats, key, "q-second")
    assert reply["parts"][0]["text"] == "in the queue."


async def test_a_scheduled_question_keeps_its_files(chats: Conversations) -> None:
    key = await chats.create()
    await chats.schedule.add(key, asking("later", b"scheduled"), at=datetime.now(UTC))
    reply = await said(chats, key, "q-later")
    assert reply["parts"][0]["text"] == "scheduled."
    assert len(kept_files.kept_in(chats.view, key)) == 1


async def test_an_agent_that_works_for_another_one_sends_files(chats: Conversations) -> None:
    key = await chats.create()
    await chats.ask(key, asking("draw"))
    reply = await said(chats, key, "q-draw")
    [file] = [part for part in reply["parts"] if part["type"] == "file"]
    assert file["of"] == next(part["call"] for part in reply["parts"] if part["type"] == "tool")
    assert await chats.files.whole(key, file, 100) == b"1,2"


async def test_equal_files_are_one_and_those_of_other_chats_are_others(chats: Conversations) -> None:
    first, second = await chats.create(), await chats.create()
    await chats.ask(first, asking("one", b"same"))
    await said(chats, first, "q-one")
    await chats.ask(first, asking("two", b"same", b"same"))
    await said(chats, first, "q-two")
    messages = (await chats.find(first))["messages"]
    assert len({name for message in messages for name in names(message["parts"])}) == 1
    [stored] = names(messages[0]["parts"])
    with pytest.raises(BlobMissing):
        await chats.files.whole(second, {**messages[0]["parts"][1], "url": f"/api/chats/{second}/files/{stored}"}, 10)
    await chats.people.delete(first)
    assert not kept_files.kept_in(chats.view, first)
    with pytest.raises(BlobMissing):
        async with chats.files.read(first, stored):
            pass


async def test_a_file_that_is_being_deleted_cannot_be_asked_about(chats: Conversations) -> None:
    key = await chats.create()

    async def content() -> AsyncIterator[bytes]:
        yield b"late"

    part = await chats.files.upload(key, content(), media_type="text/plain")
    del part["size"]
    question = Question(parts=[{"type": "text", "text": "see"}, part])
    [file] = names([part])
    taken = await chats.files.take_in(key, question.parts, None)
    await chats.view.dispatch(uploads.leaving(key, files=[file]))
    with pytest.raises(Refused, match="no longer exists"):
        await chats.view.dispatch(chats.files.keeping(key, taken))
    with pytest.raises(Refused, match="no such file"):
        await chats.ask(key, question)
    await chats.files.sweep()
    assert not uploads.waiting_in(chats.view, key)
    with pytest.raises(BlobMissing):
        async with chats.files.read(key, file):
            pass
