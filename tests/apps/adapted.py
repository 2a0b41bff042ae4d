"""A chat whose agent is made with a framework (ADAPTER), on the provider at CHATTY_UPSTREAM. People have names."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from statestream import Slice, Store, create_app
from statestream.auth import signed_in
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Task, pydantic_ai
from statestream.chat.agents.context import Context
from tests.apps.by_name import auth

orders = Slice("orders", initial={"open": ["a book"]}, read=signed_in, dispatch=signed_in)


@orders.action
def ordered(state: Any, *, what: str) -> None:
    state["open"].append(what)


class Answer(BaseModel):
    """An answer that programs can read."""

    city: str
    celsius: int


provider = OpenAIProvider(base_url=os.environ["CHATTY_UPSTREAM"], api_key="sk-canary")
model = OpenAIChatModel("test-model", provider=provider)
helper = Agent(model, deps_type=Context, retries=1)
structured = Agent(model, output_type=Answer)


@helper.tool
async def order(ctx: RunContext[Context], what: str) -> list[str]:
    """Orders a thing, and says what is on order."""
    if what == "nothing":
        raise ModelRetry("Say what to order.")
    await ctx.deps.dispatch(ordered(what=what))
    found: list[str] = (await ctx.deps.get("orders"))["open"]
    return found


chat = Chat(titles=False)


@chat.agent
async def assistant(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in pydantic_ai.run(helper, task, deps=context):
        yield piece


@chat.agent
async def thermometer(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in pydantic_ai.run(structured, task):
        yield piece


app = create_app(Store([orders, *chat.slices]), auth=auth)
chat.setup(app)
