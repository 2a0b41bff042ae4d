"""kill -9 of a node while others go on: nothing that was acknowledged is lost, and every reader is shown the one order.

KILLS says how many kills the long proof takes (1,000).
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.callers import Callers, calling
from tests.support.cluster import cluster, judged, restart
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import RedisServer

ENGINES = ("postgresql", "redis", "sqlite")


@pytest.fixture(params=ENGINES)
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a journal on a server of its own."""
    with contextlib.ExitStack() as stack:
        if request.param == "postgresql":
            yield stack.enter_context(PostgreSQL()).url()
        elif request.param == "redis":
            yield stack.enter_context(RedisServer()).url
        else:
            yield f"sqlite:///{tmp_path / 'journal.db'}"


async def killed(callers: Callers, kills: int, chance: random.Random) -> float:
    """Kills a random node so often, at random moments. Returns how many were acknowledged per second in between."""
    began, before = time.monotonic(), callers.acknowledged.total()
    for _ in range(kills):
        await callers.more(chance.randrange(20, 200))
        number = chance.randrange(len(callers.nodes))
        callers.cut()
        await restart(callers.nodes[number])
        await callers.more(1, number)
    return (callers.acknowledged.total() - before) / (time.monotonic() - began)


async def proved(journal: str, kills: int, *, writers: int, readers_of_each: int) -> str:
    with cluster(journal) as nodes:
        async with calling(nodes, writers=writers, readers_of_each=readers_of_each) as callers:
            await callers.more(100)
            rate = await killed(callers, kills, random.Random())
            assert await judged(callers, journal) == []
        reasons = {reason for history in callers.evidence.histories for reason in history.reasons}
        assert reasons <= {"start", "lagged"}, "every reader resumed, unless it was too far behind"
    return f"{kills} kills, {rate:.0f} acknowledged per second; {callers.evidence.figures()}"


@pytest.mark.long
async def test_kills_of_nodes_lose_nothing_and_repeat_nothing(journal: str) -> None:
    print(await proved(journal, 5, writers=8, readers_of_each=1))


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
async def test_many_kills_of_nodes_under_load(journal: str) -> None:
    kills = int(os.environ.get("KILLS", "1000"))
    print(await proved(journal, kills, writers=20, readers_of_each=2))
