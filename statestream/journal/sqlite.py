"""The journal in a SQLite file: one node, or several processes of one host.

Promise after a crash of the process, of the system or of its power: whatever `append` returned for is
there, because the write-ahead log is flushed (synchronous=FULL) before it returns. The promise is as
good as the disk's own word about a flush.

Invariants: every public coroutine is one job and one transaction, on the connection that writes or on the
one that reads, so that nobody who reads the past holds up a commit. The tables stand in schema.sql.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import orjson

from statestream.core.change import (
    START,
    Cause,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Position,
    SliceState,
    Snapshot,
    new_tag,
    now_ms,
)
from statestream.core.errors import Conflict, Duplicate, Expired, Forked, Gap, JournalUnusable, Unavailable
from statestream.journal.contract import (
    RECENT,
    REMEMBERED_MS,
    Appended,
    Batch,
    Entry,
    Retention,
    everything,
    number,
    page_of,
    record,
    replayed,
    trim_to,
)
from statestream.journal.sqlite_worker import SqliteWorker, transaction

APPLICATION_ID: Final = 0x53745374  # "StSt"
SCHEMA_VERSION: Final = 1
POLL_SECONDS: Final = 0.1
_COLUMNS: Final = "seq, tag, slice, from_version, kind, data, type, request, actor, payload, at"


class SqliteJournal:
    """The journal in the file at `path`, created where there is none: what `append` returned for survives a crash."""

    def __init__(self, path: str | Path, retention: Retention | None = None) -> None:
        self.path = Path(path)
        self.retention = retention or Retention()
        self._writing = SqliteWorker(self.path, "IMMEDIATE")
        self._reading = SqliteWorker(self.path, "DEFERRED")

    async def open(self) -> None:
        try:
            await self._writing.open(self._prepare)
            await self._reading.open(lambda _: None)
        except (sqlite3.Error, OSError, Unavailable) as error:
            await self.close()
            raise JournalUnusable(
                f"expected a statestream journal at {self.path} that can be read and written: {error}"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._reading.close()
        await self._writing.close()

    async def load(self, at: Position | None = None, wanted: Callable[[str], bool] = everything) -> Snapshot:
        return await self._reading.run(self._load, at, wanted)

    async def earliest(self) -> Position:
        return await self._reading.run(_earliest)

    async def append(self, batch: Batch) -> list[Appended]:
        return await self._writing.run(self._append, batch)

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        return await self._reading.run(_find, list(keys))

    async def read(self, after: Position, limit: int) -> list[Change]:
        return await self._reading.run(_read, after, limit)

    async def wait(self, after: Position) -> None:
        """Polls: another process on the same file cannot wake this one."""
        await asyncio.sleep(POLL_SECONDS)
        while await self._reading.run(_head) == after:
            await asyncio.sleep(POLL_SECONDS)

    async def checkpoint(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        rows = [(name, position.seq, *_kept(state)) for name, state in slices.items()]
        await self._writing.run(self._checkpoint, position, rows)

    # the file

    def _prepare(self, sql: sqlite3.Connection) -> None:
        self._check_owner(sql)
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("PRAGMA synchronous = FULL")
        with transaction(sql, "IMMEDIATE"):
            if sql.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._create(sql)

    def _check_owner(self, sql: sqlite3.Connection) -> None:
        owner = sql.execute("PRAGMA application_id").fetchone()[0]
        version = sql.execute("PRAGMA user_version").fetchone()[0]
        tables = sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if owner != APPLICATION_ID and (owner or version or tables):
            raise JournalUnusable(f"expected a statestream journal, {self.path} is another program's database")
        if version > SCHEMA_VERSION:
            raise JournalUnusable(
                f"expected a journal of format {SCHEMA_VERSION}, {self.path} has {version}: upgrade statestream"
            )
        damage = sql.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise JournalUnusable(f"expected an intact journal, {self.path} is damaged ({damage}); restore a backup")

    def _create(self, sql: sqlite3.Connection) -> None:
        script = resources.files("statestream.journal").joinpath("schema.sql").read_text()
        for statement in script.split(";\n"):
            sql.execute(statement)
        sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    # the jobs

    def _load(self, sql: sqlite3.Connection, at: Position | None, wanted: Callable[[str], bool]) -> Snapshot:
        position = at or _head(sql)
        _verify(sql, position)
        query = "SELECT coalesce(max(seq), 0) FROM checkpoints WHERE seq <= ?"
        checkpoint = sql.execute(query, (position.seq,)).fetchone()[0]
        since = _since(sql, position, checkpoint) if at is None else _at(sql, checkpoint)
        rows = sql.execute(
            "SELECT slice, version, tag, value, max(checkpoint) FROM snapshots WHERE checkpoint <= ? GROUP BY slice",
            (checkpoint,),
        )  # SQLite takes the other columns from the row that has the maximum
        try:
            held = {
                name: (orjson.loads(value), Position(seq=version, tag=tag))
                for name, version, tag, value, _ in rows
                if value is not None and wanted(name)
            }
            changes = tuple(change for change in _between(sql, since.seq, position.seq) if wanted(change.slice))
            slices = replayed(held, (change for change in changes if change.version > checkpoint))
        except (Gap, KeyError, orjson.JSONDecodeError) as error:
            raise JournalUnusable(f"expected changes that fit each other, the journal has others: {error}") from error
        return Snapshot(position=position, slices=slices, checkpoint=checkpoint, since=since, changes=changes)

    def _append(self, sql: sqlite3.Connection, batch: Batch) -> list[Appended]:
        _verify(sql, batch.read)
        done = _find(sql, [entry.idempotency_key for entry in batch.entries if entry.idempotency_key])
        if done:
            raise Duplicate(done)
        _compare(sql, batch.versions)
        outcomes = number(batch, _head(sql), new_tag())
        sql.executemany(
            f"INSERT INTO changes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [_row(change) for outcome in outcomes for change in outcome.changes],
        )
        _move(sql, outcomes)
        _remember(sql, batch.entries, outcomes)
        return outcomes

    def _checkpoint(self, sql: sqlite3.Connection, position: Position, rows: Sequence[tuple[Any, ...]]) -> None:
        kept_at = sql.execute("SELECT coalesce(max(seq), 0) FROM checkpoints").fetchone()[0]
        if position.seq <= kept_at:
            return
        size = sql.execute(
            "SELECT coalesce(sum(length(data) + length(payload) + 200), 0) FROM changes WHERE seq > ? AND seq <= ?",
            (kept_at, position.seq),
        ).fetchone()[0]
        sql.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (position.seq, position.tag, now_ms(), size))
        sql.executemany("INSERT INTO snapshots (slice, checkpoint, version, tag, value) VALUES (?, ?, ?, ?, ?)", rows)
        _trim(sql, self.retention)


def _earliest(sql: sqlite3.Connection) -> Position:
    return _position(sql.execute("SELECT seq, tag FROM floor").fetchone())


def _head(sql: sqlite3.Connection) -> Position:
    row = sql.execute("SELECT seq, tag FROM changes ORDER BY seq DESC LIMIT 1").fetchone()
    return _position(row) if row else _earliest(sql)


def _at(sql: sqlite3.Connection, seq: int) -> Position:
    """The position with that seq, which is kept."""
    row = sql.execute("SELECT seq, tag FROM changes WHERE seq = ?", (seq,)).fetchone()
    return _position(row) if row else _earliest(sql)


def _since(sql: sqlite3.Connection, head: Position, checkpoint: int) -> Position:
    """From where the newest state tells its changes: the checkpoint, or further back for readers that return soon."""
    return _at(sql, max(_earliest(sql).seq, min(checkpoint, head.seq - RECENT)))


def _between(sql: sqlite3.Connection, after: int, until: int) -> Iterator[Change]:
    query = f"SELECT {_COLUMNS} FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq"
    return map(_change, sql.execute(query, (after, until)))


def _read(sql: sqlite3.Connection, after: Position, limit: int) -> list[Change]:
    _verify(sql, after)
    return page_of(_between(sql, after.seq, after.seq + limit))


def _verify(sql: sqlite3.Connection, position: Position) -> None:
    """Raises Forked or Expired unless `position` is part of this history and what comes behind it is kept."""
    earliest = _earliest(sql)
    if position.seq < earliest.seq:
        raise Expired(f"expected a position from {earliest} on, got one that is no longer kept")
    row = sql.execute("SELECT tag FROM changes WHERE seq = ?", (position.seq,)).fetchone()
    if position != earliest and (row is None or row[0] != position.tag):
        raise Forked("expected a position of this history, got one of another; read the state anew")


def _compare(sql: sqlite3.Connection, versions: Mapping[str, int]) -> None:
    for name, version in versions.items():
        row = sql.execute("SELECT version FROM versions WHERE slice = ?", (name,)).fetchone()
        if (row[0] if row else 0) != version:
            raise Conflict(f"expected to be first to change {name}; read what came before")


def _move(sql: sqlite3.Connection, outcomes: Sequence[Appended]) -> None:
    """The versions of the slices that have changed."""
    versions: dict[str, int] = {}
    for outcome in outcomes:
        versions.update((c.slice, 0 if c.kind == "removed" else c.version) for c in outcome.changes)
    sql.executemany(
        "DELETE FROM versions WHERE slice = ?", [(name,) for name, version in versions.items() if not version]
    )
    sql.executemany(
        "INSERT INTO versions VALUES (?, ?) ON CONFLICT DO UPDATE SET version = excluded.version",
        [item for item in versions.items() if item[1]],
    )


def _remember(sql: sqlite3.Connection, entries: Sequence[Entry], outcomes: Sequence[Appended]) -> None:
    rows = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if entry.idempotency_key:
            kept = record(entry, outcome)
            where = (kept.position.seq, kept.position.tag, orjson.dumps(kept.changes).decode(), entry.at)
            rows.append((*entry.idempotency_key, kept.digest, *where))
    if rows:
        sql.execute("DELETE FROM requests WHERE at < ?", (now_ms() - REMEMBERED_MS,))
        sql.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _find(sql: sqlite3.Connection, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
    found = {}
    query = "SELECT digest, seq, tag, changes FROM requests WHERE actor = ? AND id = ? AND at >= ?"
    for key in keys:
        row = sql.execute(query, (*key, now_ms() - REMEMBERED_MS)).fetchone()
        if row is not None:
            changes = tuple((name, version) for name, version in orjson.loads(row[3]))
            found[key] = IdempotencyRecord(digest=row[0], position=Position(seq=row[1], tag=row[2]), changes=changes)
    return found


def _trim(sql: sqlite3.Connection, retention: Retention) -> None:
    """Takes the oldest changes away, up to a checkpoint, and the snapshots that only older positions needed."""
    earliest = _earliest(sql)
    points = [
        (Position(seq=seq, tag=tag), at, size)
        for seq, tag, at, size in sql.execute("SELECT seq, tag, at, bytes FROM checkpoints ORDER BY seq")
        if seq > earliest.seq
    ]
    target = trim_to(points, _head(sql), retention, now_ms())
    if target is None:
        return
    sql.execute("DELETE FROM changes WHERE seq <= ?", (target.seq,))
    sql.execute("DELETE FROM checkpoints WHERE seq < ?", (target.seq,))
    sql.execute("UPDATE floor SET seq = ?, tag = ?", (target.seq, target.tag))
    sql.execute(
        "DELETE FROM snapshots AS old WHERE checkpoint < ("
        " SELECT max(checkpoint) FROM snapshots WHERE slice = old.slice AND checkpoint <= :floor)",
        {"floor": target.seq},
    )
    sql.execute("DELETE FROM snapshots WHERE value IS NULL AND checkpoint <= ?", (target.seq,))


def _kept(state: SliceState | None) -> tuple[int, str, bytes | None]:
    return (0, "0", None) if state is None else (state.version, state.position.tag, state.encoded())


def _position(row: tuple[int, str]) -> Position:
    return Position(seq=row[0], tag=row[1]) if row[0] else START


def _row(change: Change) -> tuple[Any, ...]:
    cause = change.cause
    where = (change.position.seq, change.position.tag, change.slice, change.from_version, change.kind, change.data)
    return (*where, cause.type, cause.id, cause.actor, cause.payload, change.at)


def _change(row: tuple[Any, ...]) -> Change:
    return Change(
        position=Position(seq=row[0], tag=row[1]),
        slice=row[2],
        from_version=row[3],
        kind=row[4],
        data=row[5],
        cause=Cause(type=row[6], id=row[7], actor=row[8], payload=row[9]),
        at=row[10],
    )
