"""A chat whose agents are graphs of LangGraph, with checkpoints in CHECKPOINTS and a model at CHATTY_UPSTREAM."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from aiohttp import web
from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from statestream import Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Status, Task, langgraph
from statestream.chat.agents.context import Context

Pieces = AsyncGenerator[AgentPiece, None]
Runtime = ToolRuntime[Context, Any]

desk = Slice("desk", initial={"orders": [], "open": False})


@desk.action
def ordered(state: Any, *, what: str) -> None:
    state["orders"].append(what)


@desk.action
def opened(state: Any) -> None:
    state["open"] = True


@tool
async def order(what: str, runtime: Runtime) -> dict[str, str]:
    """Orders a thing."""
    await runtime.context.dispatch(ordered(what=what))
    return {"ordered": what}


@tool
async def wait(runtime: Runtime) -> list[dict[str, str]]:
    """Waits until the desk is open."""
    while not (await runtime.context.get("desk"))["open"]:
        await asyncio.sleep(0.02)
    return [{"type": "text", "text": "open"}]  # as tools of MCP servers do


@tool
async def broken() -> str:
    """Fails."""
    raise RuntimeError("canary")


model = ChatOpenAI(
    model="test-model", base_url=os.environ["CHATTY_UPSTREAM"], api_key="sk-canary", max_retries=0, stream_usage=True
)
chat = Chat(titles=False, lease=3)
saver: list[AsyncSqliteSaver] = []


async def bye(state: MessagesState) -> dict[str, Any]:
    """A node with a model of its own, which writes to the stream as well."""
    write = get_stream_writer()
    write({"left": 0})
    write(Status(text="Leaving"))
    words: Iterator[AIMessage] = iter([AIMessage("Good bye.")])
    return {"messages": [await GenericFakeChatModel(messages=words).ainvoke(state["messages"])]}


def shop(saver: AsyncSqliteSaver | None) -> Any:
    """An agent as a part of a larger graph."""
    graph = StateGraph(MessagesState, context_schema=Context)
    graph.add_node("clerk", create_agent(model, [order, wait, broken], context_schema=Context))
    graph.add_node("bye", bye)
    graph.add_edge(START, "clerk")
    graph.add_edge("clerk", "bye")
    return graph.compile(checkpointer=saver)


@chat.agent
async def clerk(task: Task, context: Context) -> Pieces:
    async for piece in langgraph.run(shop(None), task, context):
        yield piece


@chat.agent
async def careful(task: Task, context: Context) -> Pieces:
    """With checkpoints."""
    async for piece in langgraph.run(shop(saver[0]), task, context):
        yield piece


@chat.agent
async def hasty(task: Task, context: Context) -> Pieces:
    """With few steps."""
    async for piece in langgraph.run(shop(None), task, context, config={"recursion_limit": 4}):
        yield piece


@chat.agent
async def thinker(task: Task, context: Context) -> Pieces:
    """Says what it thinks, and calls a model that nobody is to see."""
    blocks: Any = [{"type": "reasoning", "reasoning": "Hm. "}, {"type": "text", "text": "Yes."}]
    thinking = FakeMessagesListChatModel(responses=[AIMessage(blocks)])

    async def think(state: MessagesState) -> dict[str, Any]:
        await GenericFakeChatModel(messages=iter(["canary"])).with_config(tags=["nostream"]).ainvoke("Quietly.")
        return {"messages": [await thinking.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("think", think).add_edge(START, "think").compile()
    async for piece in langgraph.run(graph, task, context):
        yield piece


@chat.agent
async def asking(task: Task, context: Context) -> Pieces:
    """Waits for people, which nobody can answer yet."""

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(interrupt("Really?"))]}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver[0])
    async for piece in langgraph.run(graph, task, context):
        yield piece


app = create_app(Store([desk, *chat.slices], journal=os.environ.get("JOURNAL", "memory:")))
chat.setup(app)


async def saving(_: web.Application) -> AsyncIterator[None]:
    async with AsyncSqliteSaver.from_conn_string(os.environ.get("CHECKPOINTS", ":memory:")) as opened:
        saver.append(opened)
        yield
        await model.root_async_client.close()


async def threads(_: web.Request) -> web.Response:
    """The threads of which there are checkpoints."""
    found = [each.config["configurable"]["thread_id"] async for each in saver[0].alist(None)]
    return web.json_response(sorted(set(found)))


app.cleanup_ctx.append(saving)
app.router.add_get("/threads", threads)
