"""The network between nodes and their journal loses every packet, with nobody told: streams stay open, all catch up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import pytest

from tests.support import Server
from tests.support.callers import calling
from tests.support.cluster import cluster, judged
from tests.support.network import Network, why_not
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer

pytestmark = [
    pytest.mark.timeout(300),  # a busy machine takes long
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]
ANSWERED = {"postgresql": 15.0, "redis": 10.0}
"""The seconds in which a dispatch is answered, as the page on running a server says: beyond that it hangs."""
SLACK = 5.0
"""What a busy machine may add."""
Journal = tuple[str, list[str], Network]
"""The engine, the URLs of its journal by each way, and the network with the ways."""


@pytest.fixture(params=["postgresql", "redis"])
def journal(request: pytest.FixtureRequest) -> Iterator[Journal]:
    with ExitStack() as stack:
        network = stack.enter_context(Network(ways=2))
        server: Any = PostgreSQL() if request.param == "postgresql" else RedisServer(*DURABLE)
        server.prefix, server.hosts = network.prefix, network.hosts
        stack.enter_context(server)
        at = (lambda host: server.url(host=host)) if request.param == "postgresql" else server.url_at
        yield request.param, [at(host) for host in network.hosts], network


async def asked(http: aiohttp.ClientSession, node: Server) -> tuple[float, int, str | None]:
    """How long an answer takes, its status, and Retry-After."""
    began = time.monotonic()
    request = {"type": "total/added", "payload": {"id": "during-the-cut"}, "id": "during-the-cut"}
    async with http.post(f"{node.url}/dispatch", json=request) as response:
        await response.read()
    return time.monotonic() - began, response.status, response.headers.get("Retry-After")


@pytest.mark.long
async def test_a_short_cut_is_a_pause(journal: Journal) -> None:
    _, urls, network = journal
    with cluster(urls[0]) as nodes:
        async with calling(nodes, writers=8, readers_of_each=1) as callers:
            for _ in range(2):
                await callers.more(100)
                network.cut()
                await asyncio.sleep(1)
                network.restore()
                for number in range(3):
                    await callers.more(20, number)
            assert await judged(callers, urls[0]) == []
            callers.streams_stayed_open()
        print(callers.evidence.figures())


@pytest.mark.long
async def test_a_long_cut_is_told_and_over_at_once(journal: Journal, http: aiohttp.ClientSession) -> None:
    engine, urls, network = journal
    with cluster(urls[0]) as nodes:
        async with calling(nodes, writers=8, readers_of_each=1) as callers:
            await callers.more(100)
            network.cut()
            for seconds, status, after in await asyncio.gather(*(asked(http, node) for node in nodes)):
                print(f"{engine}: {status} after {seconds:.2f} s")
                assert (status, bool(after)) == (503, True)
                assert seconds < ANSWERED[engine] + SLACK
            await asyncio.gather(*(callers.refused(number) for number in range(3)))
            network.restore()
            began = time.monotonic()
            for number in range(3):
                await callers.more(20, number)
            print(f"{engine}: written to again {time.monotonic() - began:.2f} s after the cut")
            assert await judged(callers, urls[0]) == []
            callers.streams_stayed_open()
        print(callers.evidence.figures())


@pytest.mark.long
async def test_nodes_that_are_cut_off_do_not_hold_up_another(journal: Journal) -> None:
    """Which goes on writing by another way, and whose changes they show as soon as theirs is back."""
    _, urls, network = journal
    with cluster([urls[0], urls[0], urls[1]]) as nodes:
        async with calling(nodes, writers=9, readers_of_each=1) as callers:
            await callers.more(100)
            network.cut(0)
            await asyncio.gather(callers.refused(0), callers.refused(1))
            before = callers.acknowledged[2]
            await callers.more(100, node=2)
            assert callers.acknowledged[2] >= before + 100
            head = max(callers.evidence.newest.values())
            network.restore(0)
            await callers.current(head)
            for number in range(3):
                await callers.more(20, number)
            assert await judged(callers, urls[1]) == []
            callers.streams_stayed_open()
        print(callers.evidence.figures())
