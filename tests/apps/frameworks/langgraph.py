"""Agents of LangChain, which are graphs of LangGraph."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiosqlite
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime, tool
from langchain_core.tools import ToolException
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import BaseModel

from statestream.chat.agents import AgentPiece, Task, langgraph
from statestream.chat.agents.context import Context
from statestream.chat.agents.langchain import front_end_tools


class Answer(BaseModel):
    """An answer that programs can read."""

    city: str
    celsius: int


def made(
    upstream: str, order: Callable[[Context, str], Awaitable[list[str]]], wait: Callable[[str], Awaitable[str]]
) -> tuple[Any, Any]:
    """What runs an agent by its name, and what closes its connections."""
    model = ChatOpenAI(model="test-model", base_url=upstream, api_key="sk-canary", max_retries=0, stream_usage=True)

    @tool("order")
    async def ordering(what: str, runtime: ToolRuntime[Context, Any]) -> list[str]:
        """Orders a thing, and says what is on order."""
        if what == "nothing":
            raise ToolException("Say what to order.")
        return await order(runtime.context, what)

    ordering.handle_tool_error = True

    @tool("buy")
    async def buying(what: str, runtime: ToolRuntime[Context, Any]) -> list[str]:
        """Buys a thing, and says what is on order."""
        return await order(runtime.context, what)

    @tool("wait")
    async def waiting(what: str) -> str:
        """Waits for a thing."""
        return await wait(what)

    agents = dict[str, Any]()
    checkpoints = aiosqlite.connect(os.environ.get("CHECKPOINTS", ":memory:"))

    def run(name: str, task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        if not agents:  # a checkpointer needs the event loop
            agents["helper"] = create_agent(
                model,
                [ordering, buying, waiting],
                context_schema=Context,
                middleware=[HumanInTheLoopMiddleware(interrupt_on={"buy": True}), front_end_tools()],
                checkpointer=AsyncSqliteSaver(checkpoints),
            )
            agents["structured"] = create_agent(model, response_format=ToolStrategy(Answer))
        return langgraph.run(agents[name], task, context)

    async def close() -> None:
        await model.root_async_client.close()
        if agents:
            await checkpoints.close()

    return run, close
