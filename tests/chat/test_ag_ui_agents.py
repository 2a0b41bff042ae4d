"""Agents that speak AG-UI: their events come out of the chat as events of the same kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from statestream.chat.agents import Data, Status, ToolUse, ag_ui
from statestream.chat.models import ModelFailed, Usage
from tests.support import ROOT, Server
from tests.support.ag_ui_client import Client, Node

APP = f"{ROOT / 'tests/apps/sharing.py'}:app"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving(APP) as running:
        yield running


async def test_what_an_agent_of_ag_ui_does_reaches_clients_of_ag_ui(node: Node, server: Server) -> None:
    client = await Client(node, server, "planned").open()
    props = {"agent": "planner"}
    seen = await (await client.start("Plan!", id="q1", props=props)).done()
    assert seen.failure is None
    [plan] = [message for message in seen.messages if message["role"] == "activity"]
    assert (plan["activityType"], plan["content"]) == ("data-plan", {"steps": ["one", "two"]})
    [found] = [message["content"] for message in seen.messages if message["role"] == "tool"]
    assert found == '{"found":2}'
    [pending] = seen.last["outcome"]["pendingToolCallIds"]
    answer = {"id": "t1", "role": "tool", "toolCallId": pending, "content": "2"}
    await node.ask("add", name=client.name, message=answer)
    seen = await (await client.start(run="run2")).done()
    assert seen.messages[-1]["content"] == "Picked 2."


async def made(*events: Any) -> list[Any]:
    async def run() -> AsyncIterator[Any]:
        for event in events:
            yield event

    return [piece async for piece in ag_ui.pieces(run())]


CALL = {"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "pay"}


async def test_an_interrupt_for_a_call_asks_for_approval_and_any_other_is_an_error() -> None:
    interrupt = {"id": "i1", "reason": "tool_call", "toolCallId": "c1"}
    finished = {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [interrupt]}}
    usage = {"usage": [{"inputTokens": 3, "outputTokens": 4}]}
    pieces = await made(CALL, finished | usage)
    assert ToolUse(id="c1", name="pay", approval=True) in pieces
    assert Usage(input=3, output=4) in pieces
    with pytest.raises(ModelFailed, match="nobody can give here"):
        await made(finished)


async def test_custom_events_and_steps_pass() -> None:
    custom = {"type": "CUSTOM", "name": "my progress", "value": {"done": 1}}
    steps = [{"type": f"STEP_{what}", "stepName": "Planning"} for what in ("STARTED", "FINISHED")]
    told = Data(name="my_progress", data={"done": 1}, transient=True)
    assert await made(steps[0], custom, steps[1]) == [Status(text="Planning"), told, Status(text="")]


async def test_an_error_ends_the_run_and_what_a_reply_cannot_hold_is_left_out() -> None:
    unknown = [{"type": each} for each in ("RUN_STARTED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RAW", "NEW_IN_2_0")]
    assert await made(*unknown) == []
    with pytest.raises(ModelFailed, match="No more credit") as failed:
        await made({"type": "RUN_ERROR", "message": "No more credit.", "code": "no credit"})
    assert failed.value.kind == "no_credit"
