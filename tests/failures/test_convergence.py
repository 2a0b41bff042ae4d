"""How long it takes after each failure until hundreds of readers on three nodes have what was acknowledged last.

READERS says how many there are on each node (300).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.support.callers import Callers, calling
from tests.support.cluster import cluster, judged, restart, stopped
from tests.support.crowd import Crowd
from tests.support.network import Network, why_not
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer
from tests.support.small_disk import AVAILABLE, SmallDisk

STAYS = 3.0
"""Seconds that a failure lasts if nothing else ends it."""


class Engine:
    """A database on a small disk, and the network between it and the nodes."""

    def __init__(self, server: Any, disk: SmallDisk, network: Network) -> None:
        self.server, self.disk, self.network = server, disk, network
        self.url = server.url() if isinstance(server, PostgreSQL) else server.url

    async def is_killed(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.sleep(STAYS)
        await asyncio.to_thread(self.server.start)

    async def is_cut_off(self) -> None:
        await asyncio.to_thread(self.network.cut)
        await asyncio.sleep(STAYS)
        await asyncio.to_thread(self.network.restore)

    async def is_full(self) -> None:
        await asyncio.to_thread(self.disk.fill)
        await asyncio.sleep(STAYS)
        await asyncio.to_thread(self.disk.empty)
        if self.server.process.poll() is not None:
            await asyncio.to_thread(self.server.start)


@pytest.fixture(params=["postgresql", "redis"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    server: Any = PostgreSQL() if request.param == "postgresql" else RedisServer(*DURABLE)
    owner = server.user.pw_uid if request.param == "postgresql" and server.user else 0
    folder = server.data if request.param == "postgresql" else server.folder
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        disk = stack.enter_context(SmallDisk(folder, "256m", owner))
        server.prefix, server.hosts = (*network.prefix, *disk.prefix), network.hosts
        stack.enter_context(server)
        yield Engine(server, disk, network)


@asynccontextmanager
async def writing(callers: Callers) -> AsyncIterator[None]:
    """Something to show all the time: a request about every tenth of a second, until it is acknowledged."""

    async def write() -> None:
        while True:
            await callers.last()
            await asyncio.sleep(0.1)

    task = asyncio.create_task(write())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.soak
@pytest.mark.skipif(not AVAILABLE, reason="mounts a file system, which takes root on Linux")
@pytest.mark.skipif(bool(why_not()), reason=why_not())
async def test_all_readers_have_what_was_acknowledged_last(engine: Engine) -> None:
    readers = int(os.environ.get("READERS", "300"))
    with cluster(engine.url) as nodes:

        async def stands_still() -> None:
            async with stopped(nodes[1]):
                await asyncio.sleep(STAYS)

        failures: dict[str, Callable[[], Awaitable[Any]]] = {
            "nothing": lambda: asyncio.sleep(STAYS),
            "a node was killed": lambda: restart(nodes[0]),
            "a node stood still": stands_still,
            "the database was killed": engine.is_killed,
            "the network was cut": engine.is_cut_off,
            "the disk was full": engine.is_full,
        }
        async with calling(nodes, writers=0, readers_of_each=1) as callers, Crowd(nodes, readers) as crowd:
            for name, fail in failures.items():
                await crowd.current(await callers.last())
                before = crowd.reconnects
                async with writing(callers):
                    await fail()
                over = time.monotonic()
                seq = await callers.last()
                written = time.monotonic() - over
                await crowd.current(seq)
                whole = time.monotonic() - over
                print(
                    f"{name}: {written:.2f} s until the next acknowledgement, {whole:.2f} s until {len(crowd.readers)} "
                    f"readers have it, {crowd.reconnects - before} of them on another connection"
                )
            assert await judged(callers, engine.url) == []
