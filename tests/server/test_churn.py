"""An hour of clients of every kind that come and go, on one server: what it costs in memory, and what is left of them.

CHURN_SECONDS says how long the churn lasts (3,600).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.support import ROOT, Server, eventually
from tests.support.churn import LEAVE, Churn, Leave
from tests.support.raw_socket import vanish

EPISODES: Final = 12
"""After each of them, memory is measured once everybody has gone: before that, it says how busy the server is."""
WARM_UP: Final = 2
"""Episodes after which memory may not grow any more."""
EVERY_SECONDS: Final = 2.0
GROWTH: Final = 1 << 20
FIRST_SECONDS: Final = 3.0
"""A first churn, in which things may be made that stay."""
FEW: Final = 100
"""Objects in all that only the garbage collector frees."""
GONE_SECONDS: Final = 150.0
"""More than the server waits for a client that says nothing."""
LEAVE_NOW: Final = tuple(way for way in LEAVE if way is not vanish)
"""Ways that the server notices at once."""


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A board and a chat on a SQLite journal, on a server that reports which objects it has in memory.

    A client that has nothing else to read waits for a heartbeat before it leaves: in the short test, not for long.
    """
    environment = {"JOURNAL": str(tmp_path / "journal.db")}
    if not request.node.get_closest_marker("soak"):
        environment["HEARTBEAT"] = "0.5"
    with Server.serving(f"{ROOT / 'tests/apps/churned.py'}:app", env=environment) as running:
        yield running


async def look(http: aiohttp.ClientSession, server: Server, what: str) -> Any:
    async with http.get(f"{server.url}/{what}") as response:
        return await response.json()


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


async def left(http: aiohttp.ClientSession, server: Server) -> dict[str, int]:
    """What the server has of connections, and how much chats remember of them."""
    alive = await look(http, server, "alive")
    return {**alive, "descriptors": descriptors(server), "remembered": await look(http, server, "remembered")}


def churned(server: Server, seconds: float, leave: tuple[Leave, ...] = LEAVE) -> None:
    """Lets clients come and go for that time."""
    print(f"seed {(seed := random.SystemRandom().randrange(2**32))}")
    with Churn(server, seed, leave) as churn:
        until = time.monotonic() + seconds
        while time.monotonic() < until and churn.wait(EVERY_SECONDS):
            pass
    print(f"{seconds:g} s: {dict(churn.did)}")


async def begun(server: Server, http: aiohttp.ClientSession) -> dict[str, int]:
    """What the server has once it has made what stays."""
    await asyncio.to_thread(churned, server, FIRST_SECONDS, LEAVE_NOW)
    await look(http, server, "garbage")
    before = await left(http, server)
    before["descriptors"] += 1  # the last request's connection may be counted or not
    return before


async def leaves_nothing(
    server: Server, http: aiohttp.ClientSession, before: dict[str, int], seconds: float, leave: tuple[Leave, ...]
) -> int:
    """Lets clients come and go. Returns the server's memory, apart from files, once it has given up the last of them.

    Fails if anything is left of them.
    """
    await asyncio.to_thread(churned, server, seconds, leave)
    garbage = await look(http, server, "garbage")
    print("garbage:", garbage)

    async def gone() -> bool:
        await look(http, server, "garbage")
        more = {kind: count for kind, count in (await left(http, server)).items() if count > before.get(kind, 0)}
        print("still there:", more)
        return not more

    await eventually(gone, seconds=GONE_SECONDS, every=5)
    assert sum(garbage.values()) < FEW
    assert await server.metric(http, "subscribers") == 0
    return server.resident("RssAnon")


@pytest.mark.long
async def test_nothing_is_left_of_clients_that_come_and_go(server: Server, http: aiohttp.ClientSession) -> None:
    await leaves_nothing(server, http, await begun(server, http), 10, LEAVE_NOW)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
async def test_an_hour_of_clients_that_come_and_go_costs_no_memory(server: Server, http: aiohttp.ClientSession) -> None:
    before = await begun(server, http)
    seconds = float(os.environ.get("CHURN_SECONDS", "3600")) / EPISODES
    sizes = []
    for _ in range(EPISODES):
        sizes.append(await leaves_nothing(server, http, before, seconds, LEAVE))
        print("KiB after each episode:", [size >> 10 for size in sizes])
    assert sizes[-1] - sizes[WARM_UP - 1] <= GROWTH
