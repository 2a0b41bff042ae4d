"""Dispatches a second on a Redis server that flushes every write, beside bare XADDs on the same server.

The bare loop is what a careful program does with redis-py for one event: an XADD of an entry of as many bytes as one of
the journal's changes, awaited. As many callers do it at once, each on a connection of its own. The last bare variant
sends a hundred XADDs in one pipeline, which is the most that one round trip and one flush can carry. The store runs in
this process; each round begins with a new namespace, and its board grows while it is measured.

The second table has the time from a dispatch on one node until another node announces the change, beside one XADD.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from redis.asyncio import Redis

from tests.benchmarks.delays import delays, show
from tests.benchmarks.journal import dispatched, row_bytes
from tests.benchmarks.measure import interleaved, median, ratio, run, short, table
from tests.support.redis_server import DURABLE, RedisServer

ROUNDS: Final = 3
SECONDS: Final = 1.0
CALLERS: Final = (1, 10, 100)
_numbers: Final = itertools.count()


async def bare(server: RedisServer, size: int, callers: int, group: int = 1) -> float:
    """XADDs a second."""
    data, key = b"x" * size, f"bare-{next(_numbers)}"
    async with Redis(port=server.port, max_connections=callers) as client:
        start = time.perf_counter()

        async def caller() -> int:
            done = 0
            while time.perf_counter() - start < SECONDS:
                if group == 1:
                    await client.xadd(key, {"d": data})
                else:
                    pipeline = client.pipeline(transaction=False)
                    for _ in range(group):
                        pipeline.xadd(key, {"d": data})
                    await pipeline.execute()
                done += group
            return done

        done = sum(await asyncio.gather(*(caller() for _ in range(callers))))
        return done / (time.perf_counter() - start)


def variants(server: RedisServer, size: int) -> dict[str, Callable[[], float]]:
    def store(callers: int, *, with_id: bool = False) -> float:
        return run(dispatched(f"{server.url}?namespace=n{next(_numbers)}", callers, with_id=with_id))

    found: dict[str, Callable[[], float]] = {}
    for callers in CALLERS:
        named = f"{callers} caller{'s' if callers > 1 else ''}"
        found[f"bare XADD, {named}"] = lambda callers=callers: run(bare(server, size, callers))  # type: ignore[misc]
        found[f"dispatch, {named}"] = lambda callers=callers: store(callers)  # type: ignore[misc]
    found["dispatch, 100 callers, ids"] = lambda: store(100, with_id=True)
    found["bare XADD, pipelines of 100"] = lambda: run(bare(server, size, 1, group=100))
    return found


async def delayed(server: RedisServer, size: int) -> Mapping[str, Sequence[float]]:
    data = b"x" * size
    async with Redis(port=server.port) as client:
        journal = f"{server.url}?namespace=delays"
        return await delays(journal, "bare XADD", lambda: client.xadd("bare-delays", {"d": data}))


def main() -> None:
    size = run(row_bytes())
    with RedisServer(*DURABLE) as server:
        rounds = interleaved(variants(server, size), ROUNDS)
        waits = run(delayed(server, size))
    print(f"Entries of {size} bytes; appendfsync always; medians of {ROUNDS} interleaved rounds of {SECONDS:g} s.\n")
    bases = {callers: rounds[f"bare XADD, {callers} caller{'s' if callers > 1 else ''}"] for callers in CALLERS}
    rows = []
    for name, each in rounds.items():
        callers = next((number for number in reversed(CALLERS) if f" {number} caller" in name), 100)
        rows.append(
            [name, short(median(each)), f"{short(min(each))}–{short(max(each))}", short(ratio(each, bases[callers]))]
        )
    table(["variant", "per second", "minimum–maximum", "relative to bare"], rows)
    print()
    show(waits)
