"""kill -9 of a node while others go on: nothing that was acknowledged is lost, and every reader is shown the one order.

KILLS says how many kills the long proof takes (1,000).
"""

from __future__ import annotations

import os
import random
import time

import pytest

from tests.support.callers import Callers, calling
from tests.support.cluster import cluster, judged, restart

pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


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
    print(await proved(journal, 3, writers=8, readers_of_each=1))


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
async def test_many_kills_of_nodes_under_load(journal: str) -> None:
    kills = int(os.environ.get("KILLS", "1000"))
    print(await proved(journal, kills, writers=20, readers_of_each=2))
