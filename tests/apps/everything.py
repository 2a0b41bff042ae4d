"""Two chats whose replies have everything that a reply can have, in small pieces: /model and /agent.

Below /model, a model thinks, writes, and calls tools with arguments in pieces. One of them fails, people must approve
one, and one runs in a window. Below /agent, an agent does the same with tools of its own, data, sources and a status. A
question that begins with "fail" fails on the way. `PACE` is the time between two pieces, in seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from aiohttp import web

from statestream import Refused, Store, create_app
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Data, Source, Status, Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, ToolSpec, Turn, Usage

PACE = float(os.environ.get("PACE", "0.02"))
WORDS = ("größer ", "👩‍👩‍👧", " 𝒜𝔰𝔱𝔯𝔞𝔩", "\n\n", '"quoted" \\ ', "Łódź. ", "e\u0301", "🏳️‍🌈 ", "日本語", " \u2028 ")
WORDS += ("data: x\n\n",)


def words(start: int, count: int) -> Iterator[str]:
    return (WORDS[(start + number) % len(WORDS)] for number in range(count))


def pieces_of(call: str, name: str, arguments: str, index: int, size: int = 7) -> Iterator[CallPiece]:
    for at in range(0, len(arguments), size):
        named = {"id": call, "name": name} if at == 0 else {}
        yield CallPiece(index=index, arguments=arguments[at : at + size], **named)


class Scripted:
    """A model that goes through four steps with each question."""

    name = "scripted"

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        question = max(index for index, turn in enumerate(turns) if turn.role == "user")
        steps = sum(bool(turn.calls) for turn in turns[question:])
        for piece in self._step(steps, fails=turns[question].text.startswith("fail")):
            yield piece
            await asyncio.sleep(PACE)

    def _step(self, step: int, *, fails: bool) -> Iterator[Piece]:
        if step == 0:
            yield from (Reasoning(text=word) for word in words(0, 5))
            yield from words(3, 8)
            first = list(pieces_of("call_1", "weather", '{"city": "Łódź 🏳️‍🌈"}', 0))
            second = list(pieces_of("call_2", "weather", '{"city": "Atlantis"}', 1))
            for pair in zip_longest(first, second):
                yield from (piece for piece in pair if piece is not None)
        elif step == 1:
            yield from words(5, 6)
            if fails:
                raise ModelFailed("failed", "The provider is out of order.")
            yield from pieces_of("call_3", "order", '{"book": "𝒜𝔰𝔱𝔯𝔞𝔩"}', 0)
            yield from pieces_of("call_4", "weather", '{"city": "Ulm"}', 1)
        elif step == 2:
            yield from (Reasoning(text=word) for word in words(1, 3))
            yield from words(2, 5)
            yield from pieces_of("call_5", "locate", '{"precision": "street"}', 0)
        else:
            yield from words(0, 40)
        yield Usage(input=10, output=20, reasoning=3)
        yield Finish(reason="tool_calls" if step < 3 else "stop")

    async def close(self) -> None:
        pass


modelled = Chat(model=Scripted(), titles=False)


@modelled.tool
async def weather(city: str) -> dict[str, Any]:
    """The weather in a city."""
    await asyncio.sleep(PACE if city == "Ulm" else 2 * PACE)
    if city == "Atlantis":
        raise Refused("no_city", "There is no weather in Atlantis.")
    return {"city": city, "celsius": [20, 21]}


@modelled.tool(approval=True)
def order(book: str) -> str:
    """Orders a book."""
    return f"ordered {book}"


@modelled.tool(frontend=True)
def locate(precision: str = "city") -> dict[str, float]:
    """Where the person is."""
    raise AssertionError("a window runs it")


made = Chat(titles=False)


@made.agent
async def everything(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    """Does everything that an agent can do."""
    for piece in _before(task) if "buy" not in task.decided else _after(task):
        yield piece
        await asyncio.sleep(PACE)


def _before(task: Task) -> Iterator[AgentPiece]:
    yield Status(text="Looking 👀")
    yield from (Reasoning(text=word) for word in words(0, 4))
    yield from words(1, 6)
    yield ToolUse(id="look", name="look", arguments={"at": "größer 👩‍👩‍👧"})
    yield ToolUse(id="other", name="other")
    yield Data(name="progress", data={"done": 0.5, "of": None})
    yield ToolResult(id="other", error="The stock is closed.")
    yield ToolResult(id="look", result=[{"order": 7, "name": "𝒜"}])
    yield Source(url="https://example.org/7", title="Order 7")
    yield from words(4, 6)
    if task.text.startswith("fail"):
        raise ModelFailed("failed", "The agent is out of order.")
    yield from pieces_of("parts", "parts", '{"of": "🏳️‍🌈 in pieces"}', 0)
    yield ToolResult(id="parts", result="none")
    yield Status(text="Writing")
    yield Data(name="orders", data=[7])
    yield from words(0, 5)
    yield ToolUse(id="buy", name="buy", arguments={"book": 7}, approval=True)


def _after(task: Task) -> Iterator[AgentPiece]:
    decided = task.decided["buy"]
    if decided.approved:
        yield ToolResult(id="buy", result={"bought": decided.arguments["book"]})
    yield from words(6, 40)
    yield Source(url="https://example.org/")
    yield Usage(input=3, output=4)


def _app(chat: Chat) -> web.Application:
    app = create_app(Store(chat.slices))
    chat.setup(app)
    return app


app = web.Application()
app.add_subapp("/model", _app(modelled))
app.add_subapp("/agent", _app(made))
