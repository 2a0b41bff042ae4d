"""Fixtures that the chat tests share."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.support import ROOT, Server
from tests.support.ag_ui_client import Node
from tests.support.chats import chatty


@pytest.fixture(scope="module", params=("chat", "messages", "responses"))
def api(request: pytest.FixtureRequest) -> str:
    """The test runs once with each API of a provider."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def patient(upstream: str) -> Iterator[Server]:
    """A chat on our upstream, with all the time in the world."""
    with chatty(upstream) as server:
        yield server


@pytest.fixture(scope="module", params=("pydantic_ai", "openai_agents", "langgraph"))
def adapter(request: pytest.FixtureRequest) -> str:
    """The test runs once with each framework."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def adapted(upstream: str, adapter: str) -> Iterator[Server]:
    """A chat whose agent uses that framework."""
    env = {"CHATTY_UPSTREAM": f"{upstream}/v1", "ADAPTER": adapter}
    with Server.serving(f"{ROOT / 'tests/apps/adapted.py'}:app", env=env) as server:
        yield server


@pytest.fixture(scope="session")
def team() -> Iterator[Server]:
    """Agents that work with each other. Several modules use it, each with chats of its own."""
    with Server.serving(f"{ROOT / 'tests/apps/team.py'}:app") as server:
        yield server


@pytest.fixture
async def ann() -> AsyncIterator[aiohttp.ClientSession]:
    """A person, on a server that takes names for tokens."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer ann"}, connector=connector) as http:
        yield http


@pytest.fixture(scope="module")
def ag_ui_process() -> Iterator[socket.socket]:
    """The other end of the process in which all clients of AG-UI run: starting it takes longer than most tests."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["node", str(ROOT / "tests/node/ag_ui.mjs")], stdin=theirs, stdout=theirs)
    with ours:
        yield ours
    process.wait(60)


@pytest.fixture
async def node(ag_ui_process: socket.socket) -> AsyncIterator[Node]:
    """Where the clients of AG-UI run."""
    running = Node(*await asyncio.open_connection(sock=ag_ui_process.dup(), limit=1 << 24))
    yield running
    await running.ask("forget")
    await running.end()
