"""Data of agents that is replaced, and data that passes: who sees it, and what remains of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from statestream import Store
from statestream.chat import Chat, Question
from statestream.chat.agents import AgentPiece, Data, Task
from statestream.chat.agents.context import Context
from statestream.chat.messages import find
from statestream.chat.slices.conversation import chat_slice
from statestream.core.change import START
from statestream.core.selection import EVERYTHING
from statestream.journal import MemoryJournal, Retention
from statestream.journal.folding import Folding
from statestream.journal.history import History
from tests.support import Server, eventually
from tests.support.chats import ended, read_chat, read_until, received, ui_question

Http = aiohttp.ClientSession


def chunks(text: str, kind: str) -> list[Any]:
    found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    return [chunk for chunk in found if chunk["type"] == kind]


async def test_data_is_replaced_and_what_passes_is_in_no_message(ann: Http, team: Server) -> None:
    async with ann.post(f"{team.url}/api/chat", json=ui_question("all", "go", agent="teller")) as response:
        text = (await received(response)).text
    assert chunks(text, "data-hint")[0] == {"type": "data-hint", "data": "early", "transient": True}
    assert chunks(text, "data-hint")[-1]["data"] == 19
    assert chunks(text, "data-progress")[-1] == {"type": "data-progress", "id": "p", "data": 19}
    reply = await ended(ann, team, "all")
    assert reply["parts"] == [{"type": "data-progress", "id": "p", "data": 19}, {"type": "text", "text": "I wait. "}]
    assert "transient" not in reply["run"]
    assert reply["status"] == "complete"


async def test_a_client_that_returns_never_sees_what_has_passed(ann: Http, team: Server) -> None:
    async with ann.post(f"{team.url}/api/chat", json=ui_question("back", "wait", agent="teller")) as response:
        await read_until(response, "I wait. ")
    assert (await read_chat(ann, team, "back"))["messages"][-1]["run"]["transient"][0]["data"] == "early"
    async with ann.get(f"{team.url}/api/chat/back/stream") as response:
        await read_until(response, "I wait. ")
        async with ann.post(f"{team.url}/api/chats/back/stop") as stopped:
            assert stopped.status == 200
        assert "early" not in (await received(response)).text
    run = {"threadId": "back", "runId": "r", "messages": []}
    async with ann.post(f"{team.url}/ag-ui", json=run) as response:
        assert "early" not in (await received(response)).text
    assert "transient" not in (await ended(ann, team, "back"))["run"]


async def test_an_id_that_is_none_is_an_error(ann: Http, team: Server) -> None:
    async with ann.post(f"{team.url}/api/chat", json=ui_question("bad", "bad id", agent="teller")) as response:
        await received(response)
    assert (await ended(ann, team, "bad"))["error"]["kind"] == "failed"


async def test_what_has_passed_leaves_no_trace_in_a_folded_journal() -> None:
    chat, journal = Chat(titles=False), MemoryJournal(Retention(checkpoint=1_000, fold_after=0.0))

    @chat.agent
    async def teller(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        yield Data(name="hint", data="canary " * 200, transient=True)
        yield "Done."

    async with Store(chat.slices, journal=journal) as store, chat.conversations(store) as conversations:
        key = await conversations.create()
        reply = await conversations.ask(key, Question.text("?"))

        async def over() -> Any:
            return find(await conversations.find(key), reply)["status"] == "complete"

        assert await eventually(over)
        assert b"canary" in await everything(journal)
        history = History(journal)
        snapshot = await history.load()
        await history.save(snapshot.position, dict(snapshot.slices))
        folding = Folding(history)
        while await folding.fold(chat_slice.gradual):
            pass
        assert b"canary" not in await everything(journal)


async def everything(journal: MemoryJournal) -> bytes:
    """All that the journal has of changes."""
    changes = (await journal.read(START, 999, EVERYTHING)).changes
    return b"".join(change.data + change.cause.payload for change in changes)
