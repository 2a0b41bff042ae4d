"""Erases slices from a SQLite journal, and then what SQLite has left of them in its files.

A portion of the history and of the idempotency records is searched at a time, while others write. One transaction then
replaces what was found, and what has been written meanwhile. After it, the rows are gone for everybody who reads. Their
bytes may still be in the write-ahead log, in free pages and in the gaps of pages, so the file is written anew, or, if
it is large, returns its free pages. The table `erasures` remembers what is left to do if the process ends before.

Invariants: the transaction is all of it or nothing. A row that is replaced keeps its place and its ledger and gets a
CRC of its own, the checkpoints get new sums, and the ledger of the head counts the changed records: whoever verifies
the journal finds it whole.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

import orjson

from statestream.core.change import ERASED, Change, Position
from statestream.core.erasing import without_erased
from statestream.core.errors import Unavailable
from statestream.journal.erasing import erasure, names_erased, record_after
from statestream.journal.sqlite import changes, checkpoints, space
from statestream.journal.sqlite.checksums import Ledger
from statestream.journal.sqlite.worker import SqliteWorker

PORTION: Final = 10_000
"""Rows that are searched at a time."""
TRUNCATIONS: Final = 5
"""How often the write-ahead log is emptied at most, if others use it meanwhile. Each time waits for them."""
_AMONG: Final = "(SELECT value FROM json_each(?))"

Key = tuple[str, str]
Confirm = Callable[[Position, Ledger], None]


class _Found(NamedTuple):
    """Changes to erase up to a seq, and the keys of records about the slices."""

    until: int
    seqs: list[int]
    keys: list[Key]


class Erasing:
    """The erasures of one file."""

    def __init__(self, writing: SqliteWorker, reading: SqliteWorker) -> None:
        self._writing, self._reading = writing, reading
        self._lock = asyncio.Lock()

    async def erase(self, names: Collection[str], actor: str | None, now: int, confirm: Confirm) -> Position | None:
        """`confirm` receives the head and its ledger once the erasure is durable. Raises Unavailable."""
        found = await self._find(names)

        def confirm_end(done: tuple[Position, Ledger] | None) -> None:
            if done is not None:
                confirm(*done)

        done = await self._writing.commit(lambda sql: _erase(sql, names, actor, found, now), confirm_end)
        await self.overwrite()
        return None if done is None else done[0]

    async def _find(self, names: Collection[str]) -> _Found:
        head = (await self._reading.run(changes.head)).seq
        seqs, keys, after = list[int](), list[Key](), 0
        while after < head:
            seqs += await self._reading.run(_changes_of, names, after, min(head, after + PORTION))
            after += PORTION
        last: Key | None = ("", "")
        while last is not None:
            some, last = await self._reading.run(_records_of, names, last)
            keys += some
        return _Found(head, seqs, keys)

    async def overwrite(self) -> None:
        """Leaves nothing in the files of what was erased. Raises Unavailable."""
        async with self._lock:  # those that wait find that it was done for them, too
            until = await self._reading.run(_left)
            if until is None:
                return
            if not await self._writing.run_outside(space.rewrite):
                while await self._writing.run(space.give_back_all):
                    await asyncio.sleep(0)
            for _ in range(TRUNCATIONS):
                if await self._writing.run_outside(space.empty_log):
                    await self._writing.run(_overwritten, until)
                    return
        raise Unavailable("what was erased is still in the journal's write-ahead log, because others use it; try again")


def _changes_of(sql: sqlite3.Connection, names: Collection[str], after: int, until: int) -> list[int]:
    """Those that are not erased yet."""
    query = f"SELECT seq FROM changes WHERE seq > ? AND seq <= ? AND slice IN {_AMONG} AND type <> ? ORDER BY seq"
    return [seq for (seq,) in sql.execute(query, (after, until, orjson.dumps(sorted(names)).decode(), ERASED))]


def _records_of(sql: sqlite3.Connection, names: Collection[str], after: Key) -> tuple[list[Key], Key | None]:
    """The keys among the next records, and the last key that was looked at, if there may be more."""
    wanted = [f'["{name}",' for name in names]
    query = "SELECT actor, id, changes FROM requests WHERE (actor, id) > (?, ?) ORDER BY actor, id LIMIT ?"
    rows = sql.execute(query, (*after, PORTION)).fetchall()
    keys = [(actor, id) for actor, id, pairs in rows if any(each in pairs for each in wanted)]
    return keys, (rows[-1][0], rows[-1][1]) if len(rows) == PORTION else None


def _erase(
    sql: sqlite3.Connection, names: Collection[str], actor: str | None, found: _Found, now: int
) -> tuple[Position, Ledger] | None:
    """The head and its ledger afterwards; None if there was nothing to erase."""
    versions = changes.versions(sql, names)
    seqs = found.seqs + _changes_of(sql, names, found.until, changes.head(sql).seq)
    keys = _erase_changes(sql, names, seqs)
    saved = _erase_saved(sql, names)
    gone, new = _erase_records(sql, names, {*found.keys, *keys})
    if not (seqs or saved or gone or any(versions.values())):
        return None
    _, position, ledger = changes.append(sql, erasure(changes.head(sql), versions, actor), now)
    if gone:
        ledger = ledger.after(gone, new)
        changes.set_ledger(sql, position, ledger)
    rows = [(name, position.seq, 0) for name in names]
    sql.executemany("INSERT OR REPLACE INTO erasures VALUES (?, ?, ?)", rows)
    return position, ledger


def _erase_changes(sql: sqlite3.Connection, names: Collection[str], seqs: Iterable[int]) -> set[Key]:
    """Returns the keys of the requests that made them."""
    keys, done = set[Key](), 0
    for seq in seqs:
        if seq <= done or not _exists(sql, seq):  # trimmed meanwhile
            continue
        request = _request(sql, seq)
        done = request[-1].version
        keys.update((change.cause.actor or "", change.cause.id) for change in request)
        for change in without_erased(request, names).values():
            *columns, crc, _ = changes.row_of(change)
            sql.execute(
                "UPDATE changes SET kind = ?, data = ?, type = ?, request = ?, actor = ?, payload = ?, crc = ?"
                " WHERE seq = ?",
                (*columns[4:10], crc, change.version),
            )
    return keys


def _exists(sql: sqlite3.Connection, seq: int) -> bool:
    return sql.execute("SELECT 1 FROM changes WHERE seq = ?", (seq,)).fetchone() is not None


def _request(sql: sqlite3.Connection, seq: int) -> list[Change]:
    """The changes of the request that has made one: they follow each other."""
    found = [changes.change_at(sql, seq)]
    while (before := _same_request(sql, found[0], found[0].version - 1)) is not None:
        found.insert(0, before)
    while (after := _same_request(sql, found[-1], found[-1].version + 1)) is not None:
        found.append(after)
    return found


def _same_request(sql: sqlite3.Connection, one: Change, seq: int) -> Change | None:
    change = changes.change_at(sql, seq) if _exists(sql, seq) else None
    same = change is not None and (change.position.tag, change.cause.id) == (one.position.tag, one.cause.id)
    return change if same else None


def _erase_saved(sql: sqlite3.Connection, names: Collection[str]) -> bool:
    """Whether checkpoints had any of the slices."""
    points, had = checkpoints.points(sql), False
    for name in names:
        query = "SELECT checkpoint, crc FROM snapshots WHERE slice = ? ORDER BY checkpoint DESC"
        rows = sql.execute(query.replace("crc", "CASE WHEN value IS NULL THEN NULL ELSE crc END"), (name,)).fetchall()
        for number, point in enumerate(points):
            crc = next((crc for checkpoint, crc in rows if checkpoint <= point.seq), None)
            if crc is not None:
                points[number] = point._replace(slices=point.slices - 1, total=point.total - crc)
        had = had or any(crc is not None for _, crc in rows)
        sql.execute("DELETE FROM snapshots WHERE slice = ?", (name,))
    for point in points if had else ():
        point.put(sql)
    return had


def _erase_records(
    sql: sqlite3.Connection, names: Collection[str], keys: Collection[Key]
) -> tuple[list[int], list[int]]:
    """Returns the CRCs of the rows before and after."""
    gone, new = [], []
    for key in keys:
        kept = changes.record(sql, key)
        if kept is None or not names_erased(kept.record, names):
            continue
        row = changes.record_row(kept.key, record_after(kept.record, names), kept.at)
        gone.append(sql.execute("SELECT crc FROM requests WHERE actor = ? AND id = ?", key).fetchone()[0])
        new.append(row[7])
        query = "UPDATE requests SET digest = ?, changes = ?, crc = ? WHERE actor = ? AND id = ?"
        sql.execute(query, (row[2], row[5], row[7], *key))
    return gone, new


def _left(sql: sqlite3.Connection) -> int | None:
    """The newest erasure whose bytes may still be in the files."""
    seq: int | None = sql.execute("SELECT max(seq) FROM erasures WHERE overwritten = 0").fetchone()[0]
    return seq


def _overwritten(sql: sqlite3.Connection, until: int) -> None:
    sql.execute("UPDATE erasures SET overwritten = 1 WHERE seq <= ? AND overwritten = 0", (until,))
