"""Replies are counted once, by how they ended; and the tools, models and callbacks of a chat that block the server are
named in its log and counted.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server, eventually
from tests.support.chats import new_chat, post, user

Http = aiohttp.ClientSession
APP = '''
import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from statestream import Store, create_app
from statestream.chat import Chat, Timeouts
from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Refusal, ToolSpec, Turn


class Obedient:
    """Does what the question says."""

    name = "obedient"

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: object) -> AsyncIterator[Piece]:
        order = next(turn.text for turn in reversed(turns) if turn.role == "user")
        tool = order.partition(" ")[2]
        if order == "say nothing":
            yield Finish(reason="stop")
        elif order == "decline":
            yield Refusal(text="No.")
            yield Finish(reason="stop")
        elif order == "fail":
            raise ModelFailed("rate_limited", "Too many questions.")
        elif order == "crash":
            raise LookupError
        elif order == "break off":
            yield "So"
        elif order == "wait":
            yield "So far"
            await asyncio.sleep(60)
        elif order == "be silent":
            await asyncio.sleep(60)
        elif tool in [spec.name for spec in tools] and (order.startswith("always") or turns[-1].role != "tool"):
            yield CallPiece(index=0, id=f"c{len(turns)}", name=tool, arguments="{}")
            yield Finish(reason="tool_calls")
        else:
            yield "Yes"
            time.sleep(0.3 if order == "block" else 0)
            yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


chat = Chat(model=Obedient(), titles=False, timeouts=Timeouts(first=1.0, idle=30.0))


@chat.tool
async def dozing() -> str:
    """Sleeps, and blocks the server."""
    time.sleep(0.3)
    return "awake"


@chat.tool
async def quick() -> str:
    """Waits, and blocks nothing."""
    await asyncio.sleep(0.3)
    return "done"


app = create_app(Store(chat.slices, journal=os.environ.get("JOURNAL", "memory:")))
chat.setup(app)
'''
ENDS = {
    "say yes": "complete",
    "say nothing": "empty",
    "decline": "refused",
    "fail": "rate_limited",
    "crash": "failed",
    "break off": "truncated",
    "be silent": "timeout",
    "always quick": "too_many_steps",
}


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    """Two on one journal."""
    (tmp_path / "app.py").write_text(APP)
    with ExitStack() as stack:
        environment = {"JOURNAL": f"sqlite:///{tmp_path / 'journal.db'}"}
        started = [Server("serve", f"{tmp_path / 'app.py'}:app", env=environment) for _ in range(2)]
        yield [stack.enter_context(server) for server in started]


async def counted(http: Http, server: Server, name: str) -> dict[str, int]:
    """The values of a metric by those of its label, without those at 0."""
    async with http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    pairs = re.findall(rf'^statestream_{name}_total\{{\w+="(\w+)"\}} (\d+)', text, re.MULTILINE)
    return {label: int(value) for label, value in pairs if value != "0"}


async def begun(http: Http, server: Server, chat: str) -> Any:
    """Asks a question whose reply does not end by itself, and returns the open answer."""
    response = await http.post(f"{server.url}/api/chats/{chat}/stream", json=user("wait"))
    assert await response.content.readexactly(6) == b"So far"
    return response


async def test_every_reply_is_counted_once_by_how_it_ended(servers: list[Server], http: Http) -> None:
    here, there = servers
    ends = {}
    for order, end in ENDS.items():
        await post(http, here, await new_chat(http, here), user(order))
        ends[end] = 1
        await eventually(lambda: is_counted(http, here, ends))
    for server, end in ((here, "stopped"), (there, "elsewhere")):
        chat = await new_chat(http, here)
        response = await begun(http, here, chat)
        assert await stopped(http, server, chat)
        ends[end] = 1
        await eventually(lambda: is_counted(http, here, ends))
        response.close()
    assert await counted(http, there, "replies") == {}


async def stopped(http: Http, server: Server, chat: str) -> bool:
    async with http.post(f"{server.url}/api/chats/{chat}/stop") as response:
        return response.status == 200 and bool((await response.json())["stopped"])


async def is_counted(http: Http, server: Server, wanted: dict[str, int]) -> bool:
    return await counted(http, server, "replies") == wanted


async def test_what_blocks_the_server_is_named_and_counted(servers: list[Server], http: Http) -> None:
    server = servers[0]
    chat = await new_chat(http, server)
    for order in ("call quick", "call dozing", "block"):
        assert (await post(http, server, chat, user(order))).text == "Yes"
    assert await counted(http, server, "slow_calls") == {"tool": 1, "model": 1}
    errors = await asyncio.to_thread(server.stop, slow_calls=True)
    for name in (r"tool app\.dozing", "model obedient"):
        assert re.search(rf"the {name} took [\d.]+ s, in which the server did nothing else", errors), errors
