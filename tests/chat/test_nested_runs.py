"""Agents that work for other agents: what people see of that, what is said, and how a nested run ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiohttp
import pytest

from statestream import Store
from statestream.chat import Chat, Question
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from statestream.chat.messages import find, text_of
from statestream.chat.models import CallPiece, Finish, Piece, ToolSpec, Turn
from tests.support import Server, eventually
from tests.support.chats import ended, read_chat, received, ui_question, ui_reply

Http = aiohttp.ClientSession


async def ask(http: Http, team: Server, text: str) -> Any:
    return await ui_reply(http, team, ui_question(text.replace(" ", "-"), text, agent="editor"))


async def test_the_work_of_another_agent_is_shown_and_its_final_text_is_the_result(ann: Http, team: Server) -> None:
    reply = await ask(ann, team, "a poem")
    run = reply["parts"][1]
    assert run == {
        "type": "tool",
        "call": run["call"],
        "name": "writer",
        "arguments": '{"task":"a poem"}',
        "status": "complete",
        "result": "Final a poem ann",
    }
    nested = [part for part in reply["parts"] if part.get("of") == run["call"]]
    assert [(part["type"], part.get("text")) for part in nested] == [
        ("reasoning", "a poem? "),
        ("text", "A draft. "),
        ("tool", None),
        ("text", "Final a poem ann"),
    ]
    assert nested[2]["result"] == ["a poem"]
    assert text_of(reply) == "I ask. It says: Final a poem ann"
    assert reply["parts"][-1]["step"] == 1
    assert reply["usage"] == {"input": 1, "output": 2, "reasoning": 0, "cached": 0}


async def test_two_agents_work_at_the_same_time(ann: Http, team: Server) -> None:
    reply = await ask(ann, team, "both")
    assert text_of(reply) == "I ask. They say: ['Final slow ann', 'Final quick ann']."
    runs = [part for part in reply["parts"] if part.get("name") == "writer"]
    assert [run["result"] for run in runs] == ["Final slow ann", "Final quick ann"]


async def test_nested_text_is_no_text_of_the_reply_in_any_protocol(ann: Http, team: Server) -> None:
    reply = await ask(ann, team, "shown")
    said = "I ask. It says: Final shown ann"
    async with ann.get(f"{team.url}/api/chat/shown") as response:
        message = (await response.json())["messages"][-1]
    assert "".join(part["text"] for part in message["parts"] if part["type"] == "text") == said
    nested = [part for part in message["parts"] if "providerMetadata" in part]
    run = {"of": f"{reply['id']}:call-1", "agent": "writer"}
    assert [part["text"] for part in nested] == ["shown? ", "A draft. ", "Final shown ann"]
    assert all(part["type"] == "reasoning" for part in nested)
    assert all(part["providerMetadata"] == {"statestream": run} for part in nested)
    async with ann.post(f"{team.url}/ag-ui", json={"threadId": "shown", "runId": "r", "messages": []}) as response:
        text = (await received(response)).text
    assert '"role":"reasoning","content":"A draft. "' in text
    async with ann.ws_connect(f"{team.url}/ws?session_id=shown") as socket:
        await socket.receive_json()
        assert (await socket.receive_json())["content"] == said
    body = ui_question("plain", "plain", agent="editor")
    async with ann.post(f"{team.url}/api/chats", json={}) as response:
        chat = (await response.json())["id"]
    async with ann.post(f"{team.url}/api/chats/{chat}/stream", json=body) as response:
        assert (await received(response)).text == "I ask. It says: Final plain ann"


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("fail", "overloaded", "The model is too busy."),
        ("bug", "failed", "writer stopped with an error."),
        ("silence", "empty", "writer said nothing."),
        ("approve", "failed", "An agent that works for another one cannot wait for people or windows."),
        ("hand over", "failed", "An agent that works for another one cannot hand over."),
        ("deep", "too_deep", "At most 3 agents can work for each other, one within the other."),
    ],
)
async def test_a_nested_run_that_fails_ends_the_reply_unless_that_is_caught(
    ann: Http, team: Server, text: str, kind: str, sentence: str
) -> None:
    reply = await ask(ann, team, text)
    assert reply["error"] == {"kind": kind, "message": sentence}
    assert next(part["error"] for part in reply["parts"] if part.get("name") == "writer") == sentence


async def test_who_asked_for_a_nested_run_may_go_on_without_it(ann: Http, team: Server) -> None:
    assert text_of(await ask(ann, team, "caught")) == "I ask. overloaded: The model is too busy."
    late = await ask(ann, team, "late")
    assert (late["status"], text_of(late)) == ("complete", "I ask. Too late.")
    assert late["parts"][1]["error"] == "The run was stopped."


async def test_a_nested_run_ends_with_its_reply(ann: Http, team: Server) -> None:
    alone = await ask(ann, team, "left alone")
    assert (alone["status"], alone["parts"][1]["status"]) == ("complete", "error")
    async with ann.post(f"{team.url}/api/chat", json=ui_question("stopped", "forever", agent="editor")):

        async def works() -> Any:
            return len((await read_chat(ann, team, "stopped"))["messages"][-1]["parts"]) == 4

        assert await eventually(works)
        async with ann.post(f"{team.url}/api/chats/stopped/stop") as response:
            assert response.status == 200
    reply = await ended(ann, team, "stopped")
    assert (reply["status"], reply["parts"][1]["status"], reply["parts"][3]["text"]) == ("stopped", "error", "A ")


async def test_no_question_can_name_an_internal_agent(ann: Http, team: Server) -> None:
    async with ann.post(f"{team.url}/api/chat", json=ui_question("none", "x", agent="writer")) as response:
        assert response.status == 409
        assert (await response.text()).startswith("There is no agent writer here")


class Delegating:
    """A model that calls the tool `research`, and says what came of it."""

    name = "delegating"

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        if turns[-1].role == "tool":
            yield f"{[turn.text for turn in turns]}"
            yield Finish(reason="stop")
            return
        yield CallPiece(index=0, id="c1", name="research", arguments='{"about": "cats"}')
        yield Finish(reason="tool_calls")

    async def close(self) -> None:
        pass


async def test_a_tool_of_the_model_has_an_agent_work_for_it() -> None:
    chat = Chat(model=Delegating(), titles=False)

    @chat.tool
    async def research(about: str, context: Context) -> str:
        """Finds out about something."""
        return f"<{await context.run('researcher', about)}>"

    @chat.agent(internal=True)
    async def researcher(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        yield f"All about {task.text}"

    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()
        reply = await conversations.ask(key, Question.text("Cats?"))

        async def over() -> Any:
            message = find(await conversations.find(key), reply)
            return message if message["status"] != "streaming" else None

        message = await eventually(over)
        assert [(part["type"], part.get("of")) for part in message["parts"]] == [
            ("tool", None),
            ("tool", "c1"),
            ("text", message["parts"][1]["call"]),
            ("text", None),
        ]
        assert [part.get("step", 0) for part in message["parts"]] == [0, 1, 1, 1]
        assert message["parts"][0]["result"] == "<All about cats>"
        assert text_of(message) == "['Cats?', '', '<All about cats>']"


def test_an_internal_agent_is_declared_with_parentheses() -> None:
    with pytest.raises(TypeError, match="without parentheses"):
        Chat().agent()  # type: ignore[call-overload]


async def test_a_reply_does_not_wait_for_nested_runs_that_its_agent_has_left_behind() -> None:
    chat, begun, left = Chat(titles=False), asyncio.Event(), list[asyncio.Task[str]]()

    @chat.agent
    async def careless(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        left.append(asyncio.create_task(context.run("endless", "count")))
        yield "Done."
        await begun.wait()

    @chat.agent(internal=True)
    async def endless(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        while True:
            yield "1"
            begun.set()
            await asyncio.sleep(0)

    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()
        await conversations.ask(key, Question.text("?"))
        await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["status"] == "complete")
        with pytest.raises(asyncio.CancelledError):
            await left[0]


async def test_what_a_nested_run_says_may_contain_halves_of_characters() -> None:
    chat = Chat(titles=False)

    @chat.agent
    async def asks(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        yield await context.run("halves", "say")

    @chat.agent(internal=True)
    async def halves(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        for half in ("\ud83d", "\ude00", "\ud83d"):
            yield half

    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()
        await conversations.ask(key, Question.text("?"))
        await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["status"] == "complete")
        assert text_of(store.get(f"chat/{key}")["messages"][-1]) == "\U0001f600\ufffd"
