"""Agents of the OpenAI Agents SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, RunContextWrapper, function_tool
from openai import AsyncOpenAI
from pydantic import BaseModel

from statestream.chat.agents import AgentPiece, Task, openai_agents
from statestream.chat.agents.context import Context


class Answer(BaseModel):
    """An answer that programs can read."""

    city: str
    celsius: int


def made(
    upstream: str, order: Callable[[Context, str], Awaitable[list[str]]], wait: Callable[[str], Awaitable[str]]
) -> tuple[Any, Any]:
    """What runs an agent by its name, and what closes its connections."""
    client = AsyncOpenAI(base_url=upstream, api_key="sk-canary", max_retries=0)
    model = OpenAIChatCompletionsModel("test-model", client)

    def failed(_: Any, error: Exception) -> str:
        return str(error)

    @function_tool(name_override="order", failure_error_function=failed)
    async def tool(wrapper: RunContextWrapper[Context], what: str) -> list[str]:
        """Orders a thing, and says what is on order."""
        if what == "nothing":
            raise ValueError("Say what to order.")
        return await order(wrapper.context, what)

    @function_tool(name_override="buy", needs_approval=True)
    async def buy(wrapper: RunContextWrapper[Context], what: str) -> list[str]:
        """Buys a thing, and says what is on order."""
        return await order(wrapper.context, what)

    @function_tool(name_override="wait")
    async def waiting(what: str) -> str:
        """Waits for a thing."""
        return await wait(what)

    agents: dict[str, Agent[Any]] = {
        "helper": Agent(name="helper", model=model, tools=[tool, buy, waiting]),
        "desk": Agent(name="desk", model=model, handoffs=[Agent(name="refunds", model=model)]),
        "structured": Agent(name="structured", model=model, output_type=Answer),
    }

    def run(name: str, task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        return openai_agents.run(agents[name], task, context)

    return run, client.close
