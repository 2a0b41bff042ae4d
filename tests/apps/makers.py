"""A chat with all that can make replies, on the provider at CHATTY_UPSTREAM, with the journal in JOURNAL.

MAKERS is `agents`: an agent of each framework, and one without. Or it is `models`: the chat's own model, in the API
whose name the question begins with. All of them have the tools `buy`, which somebody has to approve, and `wait`, which
waits for a gate of the upstream.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from importlib import import_module
from typing import Any

import aiohttp
from aiohttp import web

from statestream import Slice, Store, create_app
from statestream.chat import Chat, ModelSettings
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from statestream.chat.models import Piece, ToolSpec, Turn
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.responses import OpenAIResponsesModel

UPSTREAM = os.environ["CHATTY_UPSTREAM"]
FRAMEWORKS = ("plain", "pydantic_ai", "openai_agents", "langgraph")

orders = Slice("orders", initial={"open": []})


@orders.action
def ordered(state: Any, *, what: str) -> None:
    state["open"].append(what)


async def order(context: Context, what: str) -> list[str]:
    await context.dispatch(ordered(what=what))
    found: list[str] = (await context.get("orders"))["open"]
    return found


async def waited(gate: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{UPSTREAM}/gates/{gate}") as response:
        return await response.text()


class Models:
    """A model of each API. The question says which one answers."""

    name = "models"

    def __init__(self) -> None:
        self._models = {
            "chat": OpenAIModel("test-model", base_url=UPSTREAM),
            "messages": AnthropicModel("test-model", base_url=UPSTREAM.removesuffix("/v1")),
            "responses": OpenAIResponsesModel("test-model", base_url=UPSTREAM),
        }

    async def answer(
        self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings
    ) -> AsyncIterator[Piece]:
        question = next(turn.text for turn in reversed(turns) if turn.role == "user")
        model = self._models[question.partition(":")[0]]
        async with aclosing(model.answer(turns, tools, settings)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def close(self) -> None:
        for model in self._models.values():
            await model.close()


chat = Chat(model=Models(), titles=False, lease=1)
closers = list[Any]()


def declare(framework: str) -> None:
    run, close = import_module(f"tests.apps.frameworks.{framework}").made(UPSTREAM, order, waited)
    closers.append(close)

    async def agent(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
        async for piece in run("helper", task, context):
            yield piece

    agent.__name__ = framework
    chat.agent(agent)


if os.environ["MAKERS"] == "agents":
    for each in FRAMEWORKS:
        declare(each)
else:

    @chat.tool
    async def wait(what: str) -> str:
        """Waits for a thing."""
        return await waited(what)

    @chat.tool(approval=True)
    async def buy(what: str, context: Context) -> list[str]:
        """Buys a thing."""
        return await order(context, what)


app = create_app(Store([orders, *chat.slices], journal=os.environ["JOURNAL"]))
chat.setup(app)


async def closing(_: web.Application) -> None:
    for close in closers:
        await close()


app.on_cleanup.append(closing)
