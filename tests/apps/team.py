"""A chat with agents that work with each other and continue what was cut off. People have names (see `by_name`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from statestream import Store, create_app
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, HandOver, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.messages import text_of
from tests.apps.by_name import auth

Pieces = AsyncGenerator[AgentPiece, None]

chat = Chat(titles=False)


@chat.agent
async def counter(task: Task, context: Context) -> Pieces:
    """Counts to two, and to four if it is to continue."""
    if task.continues is None:
        yield "1 "
        yield "2 "
        await asyncio.sleep(3600)
    else:
        roles = " ".join(turn.role for turn in task.turns)
        yield f"3 4 (after ‘{text_of(task.continues)}’, {task.continues['status']}; {roles})"


@chat.agent
async def triage(task: Task, context: Context) -> Pieces:
    """Hands over, in the way that it is asked to."""
    if task.text == "nowhere":
        yield HandOver(agent="biling")
    if task.text == "in circles":
        yield HandOver(agent="ping")
    if task.text == "too early":
        yield ToolUse(id="1", name="refund", approval=True)
        yield HandOver(agent="billing")
    if task.text != "silently":
        yield "Let me see. "
        yield ToolUse(id="1", name="look")
        yield ToolResult(id="1", result="an invoice")
    yield HandOver(agent="billing", note="They ask for an invoice.")
    raise AssertionError("nothing runs after a hand-over")


@chat.agent
async def billing(task: Task, context: Context) -> Pieces:
    """Says what it has got, asks for approval if it should, and may be stopped."""
    if task.decided:
        yield f"{sorted(task.decided)} {_told(task)}"
        return
    said = "" if task.continues is None else f" after ‘{text_of(task.continues)}’"
    yield f"Billing{said}: {_told(task)}"
    if task.text == "approve":
        yield ToolUse(id="2", name="refund", approval=True)
    if task.text == "wait" and task.continues is None:
        await asyncio.sleep(3600)


def _told(task: Task) -> str:
    by = "nobody" if task.handed_over is None else f"{task.handed_over.by} ({task.handed_over.note})"
    return f"{by}, {[(turn.role, turn.text) for turn in task.turns]}"


@chat.agent
async def ping(task: Task, context: Context) -> Pieces:
    """Hands over to pong."""
    yield HandOver(agent="pong")


@chat.agent
async def pong(task: Task, context: Context) -> Pieces:
    """Hands over to ping."""
    yield HandOver(agent="ping")


store = Store(chat.slices, journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth)
chat.setup(app)
