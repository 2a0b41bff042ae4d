"""Dispatches a second, as durable as SQLite makes them, beside bare transactions on the same file system.

The bare loop is what a careful program does with sqlite3 for one event: BEGIN, INSERT of a row of as many
bytes as one of the journal's, COMMIT, with the same WAL and synchronous=FULL. The store runs in this process;
each round begins with a new store and a new file, and its board grows while it is measured.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from statestream import Slice, Store
from statestream.core.change import Change
from tests.benchmarks.measure import interleaved, median, ratio, run, short, table

ROUNDS: Final = 5
SECONDS: Final = 1.0
MANY: Final = 100

board = Slice("board", initial={"tasks": [], "count": 0})


@board.action
def task_added(state: Any, *, id: str, title: str) -> None:
    state["tasks"].append({"id": id, "title": title, "done": False})


def action(number: int) -> Any:
    return task_added(id=f"t{number}", title="Water the plants on the balcony")


async def dispatched(journal: str, callers: int, *, with_id: bool = False) -> float:
    """Dispatches a second that `callers` get answered, each waiting for its last answer before its next request."""
    async with Store([board], journal=journal) as store:
        start = time.perf_counter()

        async def caller(number: int) -> int:
            done = 0
            while time.perf_counter() - start < SECONDS:
                await store.dispatch(action(done), id=f"c{number}-{done}" if with_id else None)
                done += 1
            return done

        done = sum(await asyncio.gather(*map(caller, range(callers))))
        return done / (time.perf_counter() - start)


async def row_bytes() -> int:
    """What the text of one of the journal's rows comes to."""
    seen: list[Change] = []
    async with Store([board]) as store:
        store.on_change(seen.append)
        await store.dispatch(action(1_000))
    change = seen[-1]
    words = (change.position.tag, change.slice, change.kind, change.cause.type, change.cause.id)
    return len(change.data) + len(change.cause.payload) + sum(map(len, words)) + 16


def bare(path: Path, size: int, group: int) -> float:
    """Rows a second, of `size` bytes each, in transactions of `group` rows."""
    sql = sqlite3.connect(path, isolation_level=None)
    try:
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        sql.execute("CREATE TABLE rows (seq INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT")
        data = b"x" * size
        done = 0
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            sql.execute("BEGIN IMMEDIATE")
            sql.executemany("INSERT INTO rows (data) VALUES (?)", [(data,)] * group)
            sql.execute("COMMIT")
            done += group
        return done / (time.perf_counter() - start)
    finally:
        sql.close()


def variants(folder: Path, size: int) -> dict[str, Callable[[], float]]:
    numbers = iter(range(1_000_000))

    def fresh() -> Path:
        return folder / f"{next(numbers)}.db"

    def store(callers: int, *, with_id: bool = False) -> float:
        return run(dispatched(f"sqlite:///{fresh()}", callers, with_id=with_id))

    return {
        "bare sqlite3, one row per transaction": lambda: bare(fresh(), size, 1),
        "bare sqlite3, 10 rows per transaction": lambda: bare(fresh(), size, 10),
        f"bare sqlite3, {MANY} rows per transaction": lambda: bare(fresh(), size, MANY),
        "sqlite, 1 caller": lambda: store(1),
        "sqlite, 10 callers": lambda: store(10),
        f"sqlite, {MANY} callers": lambda: store(MANY),
        f"sqlite, {MANY} callers, ids": lambda: store(MANY, with_id=True),
        "memory, 1 caller": lambda: run(dispatched("memory:", 1)),
        f"memory, {MANY} callers": lambda: run(dispatched("memory:", MANY)),
    }


def main() -> None:
    size = run(row_bytes())
    with tempfile.TemporaryDirectory() as folder:
        rounds = interleaved(variants(Path(folder), size), ROUNDS)
    base = next(iter(rounds.values()))
    print(f"Rows of {size} bytes; medians of {ROUNDS} interleaved rounds of {SECONDS:g} s.\n")
    table(
        ["variant", "per second", "minimum–maximum", "relative to bare"],
        [
            [name, short(median(each)), f"{short(min(each))}–{short(max(each))}", f"x{short(ratio(each, base))}"]
            for name, each in rounds.items()
        ],
    )
