"""What replies cost, and how much they may use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream import Store
from statestream.chat import Budget, Chat, Price, Question
from statestream.chat.agents import Task, ToolResult, ToolUse
from statestream.chat.agents.context import Context
from statestream.chat.models import Finish, Piece, Usage
from statestream.chat.prices import Spending
from tests.support import Server, eventually
from tests.support.chats import chatty, new_chat, ui_question, ui_reply
from tests.support.provider import script

Http = aiohttp.ClientSession
PRICES = {"test-model": {"input": 1.0, "cached": 0.1, "output": 8.0}}
COST = (60 * 1.0 + 40 * 0.1 + 10 * 8.0) / 1_000_000
END = {"end": {"reason": "stop", "input": 100, "output": 10, "cached": 40, "reasoning": 0}}
CALLS = {"end": {"reason": "tool_calls", "input": 100, "output": 10, "cached": 40, "reasoning": 0}}


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream, prices=json.dumps(PRICES), budget='{"tokens": 250}') as running:
        yield running


def call(id: str) -> dict[str, Any]:
    return {"call": {"index": 0, "id": id, "name": "weather", "arguments": '{"city": "Rome"}'}}


async def test_a_reply_has_its_cost_beside_its_usage(server: Server, upstream: str) -> None:
    async with Http() as http:
        question = await script(http, upstream, "What does it cost?", call("a"), CALLS)
        await script(http, upstream, f"{question}+", {"say": "Little."}, END)
        chat = await new_chat(http, server)
        reply = await ui_reply(http, server, ui_question(chat, question))
        assert (reply["status"], reply["cost"]) == ("complete", pytest.approx(2 * COST))
        async with http.get(f"{server.url}/api/chat/{chat}") as response:
            assert (await response.json())["messages"][-1]["metadata"]["cost"] == reply["cost"]
        assert await server.metric(http, 'reply_cost_total{model="test-model"}') == pytest.approx(2 * COST)


async def test_a_reply_that_has_used_its_budget_ends_before_its_tools_run(server: Server, upstream: str) -> None:
    async with Http() as http:
        question = await script(http, upstream, "On and on?", call("a"), CALLS)
        for n in range(1, 5):
            await script(http, upstream, question + "+" * n, call(f"a{n}"), CALLS)
        chat = await new_chat(http, server)
        reply = await ui_reply(http, server, ui_question(chat, question))
        assert reply["error"] == {
            "kind": "budget",
            "message": "The reply has used more than its budget of 250 tokens.",
        }
        assert [part["status"] for part in reply["parts"]] == ["complete", "complete", "error"]
        assert reply["usage"]["input"] == 300
        assert reply["cost"] == pytest.approx(3 * COST)


async def test_an_agent_is_stopped_when_it_goes_on_and_models_that_it_asks_have_their_prices() -> None:
    class Small:
        name = "small"

        async def answer(self, turns: Sequence[Any], tools: Sequence[Any], settings: Any) -> AsyncIterator[Piece]:
            yield "A little. "
            yield Usage(input=1_000_000, output=0)
            yield Finish(reason="stop")

        async def close(self) -> None:
            """Nothing is open."""

    prices = {"small": Price(input=2, output=0), "spender": Price(input=3, output=0)}
    assistant = Chat(model=Small(), titles=False, prices=prices, budget=Budget(cost=6))

    @assistant.agent
    async def spender(task: Task, context: Context) -> AsyncIterator[Any]:
        async for piece in context.answer(Small(), task.turns):
            yield piece
        yield Usage(input=1_000_000, output=0)
        if task.text == "more":
            yield Usage(input=1_000_000, output=0)
            yield ToolUse(id="1", name="never")
            yield ToolResult(id="1")

    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        for text, status, cost in (("enough", "complete", 5.0), ("more", "error", 8.0)):
            key = await conversations.create()
            await conversations.ask(key, Question.text(text))

            async def over(key: str = key) -> Any:
                reply = (await store.read(f"chat/{key}"))["messages"][-1]
                return reply if reply["status"] != "streaming" else None

            reply = await eventually(over)
            assert (reply["status"], reply["cost"]) == (status, cost)
            assert len(reply["parts"]) == 1


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1)), max_size=9))
def test_costs_add_up_over_runs(used: list[tuple[int, int, float]]) -> None:
    price = Price(input=0.3, cached=0.03, output=1.7)
    usages = [Usage(input=fresh, output=output, cached=int(fresh * part)) for fresh, output, part in used]
    spending = Spending({"m": price}, Budget(tokens=10**9), "m")
    for usage in usages:
        spending.add(usage)
    assert (spending.cost or 0.0) == pytest.approx(sum(map(price.of, usages)), abs=1e-7)
    assert spending.exceeded is None
    tokens = sum(usage.input + usage.output for usage in usages)
    if tokens:
        assert Spending({}, Budget(tokens=tokens), "m", spending.usage).exceeded is None
    if tokens > 1:
        assert Spending({}, Budget(tokens=tokens - 1), "m", spending.usage).exceeded is not None
        assert Spending({}, Budget(cost=1.0), "m", {}, 1.0).exceeded is None
        assert Spending({}, Budget(cost=1.0), "m", {}, 1.001).exceeded is not None


def test_what_has_no_price_has_no_cost() -> None:
    spending = Spending({"other": Price(input=1, output=1)}, Budget(), "m")
    spending.add(Usage(input=5, output=5))
    assert (spending.cost, spending.usage["input"]) == (None, 5)


def test_what_is_no_price_and_no_budget_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="input"):
        Price(input=-1, output=0)
    with pytest.raises(ValueError, match="tokens"):
        Budget(tokens=0)
    with pytest.raises(TypeError, match="prices"):
        Chat(prices={"m": 3})  # type: ignore[dict-item]  # that is what is tried


async def test_agents_that_work_for_others_have_their_prices_and_use_the_same_budget() -> None:
    prices = {"helper": Price(input=1, output=0), "boss": Price(input=100, output=0)}
    assistant = Chat(titles=False, prices=prices, budget=Budget(cost=2.5))

    @assistant.agent
    async def boss(task: Task, context: Context) -> AsyncIterator[Any]:
        for n in range(int(task.text)):
            yield await context.run("helper", f"part {n}")

    @assistant.agent
    async def helper(task: Task, context: Context) -> AsyncIterator[Any]:
        yield Usage(input=1_000_000, output=0)
        yield f"{task.text}. "

    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        for count, end in (("2", "complete"), ("9", "budget")):
            key = await conversations.create()
            await conversations.ask(key, Question.text(count))

            async def over(key: str = key) -> Any:
                reply = (await store.read(f"chat/{key}"))["messages"][-1]
                return reply if reply["status"] != "streaming" else None

            reply = await eventually(over)
            assert reply.get("error", {"kind": reply["status"]})["kind"] == end
            assert reply["cost"] == min(int(count), 3)
