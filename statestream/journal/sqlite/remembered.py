"""How much a SQLite journal remembers of requests: idempotency records that are too old or too many are forgotten.

Invariants: `bytes` is an estimate of the space that the records take in the file. This process counts the records that
it adds; a recount, which reads all records, also finds those of other processes. An append that exceeds the limit
forgets as much as it adds. Every job does about a portion at most. The ledger of the head counts the records, so a job
that deletes records also rewrites the ledger.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from statestream.core.change import Position
from statestream.journal.contract import IDEMPOTENCY_MS, Appended, Batch, Entry
from statestream.journal.sqlite import changes
from statestream.journal.sqlite.checksums import Ledger
from statestream.journal.sqlite.worker import SqliteWorker

RECORD_BYTES: Final = 100
PAIR_BYTES: Final = 16
PORTION_ROWS: Final = 1_000
COUNT_ROWS: Final = 10_000
_SIZE: Final = f"2 * (length(actor) + length(id)) + length(digest) + length(changes) + {RECORD_BYTES}"
"""A record is found by its key and by its age, so its key is in the file twice."""

Key = tuple[str, str]


class Remembered:
    """The idempotency records of one file, which take about `bytes`: at most `limit`, if it is not 0."""

    def __init__(self, writing: SqliteWorker, reading: SqliteWorker, limit: int) -> None:
        self._writing, self._reading = writing, reading
        self._limit, self.bytes = limit, 0

    @property
    def _excess(self) -> int:
        """The bytes beyond the limit; negative if there are fewer."""
        return self.bytes - self._limit if self._limit else -sys.maxsize

    async def append(self, batch: Batch, now: int, confirm: Callable[[Position, Ledger], None]) -> list[Appended]:
        """`changes.append`, within the limit. `confirm` receives the head and its ledger once they are durable."""
        excess = self._excess
        done = await self._writing.commit(
            lambda sql: _append(sql, batch, now, excess), lambda done: confirm(done.head, done.ledger)
        )
        self.bytes += done.growth  # only now, because uncommitted records do not count
        return done.outcomes

    async def forget(self, now: int) -> None:
        """Forgets the records that are too old or too many."""
        while await self._reading.run(_may_forget, now, self._excess):
            self.bytes -= await self._writing.run(_forget, now, self._excess, PORTION_ROWS)

    async def recount(self) -> None:
        after: Key | None = ("", "")
        total = 0
        while after is not None:
            size, after = await self._reading.run(_count, after)
            total += size
        self.bytes = total


class _Done(NamedTuple):
    """The result of an append. `growth` is the growth of the records, in bytes."""

    outcomes: list[Appended]
    head: Position
    ledger: Ledger
    growth: int


def _append(sql: sqlite3.Connection, batch: Batch, now: int, excess: int) -> _Done:
    outcomes, head, ledger = changes.append(sql, batch, now)
    added = [_size(*pair) for pair in zip(batch.entries, outcomes, strict=True) if pair[0].idempotency_key]
    growth = sum(added)
    if added and excess + growth > 0:
        growth -= _forget(sql, now, excess + growth, 2 * len(added) + PORTION_ROWS // 10)
        head, ledger = changes.newest(sql)
    return _Done(outcomes, head, ledger, growth)


def _forget(sql: sqlite3.Connection, now: int, excess: int, rows: int) -> int:
    """Forgets up to that many of the oldest records that are too old or exceed the limit. Returns their bytes."""
    freed, forgotten, gone = 0, [], []
    query = f"SELECT actor, id, at, crc, {_SIZE} FROM requests ORDER BY at LIMIT ?"
    for actor, id, at, crc, size in sql.execute(query, (rows,)):
        if at >= now - IDEMPOTENCY_MS and freed >= excess:
            break
        freed += size
        forgotten.append((actor, id))
        gone.append(crc)
    sql.executemany("DELETE FROM requests WHERE actor = ? AND id = ?", forgotten)
    if gone:
        head, ledger = changes.newest(sql)
        changes.set_ledger(sql, head, ledger.after(gone, []))
    return freed


def _may_forget(sql: sqlite3.Connection, now: int, excess: int) -> bool:
    oldest = sql.execute("SELECT min(at) FROM requests").fetchone()[0]
    return oldest is not None and (oldest < now - IDEMPOTENCY_MS or excess > 0)


def _count(sql: sqlite3.Connection, after: Key) -> tuple[int, Key | None]:
    """The bytes of the next records in the order of their keys, and the key of the last one if there may be more."""
    following = "FROM requests WHERE (actor, id) > (?, ?)"
    last: Key | None = sql.execute(
        f"SELECT actor, id {following} ORDER BY actor, id LIMIT 1 OFFSET ?", (*after, COUNT_ROWS - 1)
    ).fetchone()
    until, key = (" AND (actor, id) <= (?, ?)", last) if last else ("", ())
    size: int = sql.execute(f"SELECT coalesce(sum({_SIZE}), 0) {following}{until}", (*after, *key)).fetchone()[0]
    return size, last


def _size(entry: Entry, outcome: Appended) -> int:
    key: Sequence[str] = entry.idempotency_key or ()
    pairs = sum(len(change.slice) + PAIR_BYTES for change in outcome.changes)
    return 2 * sum(map(len, key)) + len(entry.digest) + pairs + RECORD_BYTES
