"""A chat with agents that work with each other and continue what was cut off. People have names (see `by_name`)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator

from statestream import Refused, Store, create_app
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Data, HandOver, Status, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.messages import text_of
from statestream.chat.models import ModelFailed, Reasoning, Usage
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


@chat.agent
async def editor(task: Task, context: Context) -> Pieces:
    """Has others work for it, in the way that it is asked to."""
    yield "I ask. "
    if task.text == "both":
        found = await asyncio.gather(context.run("writer", "slow"), context.run("writer", "quick"))
        yield f"They say: {found}."
    elif task.text == "caught":
        try:
            await context.run("writer", "fail")
        except Refused as refused:
            yield f"{refused.reason}: {refused.sentence}"
    elif task.text == "late":
        try:
            async with asyncio.timeout(0.2):
                await context.run("writer", "forever")
        except TimeoutError:
            yield "Too late."
    elif task.text == "left alone":
        context.alone = asyncio.create_task(context.run("writer", "forever"))  # type: ignore[attr-defined]
        await asyncio.sleep(0.1)
        yield "I do not wait."
    else:
        said = await context.run("writer", task.text)
        yield f"It says: {said}"


@chat.agent(internal=True)
async def writer(task: Task, context: Context) -> Pieces:
    """Works for others."""
    if task.text == "fail":
        yield "I try. "
        raise ModelFailed("overloaded", "The model is too busy.")
    if task.text == "bug":
        raise RuntimeError("canary")
    if task.text == "approve":
        yield ToolUse(id="1", name="print", approval=True)
    if task.text == "hand over":
        yield HandOver(agent="billing")
    if task.text == "silence":
        yield Status(text="Silent")
        return
    if task.text == "deep":
        yield await context.run("writer", "deep")
    yield Reasoning(text=f"{task.text}? ")
    yield "A "
    if task.text == "forever":
        await asyncio.sleep(3600)
    if task.text == "slow":
        await asyncio.sleep(0.1)
    yield "draft. "
    yield ToolUse(id="1", name="look", arguments={})
    yield ToolResult(id="1", result=[turn.text for turn in task.turns])
    await context.store("drafts", context.stored.get("drafts", 0) + 1)
    yield f"Final {task.text} {context.identity.subject if context.identity else ''}"
    yield Usage(input=1, output=2)


@chat.agent
async def teller(task: Task, context: Context) -> Pieces:
    """Tells what passes, and waits to be stopped."""
    yield Data(name="progress", data=1, id="p")
    yield Data(name="hint", data="early", transient=True)
    yield "I wait. "
    if task.text == "wait":
        await asyncio.sleep(3600)
    for number in range(20):
        yield Data(name="hint", data=number, transient=True)
        yield Data(name="progress", data=number, id="p")
    if task.text == "bad id":
        yield Data(name="x", data=1, id="")


store = Store(chat.slices, journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth)
chat.setup(app)
