"""The disk of PostgreSQL or Redis is full, or Redis has no memory left: dispatches wait, streams stay open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import aiohttp
import pytest

from tests.support import get_state
from tests.support.callers import Callers, calling
from tests.support.cluster import cluster, judged
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer
from tests.support.small_disk import AVAILABLE, SmallDisk

Trouble = tuple[str, Callable[[], Any], Callable[[], Any]]
"""A journal's URL, what leaves it without room, and what gives it room again."""
on_small_disks = pytest.mark.skipif(not AVAILABLE, reason="mounts a file system, which takes root on Linux")
pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


@contextmanager
def full_postgresql() -> Iterator[Trouble]:
    server = PostgreSQL()
    server.data.mkdir()
    with SmallDisk(server.data, "128m", server.user.pw_uid if server.user else 0) as disk:
        server.prefix = disk.prefix
        with server:
            yield server.url(), disk.fill, disk.empty


@contextmanager
def full_redis(*arguments: str) -> Iterator[Trouble]:
    """If it flushes every write before it answers, it ends when it cannot: then it is started again, as by systemd."""
    server = RedisServer("--auto-aof-rewrite-percentage", "0", *arguments)
    with SmallDisk(server.folder, "16m") as disk:
        server.prefix = disk.prefix

        def empty() -> None:
            disk.empty()
            if server.process and server.process.poll() is not None:
                server.start()

        with server:
            yield server.url, disk.fill, empty


@contextmanager
def redis_without_memory() -> Iterator[Trouble]:
    with RedisServer("--maxmemory-policy", "noeviction") as server:
        full = lambda: server("CONFIG", "SET", "maxmemory", "1mb")  # noqa: E731  # less than it uses when it is empty
        yield server.url, full, lambda: server("CONFIG", "SET", "maxmemory", "0")


TROUBLES = {
    "postgresql": full_postgresql,
    "redis": lambda: full_redis("--appendonly", "yes", "--appendfsync", "everysec"),
    "redis that flushes always": lambda: full_redis(*DURABLE),
    "redis without memory": redis_without_memory,
}


async def fills_and_empties(callers: Callers, http: aiohttp.ClientSession, trouble: Trouble) -> None:
    _, fill, empty = trouble
    await callers.more(100)
    await asyncio.to_thread(fill)
    for number, node in enumerate(callers.nodes):
        await callers.refused(number)
        assert (await get_state(http, node.url))["slices"], "reading goes on"
    await asyncio.to_thread(empty)
    for number in range(len(callers.nodes)):
        await callers.more(20, number)


@pytest.mark.long
@pytest.mark.parametrize("kind", [each if "memory" in each else pytest.param(each, marks=on_small_disks)
                                  for each in TROUBLES])  # fmt: skip
async def test_a_journal_without_room_loses_nothing(kind: str, http: aiohttp.ClientSession) -> None:
    with ExitStack() as stack:
        trouble = stack.enter_context(TROUBLES[kind]())
        nodes = stack.enter_context(cluster(trouble[0]))
        async with calling(nodes, writers=8, readers_of_each=1) as callers:
            await fills_and_empties(callers, http, trouble)
            assert await judged(callers, trouble[0]) == []
            callers.streams_stayed_open()
        print(callers.evidence.figures())
