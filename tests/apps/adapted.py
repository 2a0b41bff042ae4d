"""A chat whose agents are made with a framework (ADAPTER), on the provider at CHATTY_UPSTREAM. People have names."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from importlib import import_module
from typing import Any

from aiohttp import web

from statestream import Slice, Store, create_app
from statestream.auth import signed_in
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from tests.apps.by_name import auth

orders = Slice("orders", initial={"open": ["a book"]}, read=signed_in, dispatch=signed_in)


@orders.action
def ordered(state: Any, *, what: str) -> None:
    state["open"].append(what)


async def order(context: Context, what: str) -> list[str]:
    """What the tool does in every framework."""
    await context.dispatch(ordered(what=what))
    found: list[str] = (await context.get("orders"))["open"]
    return found


async def waited(_: str) -> str:
    raise AssertionError("not a tool of these tests")


framework = import_module(f"tests.apps.frameworks.{os.environ['ADAPTER']}")
run, close = framework.made(os.environ["CHATTY_UPSTREAM"], order, waited)
chat = Chat(titles=False)


@chat.agent
async def assistant(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in run("helper", task, context):
        yield piece


@chat.agent
async def desk(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in run("desk", task, context):
        yield piece


@chat.agent
async def thermometer(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    async for piece in run("structured", task, context):
        yield piece


app = create_app(Store([orders, *chat.slices]), auth=auth)
chat.setup(app)


async def closing(_: web.Application) -> None:
    await close()


app.on_cleanup.append(closing)
