"""A chat with agents of every kind, on a server that authenticates (see `by_name`)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from aiohttp import web

from statestream import Identity, Refused, Slice, Store, create_app
from statestream.auth import role, signed_in
from statestream.chat import Chat, Question
from statestream.chat.agents import AgentPiece, Data, Source, Status, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Usage
from statestream.core.errors import Forbidden, Malformed, UnknownAction, UnknownSlice
from tests.apps.by_name import auth

Pieces = AsyncGenerator[AgentPiece, None]

orders = Slice("orders", initial={"open": ["a book"], "asked": []}, read=signed_in, dispatch=signed_in)
secrets = Slice("secrets", initial={"text": "nobody may know"}, read=role("boss"), dispatch=role("boss"))
closed = Slice("closed", initial={"text": "without a rule"})
trace = Slice("trace", initial={"left": 0, "runs": 0}, read=signed_in, dispatch=signed_in)


@orders.action
def looked_at(state: Any, *, by: str) -> None:
    state["asked"].append(by)


@secrets.action
def told(state: Any, *, text: str) -> None:
    state["text"] = text


@trace.action
def left(state: Any) -> None:
    state["left"] += 1


@trace.action
def ran(state: Any) -> None:
    state["runs"] += 1


chat = Chat()


@chat.agent
async def clerk(task: Task, context: Context) -> Pieces:
    """Looks at the orders."""
    await context.dispatch(ran())
    yield Status(text="Looking at your orders")
    yield Reasoning(text="Which ones?")
    yield ToolUse(id="1", name="orders", arguments={"about": task.text})
    found = await context.get("orders")
    yield ToolResult(id="1", result=found["open"])
    assert context.identity is not None
    await context.dispatch(looked_at(by=context.identity.subject))
    yield Source(url="https://example.org/orders", title="Your orders")
    yield Data(name="orders", data={"count": len(found["open"])})
    yield f"{context.identity.subject} has {len(found['open'])} order after {len(task.messages)} messages."
    yield Usage(input=3, output=4)


@chat.agent
async def spy(task: Task, context: Context) -> Pieces:
    """Tries what the person who asks may not do."""
    try:
        yield f"It says: {(await context.get('secrets'))['text']}. "
    except UnknownSlice:
        yield "There are no secrets. "
    for name in ("closed", "chat_nodes/1", "agent_storage/spied", "secrets,orders", "chat/*"):
        try:
            yield f"I see {await context.get(name)}. "
        except (UnknownSlice, Malformed):
            yield ""
    try:
        await context.dispatch(told(text="mine"))
        yield "I changed it."
    except (Forbidden, UnknownAction):
        yield "I may not change it."


@chat.agent
async def troubled(task: Task, context: Context) -> Pieces:
    """Fails in the way that it is asked to."""
    if task.text != "silence":
        yield "As far as "
    if task.text == "bug":
        raise RuntimeError("canary")
    if task.text == "refuse":
        raise Refused("out_of_stock", "The book is out of stock.")
    if task.text == "fail":
        raise ModelFailed("overloaded", "The model is too busy.")
    if task.text == "nonsense":
        yield 7  # type: ignore[misc]  # that is what is tried
    if task.text == "unknown call":
        yield ToolResult(id="nowhere")
    if task.text == "bad data":
        yield Data(name="x/y", data=1)
    if task.text == "bad source":
        yield Source(url="javascript:alert(1)")
    if task.text == "not JSON":
        yield Data(name="x", data=object())
    if task.text == "endless":
        for number in range(10_000):
            yield ToolUse(id=str(number), name="look")
            yield ToolResult(id=str(number), result="x" * 10_000)
    if task.text == "restless":
        for number in range(100_000):
            yield Status(text=str(number))
    if task.text == "short":
        yield Finish(reason="length")
    if task.text == "bad result":
        yield ToolUse(id="1", name="look")
        yield ToolResult(id="1", result=object())
        yield "it got."


@chat.agent
async def stubborn(task: Task, context: Context) -> Pieces:
    """Does not end when it is cancelled, and tries what ends a process."""
    if task.text == "exit":
        yield "Bye."
        sys.exit(3)
    if task.text == "timeout of its own":
        yield "I wait. "
        raise TimeoutError("canary")
    if task.text == "cancelled elsewhere":
        yield "I wait. "
        other = asyncio.ensure_future(asyncio.sleep(3600))
        other.cancel()
        await other
    yield "I stay. "
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if task.text == "and talk":
                yield "Still here. "


@chat.agent
async def relay(task: Task, context: Context) -> Pieces:
    """Passes on what a model answers, and runs its tools."""
    async for piece in context.answer(Cut(task.text), task.turns):
        yield piece
    yield ToolResult(id="a", result=1)
    yield Data(name="between", data=None)
    yield ToolResult(id="b", result=2)
    if task.text == "twice":
        yield ToolResult(id="b", result=3)
    yield "Done."


class Cut:
    """A model that calls two tools, and may be cut short."""

    name = "cut"

    def __init__(self, text: str) -> None:
        self._text = text

    async def answer(self, turns: Any, tools: Any, settings: Any) -> AsyncIterator[Piece]:
        yield CallPiece(index=0, id="a", name="first", arguments="{}")
        yield CallPiece(index=1, id="b", name="second", arguments="{}", opaque="canary")
        if self._text != "cut":
            yield Finish(reason="tool_calls")

    async def close(self) -> None:
        pass


@chat.agent
async def buyer(task: Task, context: Context) -> Pieces:
    """Stores what it has done, and waits to be killed; the next run continues."""
    if task.text == "too much":
        await context.store("much", "x" * 1_000_001)
    if task.text == "again":
        yield f"I have {dict(context.stored)}."
        await context.store("tries", context.stored.get("tries", 0) + 1)
        return
    if "order" in context.stored:
        yield f"Order {context.stored['order']['id']} is placed."
        return
    await asyncio.gather(context.store("order", {"id": 7}), context.store("other", 1))
    yield f"I placed it, and have {sorted(context.stored)}."
    await asyncio.sleep(3600)


@chat.agent
async def patient(task: Task, context: Context) -> Pieces:
    """Says a little more again and again, and notes when it is stopped."""
    try:
        yield Status(text="Waiting")
        yield "I wait"
        while True:
            await asyncio.sleep(0.02)
            yield "."
    finally:
        await context.dispatch(left())


store = Store([orders, secrets, trace, closed, *chat.slices], journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth, inspect=role("operator"))
conversations = chat.setup(app)


async def nightly(request: web.Request) -> web.Response:
    """What a timer of the application would do."""
    who = request.match_info["who"]
    question = Question.text("my orders", author=who)
    reply = await conversations.ask(f"nightly-{who}", question, create=True, by=Identity(subject=who))
    return web.json_response({"reply": reply})


app.router.add_post("/nightly/{who}", nightly)
