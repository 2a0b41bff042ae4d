"""Agents whose tools run in windows: of their own, and those that an AG-UI client declares."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest

from statestream import Store
from statestream.chat import Chat, Question, ToolAnswer
from statestream.chat.agents import AgentPiece, Task, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models import ToolSpec
from tests.support import Server, eventually
from tests.support.chats import ended, received
from tests.support.provider import asked, script

LOCATE = ToolSpec(name="locate", description="Where the person is.", parameters={"type": "object"})
PICK = {
    "name": "pick_color",
    "description": "Lets the person pick a color.",
    "parameters": {"type": "object", "properties": {"of": {"type": "array", "items": {"type": "string"}}}},
}


async def test_an_agent_lets_a_window_run_a_call_and_gets_the_result() -> None:
    guide = Chat(titles=False)
    seen: list[Any] = []

    @guide.agent
    async def guiding(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
        seen.append((task.tools, dict(task.answered), context.tools))
        if "where" not in task.answered:
            yield "Let me see. "
            yield ToolUse(id="where", name="locate", arguments={"precision": "city"}, frontend=True)
            yield ToolUse(id="when", name="now", frontend=True)
            return
        where, when = task.answered["where"], task.answered["when"]
        yield f"You are in {where.result}, {when.error}."

    async with Store(guide.slices) as store, guide.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question(parts=[{"type": "text", "text": "Where am I?"}], tools=[LOCATE]))

        def last() -> Any:
            return store.get(f"chat/{key}")["messages"][-1]

        await eventually(lambda: last()["status"] == "waiting")
        offers = [part["offer"]["id"] for part in last()["parts"][1:]]
        await chats.calls.settle(key, answers=[ToolAnswer(id=offers[0], result="Ulm")])
        assert last()["status"] == "waiting"
        await chats.calls.settle(key, answers=[ToolAnswer(id=offers[1], error="who knows when")])
        await eventually(lambda: last()["status"] == "complete")
        assert last()["parts"][-1]["text"] == "You are in Ulm, who knows when."
        assert [part["status"] for part in last()["parts"][1:3]] == ["complete", "error"]
    assert [list(tools) for tools, _, _ in seen] == [[LOCATE], [LOCATE]]
    assert [list(tools) for _, _, tools in seen] == [[LOCATE], [LOCATE]]
    assert [sorted(answers) for _, answers, _ in seen] == [[], ["when", "where"]]


async def test_a_call_needs_approval_or_a_window() -> None:
    wrong = Chat(titles=False)

    @wrong.agent
    async def both(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
        yield ToolUse(id="1", name="locate", approval=True, frontend=True)

    async with Store(wrong.slices) as store, wrong.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("Where am I?"))
        await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["status"] == "error")


# frameworks


def called(*calls: tuple[str, dict[str, Any]], step: int = 0) -> list[Any]:
    made = [
        {"call": {"index": index, "id": f"call_{step}_{index}", "name": name, "arguments": json.dumps(arguments)}}
        for index, (name, arguments) in enumerate(calls)
    ]
    return [*made, {"finish": "tool_calls"}]


async def run(http: Any, adapted: Server, chat: str, question: str) -> Any:
    """Asks as an AG-UI client that declares a tool. Returns the reply, which waits."""
    message = {"id": "q1", "role": "user", "content": question}
    body = {"threadId": chat, "runId": "run1", "protocolVersion": "1.0", "messages": [message], "tools": [PICK]}
    async with http.post(f"{adapted.url}/ag-ui", json=body) as response:
        assert response.status == 200, await response.text()
        assert '"pendingToolCallIds"' in (await received(response)).text
    reply = await ended(http, adapted, chat)
    assert reply["status"] == "waiting", reply
    return reply


async def answer(http: Any, adapted: Server, chat: str, reply: Any, **outcome: Any) -> Any:
    [part] = [part for part in reply["parts"] if part.get("status") == "waiting"]
    body = {"results": [{"id": part["offer"]["id"], **outcome}]}
    async with http.post(f"{adapted.url}/api/chats/{chat}/results", json=body) as response:
        assert response.status == 200, await response.text()
    return await ended(http, adapted, chat)


@pytest.mark.parametrize("outcome", [{"result": {"hex": "#00f"}}, {"error": "The person has closed the dialog."}])
async def test_a_framework_calls_a_tool_of_the_client(
    adapted: Server, upstream: str, adapter: str, outcome: dict[str, Any]
) -> None:
    async with ann() as http:
        [kind] = outcome
        question = f"Which color, {adapter}? ({kind})"
        await script(http, upstream, question, *called(("pick_color", {"of": ["red", "blue"]})))
        await script(http, upstream, f"{question}+", *called(("pick_color", {}), step=1))
        await script(http, upstream, f"{question}++", {"say": "Blue."}, {"finish": "stop"})
        reply = await run(http, adapted, f"color-{kind}", question)
        [part] = reply["parts"]
        assert (part["name"], json.loads(part["arguments"])) == ("pick_color", {"of": ["red", "blue"]})
        reply = await answer(http, adapted, f"color-{kind}", reply, **outcome)
        assert reply["status"] == "waiting", "it calls the tool again"
        reply = await answer(http, adapted, f"color-{kind}", reply, result="blue")
        assert reply["status"] == "complete", reply
        assert [part["type"] for part in reply["parts"]] == ["tool", "tool", "text"]
        assert reply["parts"][0][kind] == outcome[kind]
        assert reply["parts"][2]["text"] == "Blue."
        request = (await asked(http, upstream, question))[-1]["body"]
        assert "pick_color" in [tool["function"]["name"] for tool in request["tools"]]
        told = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        assert ("#00f" if kind == "result" else "closed the dialog") in told[0]


async def test_a_tool_of_the_client_beside_one_of_the_agent(adapted: Server, upstream: str, adapter: str) -> None:
    async with ann() as http:
        question = f"Order in which color, {adapter}?"
        calls = called(("order", {"what": "lamp"}), ("pick_color", {}))
        await script(http, upstream, question, *calls)
        await script(http, upstream, f"{question}+", {"say": "Done."}, {"finish": "stop"})
        reply = await run(http, adapted, "beside", question)
        reply = await answer(http, adapted, "beside", reply, result="blue")
        assert reply["status"] == "complete", reply
        parts = {part["name"]: part for part in reply["parts"] if part["type"] == "tool"}
        assert (parts["pick_color"]["result"], "lamp" in parts["order"]["result"]) == ("blue", True)
        assert reply["parts"][-1]["text"] == "Done."


def ann() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": "Bearer ann"})
