"""Dispatches a second with a journal in PostgreSQL, beside bare transactions of the same size on the same server.

The bare loop is what a careful program does with asyncpg: one connection, and for each group of callers that wait one
transaction that inserts a row of as many bytes as one of the journal's, with the same synchronous_commit. The
server flushes to the disk, unlike that of the tests. Each round begins with new tables. What a memory
journal reaches is what the store takes without any database.

The second table has the time from a dispatch on one node until another node announces the change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.benchmarks.delays import delays, show
from tests.benchmarks.journal import dispatched, row_bytes
from tests.benchmarks.measure import interleaved, median, ratio, run, short, table
from tests.support.postgresql import PostgreSQL

ROUNDS: Final = 3
SECONDS: Final = 1.0
CALLERS: Final = (1, 10, 100)


async def bare(server: PostgreSQL, size: int, group: int) -> float:
    """Rows a second, of `size` bytes each, in transactions of `group` rows."""
    driver = await server.connect()
    try:
        await driver.execute("DROP TABLE IF EXISTS bare")
        await driver.execute("CREATE TABLE bare (seq bigserial PRIMARY KEY, data bytea NOT NULL)")
        rows = [b"x" * size] * group
        done = 0
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            await driver.execute("INSERT INTO bare (data) SELECT * FROM unnest($1::bytea[])", rows)
            done += group
        return done / (time.perf_counter() - start)
    finally:
        await driver.close()


async def delayed(server: PostgreSQL, size: int) -> Mapping[str, Sequence[float]]:
    """Beside a row in a transaction that notifies, until another connection hears of it."""
    writer, listener, data = await server.connect(), await server.connect(), b"x" * size
    heard: asyncio.Queue[None] = asyncio.Queue()

    async def bare() -> None:
        async with writer.transaction():
            await writer.execute("INSERT INTO bare_delays (data) VALUES ($1)", data)
            await writer.execute("NOTIFY bare_delays")
        await heard.get()

    try:
        await writer.execute("CREATE TABLE bare_delays (seq bigserial PRIMARY KEY, data bytea NOT NULL)")
        await listener.add_listener("bare_delays", lambda *_: heard.put_nowait(None))
        return await delays(server.new_url(), "bare INSERT and NOTIFY, until another connection hears it", bare)
    finally:
        await writer.close()
        await listener.close()


def variants(server: PostgreSQL, size: int) -> dict[str, Callable[[], float]]:
    found: dict[str, Callable[[], float]] = {}
    for callers in CALLERS:
        found[f"bare asyncpg, {callers} rows per transaction"] = lambda callers=callers: run(
            bare(server, size, callers)
        )
        found[f"postgresql, {callers} callers"] = lambda callers=callers: run(dispatched(server.new_url(), callers))
    found[f"postgresql, {CALLERS[-1]} callers, ids"] = lambda: run(
        dispatched(server.new_url(), CALLERS[-1], with_id=True)
    )
    found[f"memory, {CALLERS[-1]} callers"] = lambda: run(dispatched("memory:", CALLERS[-1]))
    return found


def main() -> None:
    size = run(row_bytes())
    with PostgreSQL(fsync="on", full_page_writes="on", shared_buffers="128MB") as server:
        rounds = interleaved(variants(server, size), ROUNDS)
        waits = run(delayed(server, size))
    bare_names = {callers: f"bare asyncpg, {callers} rows per transaction" for callers in CALLERS}
    print(f"Rows of {size} bytes; medians of {ROUNDS} interleaved rounds of {SECONDS:g} s, synchronous_commit = on.\n")
    rows = []
    for name, each in rounds.items():
        callers = next(number for number in reversed(CALLERS) if f" {number} " in name)
        relative = ratio(each, rounds[bare_names[callers]])
        spread = f"{short(min(each))}–{short(max(each))}"
        rows.append([name, short(median(each)), spread, f"x{short(relative)}"])
    table(["variant", "per second", "minimum–maximum", "relative to bare of the same group"], rows)
    print()
    show(waits)
