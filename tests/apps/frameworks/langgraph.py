"""Agents of LangChain, which are graphs of LangGraph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain.tools import ToolRuntime, tool
from langchain_core.tools import ToolException
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from statestream.chat.agents import AgentPiece, Task, langgraph
from statestream.chat.agents.context import Context


class Answer(BaseModel):
    """An answer that programs can read."""

    city: str
    celsius: int


def made(upstream: str, order: Callable[[Context, str], Awaitable[list[str]]]) -> tuple[Any, Any]:
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

    approving = HumanInTheLoopMiddleware(interrupt_on={"buy": True})
    agents = {
        "helper": create_agent(
            model, [ordering, buying], context_schema=Context, middleware=[approving], checkpointer=InMemorySaver()
        ),
        "structured": create_agent(model, response_format=ToolStrategy(Answer)),
    }

    def run(name: str, task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        return langgraph.run(agents[name], task, context)

    return run, model.root_async_client.close
