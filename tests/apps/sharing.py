"""Slices that AG-UI clients may set (`board`, `note/<key>`) or not (`count`), and an agent that reads them.

With AUTH, people have names (see `by_name`), and only editors may change the board. The agent says what it finds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

from ag_ui import core
from typing_extensions import TypedDict

from statestream import Refused, Slice, Store, create_app
from statestream.auth import role, signed_in
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Task, ag_ui
from statestream.chat.agents.context import Context
from tests.apps.by_name import auth

NAMED = bool(os.environ.get("AUTH"))
RULES: dict[str, Any] = {"read": signed_in, "dispatch": signed_in} if NAMED else {}
EDITORS: dict[str, Any] = {"read": signed_in, "dispatch": role("editor")} if NAMED else {}


class Board(TypedDict):
    tasks: list[str]
    weight: float


board = Slice("board", initial={"tasks": [], "weight": 1.0}, type=Board, **EDITORS)
note = Slice("note", initial={"text": ""}, keyed=True, **RULES)
count = Slice("count", initial={"n": 0}, **RULES)
chat = Chat(titles=False)


@chat.shared_state
@board.action
def replaced(state: Board, *, value: Board) -> Board:
    if len(value["tasks"]) > 5:
        raise Refused("full", "A board has at most five tasks.")
    return value


@board.action
def cleared(state: Board) -> None:
    state["tasks"] = []


@chat.shared_state
@note.action
def written(state: Any, *, value: dict[str, str]) -> Any:
    return value


@count.action
def counted(state: Any) -> None:
    state["n"] += 1


@chat.agent
async def reader(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    """Says what is on the board."""
    yield f"Tasks: {', '.join((await context.get('board'))['tasks']) or 'none'}."


async def planned(task: Task) -> AsyncGenerator[Any, None]:
    """The run of an agent that speaks AG-UI."""
    made = {"role": "assistant", "message_id": "a1"}
    yield core.RunStartedEvent(thread_id=task.chat, run_id="theirs")
    yield core.StepStartedEvent(step_name="Planning")
    if "c1" not in task.answered:
        yield core.TextMessageStartEvent(**made)
        yield core.TextMessageContentEvent(message_id="a1", delta="A plan. ")
        yield core.TextMessageEndEvent(message_id="a1")
        yield core.ActivitySnapshotEvent(message_id="p1", activity_type="plan", content={"steps": ["one"]})
        yield {"type": "ACTIVITY_DELTA", "messageId": "p1", "activityType": "plan", "patch": ADD_TWO}
        yield core.CustomEvent(name="progress", value=0.5)
        yield core.ToolCallStartEvent(tool_call_id="c0", tool_call_name="look")
        yield core.ToolCallEndEvent(tool_call_id="c0")
        yield core.ToolCallResultEvent(message_id="t0", tool_call_id="c0", content='{"found": 2}')
        yield core.ToolCallStartEvent(tool_call_id="c1", tool_call_name="pick")
        yield core.ToolCallArgsEvent(tool_call_id="c1", delta='{"of": ')
        yield core.ToolCallArgsEvent(tool_call_id="c1", delta="2}")
        yield core.ToolCallEndEvent(tool_call_id="c1")
    else:
        yield {"type": "TEXT_MESSAGE_CHUNK", "messageId": "a2", "delta": f"Picked {task.answered['c1'].result}."}
    yield core.StepFinishedEvent(step_name="Planning")
    yield core.RunFinishedEvent(thread_id=task.chat, run_id="theirs")


ADD_TWO = [{"op": "add", "path": "/steps/-", "value": "two"}]


@chat.agent
async def planner(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in ag_ui.pieces(planned(task)):
        yield piece


app = create_app(Store([board, note, count, *chat.slices]), auth=auth if NAMED else None)
chat.setup(app)
