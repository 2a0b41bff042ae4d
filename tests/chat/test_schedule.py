"""Questions that the server asks by itself at a certain time: once, on whatever node, also after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec.structs import replace

from statestream import Identity, Refused, Store
from statestream.chat import Chat, ModelSettings, Question
from statestream.chat.models.demo import DemoModel
from statestream.core.errors import NotFound
from tests.support import ROOT, Server, eventually
from tests.support.chats import invite, new_chat, read_chat, read_until, text_of
from tests.support.moved_clock import move
from tests.support.provider import asked, open_gate, script

SCHEDULED = f"{ROOT / 'tests/apps/scheduled.py'}:app"
HOUR = 3_600
ANN = {"Authorization": "Bearer ann"}
Http = aiohttp.ClientSession


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return tmp_path / "ahead"


@pytest.fixture
def started(upstream: str, tmp_path: Path, clock: Path) -> Iterator[Callable[[], Server]]:
    """Starts servers that share a journal and a clock."""
    running: list[Server] = []

    def start() -> Server:
        env = {"UPSTREAM": f"{upstream}/v1", "AHEAD": str(clock), "JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}"}
        running.append(Server.serving(SCHEDULED, env=env).start())
        return running[-1]

    yield start
    for server in running:
        if server.process and server.process.poll() is None:
            server.stop()


async def schedule(http: Http, server: Server, chat: str, id: str, text: str, seconds: int, by: str = "ann") -> None:
    body = {"id": id, "text": text, "seconds": seconds, "by": by}
    async with http.post(f"{server.url}/schedule/{chat}", json=body) as response:
        assert response.status == 200, await response.text()
        assert await response.json() == {"id": id}


async def ids(http: Http, server: Server, chat: str) -> list[str]:
    async with http.get(f"{server.url}/schedule/{chat}") as response:
        return [each["id"] for each in await response.json()]


async def answered(http: Http, server: Server, chat: str, count: int) -> list[Any]:
    """The messages, once there are so many and all have ended."""

    async def over() -> Any:
        found = (await read_chat(http, server, chat))["messages"]
        return found if len(found) == count and found[-1]["status"] == "complete" else None

    messages: list[Any] = await eventually(over)
    return messages


async def test_a_scheduled_question_is_asked_once_in_its_time(
    started: Callable[[], Server], upstream: str, clock: Path
) -> None:
    one, two = started(), started()
    async with Http(headers=ANN) as http:
        chat = await new_chat(http, one)
        steps: tuple[Any, ...] = ({"say": "Good morning."}, {"finish": "stop"})
        texts = [await script(http, upstream, f"Scheduled: {name}?", *steps) for name in ("first", "second", "never")]
        for server in (one, two):  # as both do when they start
            for at, text in zip((1, 2, 2), texts, strict=True):
                await schedule(http, server, chat, text[11], text, at * HOUR)
        assert await ids(http, two, chat) == ["f", "s", "n"]
        async with http.delete(f"{two.url}/schedule/{chat}/n") as response:
            assert await response.json() == {"cancelled": True}
        async with http.delete(f"{one.url}/schedule/{chat}/n") as response:
            assert await response.json() == {"cancelled": False}
        assert (await read_chat(http, one, chat))["messages"] == []

        move(clock, HOUR)
        first = await answered(http, two, chat, 2)
        assert [message["id"] for message in first][:1] == ["f"]
        assert first[0]["author"] == "ann"
        await schedule(http, one, chat, "f", texts[0], 0)
        assert await ids(http, one, chat) == ["s"]

        one.kill()
        move(clock, 2 * HOUR)
        messages = await answered(http, two, chat, 4)
        assert [text_of(message) for message in messages] == [texts[0], "Good morning.", texts[1], "Good morning."]
        assert [len(await asked(http, upstream, text)) for text in texts] == [1, 1, 0]
        assert await ids(http, two, chat) == []


async def test_it_waits_for_a_reply_in_progress_and_is_not_asked_for_somebody_who_has_no_right(
    started: Callable[[], Server], upstream: str, clock: Path
) -> None:
    server = started()
    async with Http(headers=ANN) as http:
        chat = await new_chat(http, server)
        ends: Any = {"finish": "stop"}
        long = await script(http, upstream, "Scheduled: long?", {"say": "Well, "}, {"wait": "scheduled"}, ends)
        text = await script(http, upstream, "Scheduled: meanwhile?", {"say": "Now."}, ends)
        of_bob = await script(http, upstream, "Scheduled: of a stranger?", {"say": "No."}, ends)
        body = {"id": chat, "message": {"id": "q", "role": "user", "parts": [{"type": "text", "text": long}]}}
        response = await http.post(f"{server.url}/api/chat", json=body)
        await read_until(response, "Well")
        assert await invite(http, server, chat, "cyd") == 200
        await schedule(http, server, chat, "bob", of_bob, HOUR, by="bob")
        await schedule(http, server, chat, "cyd", of_bob, HOUR, by="cyd")
        async with http.post(f"{server.url}/revoke/cyd") as revoked:
            assert revoked.status == 200
        await schedule(http, server, chat, "later", text, HOUR + 1)
        move(clock, HOUR + 2)
        await open_gate(http, upstream, "scheduled")
        messages = await answered(http, server, chat, 4)
        assert [message["id"] for message in messages if message["role"] == "user"] == ["q", "later"]
        assert await asked(http, upstream, of_bob) == []
        assert await ids(http, server, chat) == []
        response.close()


async def test_what_cannot_be_scheduled_is_refused_at_once() -> None:
    assistant = Chat(titles=False)
    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        key = await conversations.create()
        with pytest.raises(ValueError, match="time zone"):
            await conversations.schedule.add(key, Question.text("?"), at=datetime(2030, 1, 1))  # noqa: DTZ001
        for question in (
            Question.text("?", settings=ModelSettings(temperature=0.5)),
            Question(parts=Question.text("?").parts, edits="1"),
        ):
            with pytest.raises(ValueError, match="cannot be scheduled"):
                await conversations.schedule.add(key, question, at=datetime.now(UTC))


async def test_a_question_of_a_person_and_a_scheduled_one_with_the_same_id_do_not_mix() -> None:
    """Otherwise, the words of one would be asked with the rights of the other."""
    assistant = Chat(model=DemoModel(), titles=False, while_busy="queue")
    ann, later = Identity(subject="ann"), datetime.now(UTC) + timedelta(hours=1)
    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        key = await conversations.create(user="ann")
        for id in ("one", "two"):
            await conversations.submit(key, replace(Question.text("Mine"), id=id, author="ann"), by=ann)
        with pytest.raises(Refused, match="another question"):
            await conversations.schedule.add(key, replace(Question.text("Ours"), id="two"), at=later)
        await conversations.schedule.add(key, replace(Question.text("Ours"), id="three"), at=later)
        with pytest.raises(Refused, match="another question"):
            await conversations.submit(key, replace(Question.text("Mine"), id="three", author="ann"), by=ann)
        assert [each["id"] for each in store.get(f"chat/{key}")["queued"]] == ["two"]
        assert [(each.id, each.text) for each in await conversations.schedule.of(key)] == [("three", "Ours")]


async def test_nothing_begins_in_a_chat_that_is_being_deleted() -> None:
    assistant = Chat(model=DemoModel(), titles=False)
    ann = Identity(subject="ann")

    async def content() -> AsyncIterator[bytes]:
        yield b"picture"

    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        key = await conversations.create(user="ann")
        deleting = asyncio.create_task(conversations.people.delete(key, by=ann))
        with pytest.raises(NotFound):
            await conversations.schedule.add(key, Question.text("Later"), at=datetime(2100, 1, 1, tzinfo=UTC))
        await deleting
        with pytest.raises(Refused, match="deleted"):
            await conversations.files.upload(key, content(), media_type="image/png")
        assert await store.read(f"chat_later/{key}") is None
        assert await store.read(f"chat_uploads/{key}") is None
