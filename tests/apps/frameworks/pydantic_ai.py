"""Agents of Pydantic AI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from statestream.chat.agents import AgentPiece, Task, pydantic_ai
from statestream.chat.agents.context import Context


class Answer(BaseModel):
    """An answer that programs can read."""

    city: str
    celsius: int


def made(
    upstream: str, order: Callable[[Context, str], Awaitable[list[str]]], wait: Callable[[str], Awaitable[str]]
) -> tuple[Any, Any]:
    """What runs an agent by its name, and what closes its connections."""
    model = OpenAIChatModel("test-model", provider=OpenAIProvider(base_url=upstream, api_key="sk-canary"))
    helper = Agent(model, output_type=[str, DeferredToolRequests], deps_type=Context, retries=1)

    @helper.tool(name="order")
    async def _(ctx: RunContext[Context], what: str) -> list[str]:
        """Orders a thing, and says what is on order."""
        if what == "nothing":
            raise ModelRetry("Say what to order.")
        return await order(ctx.deps, what)

    @helper.tool(name="buy", requires_approval=True)
    async def _(ctx: RunContext[Context], what: str) -> list[str]:
        """Buys a thing, and says what is on order."""
        return await order(ctx.deps, what)

    @helper.tool_plain(name="wait")
    async def _(what: str) -> str:
        """Waits for a thing."""
        return await wait(what)

    agents: dict[str, Agent[Any, Any]] = {"helper": helper, "structured": Agent(model, output_type=Answer)}

    def run(name: str, task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        return pydantic_ai.run(agents[name], task, context)

    return run, model.client.close
