"""A node stands still under load, as when its virtual machine is paused, and goes on where it was.

STOP_SECONDS says for how long in the long proof (30).
"""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.support.callers import calling
from tests.support.cluster import cluster, judged, stopped

pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


async def stands_still(journal: str, seconds: float, *, writers: int, readers_of_each: int) -> str:
    with cluster(journal) as nodes:
        async with calling(nodes, writers=writers, readers_of_each=readers_of_each) as callers:
            await callers.more(100)
            async with stopped(nodes[0]):
                before, began = callers.acknowledged.total(), time.monotonic()
                await asyncio.sleep(seconds)
                if not journal.startswith("sqlite"):  # whose lock the node may hold
                    await callers.more(5, node=1)  # the others do not wait for it
                rate = (callers.acknowledged.total() - before) / (time.monotonic() - began)
                head = max(callers.evidence.newest.values())
            goes_on = time.monotonic()
            await callers.current(head)
            current = time.monotonic() - goes_on
            await callers.more(20, node=0)
            assert await judged(callers, journal) == []
            callers.streams_stayed_open()
    return (
        f"stopped for {seconds:g} s, while {rate:.0f} were acknowledged per second: its readers are current "
        f"{current:.2f} s after it goes on; {callers.evidence.figures()}"
    )


@pytest.mark.long
async def test_a_node_that_stood_still_goes_on_where_it_was(journal: str) -> None:
    print(await stands_still(journal, 3, writers=8, readers_of_each=1))


@pytest.mark.soak
async def test_a_node_that_stood_still_for_long(journal: str) -> None:
    seconds = float(os.environ.get("STOP_SECONDS", "30"))
    print(await stands_still(journal, seconds, writers=20, readers_of_each=2))
