"""The journal in a SQLite file: one node, or several processes of one host.

Promise after a crash of the process, of the system or of its power: whatever `append` returned for is
there, because the write-ahead log is flushed (synchronous=FULL) before it returns. The promise is as
good as the disk's own word about a flush.

Law: one thread owns the connection; every public coroutine is one job on it and one transaction. SQL
of the tables stands in schema.sql. Every sqlite3 error is translated here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from statestream.change import START, Cause, Change, Position, Record, RequestKey, SliceState, Snapshot, new_tag
from statestream.errors import Conflict, Duplicate, Expired, Forked, JournalUnusable, Unavailable
from statestream.journal.contract import (
    REMEMBERED_MS,
    Appended,
    Batch,
    Entry,
    Retention,
    number,
    record,
    replayed,
    trim_to,
)

T = TypeVar("T")
APPLICATION_ID: Final = 0x53745374  # "StSt"
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1
_COLUMNS: Final = "seq, tag, slice, from_version, kind, data, type, request, actor, payload, at"


class SqliteJournal:
    """See the module's text. `path` is created with its tables if there is no file yet."""

    def __init__(self, path: str | Path, retention: Retention | None = None) -> None:
        self.path = Path(path)
        self.retention = retention or Retention()
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    # running on the thread

    async def open(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="statestream-sqlite")
        try:
            await self._run(self._open)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self._close)
        thread.shutdown()

    async def load(self, at: Position | None = None) -> Snapshot:
        return await self._run(self._load, at)

    async def floor(self) -> Position:
        return await self._run(self._oldest)

    async def append(self, batch: Batch) -> list[Appended]:
        return await self._run(self._append, batch)

    async def recall(self, keys: Iterable[RequestKey]) -> dict[RequestKey, Record]:
        return await self._run(self._recall, list(keys))

    async def read(self, after: Position, limit: int) -> list[Change]:
        return await self._run(self._read, after, limit)

    async def wait(self, after: Position) -> None:
        """Polls: another process on the same file cannot wake this one."""
        await asyncio.sleep(POLL_SECONDS)
        while await self._run(self._newest) == after:
            await asyncio.sleep(POLL_SECONDS)

    async def checkpoint(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        rows = [
            (
                name,
                position.seq,
                *((0, "0", None) if state is None else (state.version, state.position.tag, state.encoded())),
            )
            for name, state in slices.items()
        ]
        await self._run(self._checkpoint, position, rows)

    async def _run(self, job: Callable[..., T], *arguments: Any) -> T:
        if self._thread is None:
            raise Unavailable(f"expected an open journal, {self.path} is closed")
        future = asyncio.get_running_loop().run_in_executor(self._thread, job, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    # the connection

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            self._check_owner(self._connection)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._transaction("IMMEDIATE") as sql:
                if sql.execute("PRAGMA user_version").fetchone()[0] == 0:
                    self._create(sql)
        except (sqlite3.Error, OSError, Unavailable) as error:
            raise JournalUnusable(
                f"expected a statestream journal at {self.path} that can be read and written: {error}"
            ) from error

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

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self, mode: str = "DEFERRED") -> Iterator[sqlite3.Connection]:
        """All or nothing. Every error of sqlite3 leaves it as Unavailable, after a rollback."""
        sql = self._connection
        if sql is None:
            raise Unavailable(f"expected an open journal, {self.path} is closed")
        try:
            sql.execute(f"BEGIN {mode}")
            try:
                yield sql
                sql.execute("COMMIT")
            except BaseException:
                if sql.in_transaction:
                    sql.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise Unavailable(
                f"the journal {self.path} could not be used: {error}; try again with the same id"
            ) from error

    # the jobs

    def _load(self, at: Position | None) -> Snapshot:
        with self._transaction() as sql:
            position = at or self._head(sql)
            self._verify(sql, position)
            checkpoint = sql.execute(
                "SELECT coalesce(max(seq), 0) FROM checkpoints WHERE seq <= ?", (position.seq,)
            ).fetchone()[0]
            rows = sql.execute(
                "SELECT slice, version, tag, value, max(checkpoint) FROM snapshots"
                " WHERE checkpoint <= ? GROUP BY slice",
                (checkpoint,),
            )  # SQLite takes the other columns from the row that has the maximum
            held = {
                name: (orjson.loads(value), Position(seq=version, tag=tag))
                for name, version, tag, value, _ in rows
                if value is not None
            }
            rows = sql.execute(
                f"SELECT {_COLUMNS} FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq", (checkpoint, position.seq)
            )
            newer = [_change(row) for row in rows]
            return Snapshot(
                position=position,
                slices=replayed(held, newer),
                checkpoint=checkpoint,
                changed=frozenset(change.slice for change in newer),
            )

    def _oldest(self) -> Position:
        with self._transaction() as sql:
            return _position(sql.execute("SELECT seq, tag FROM floor").fetchone())

    def _head(self, sql: sqlite3.Connection) -> Position:
        row = sql.execute("SELECT seq, tag FROM changes ORDER BY seq DESC LIMIT 1").fetchone()
        return _position(row or sql.execute("SELECT seq, tag FROM floor").fetchone())

    def _newest(self) -> Position:
        with self._transaction() as sql:
            return self._head(sql)

    def _verify(self, sql: sqlite3.Connection, position: Position) -> None:
        floor = _position(sql.execute("SELECT seq, tag FROM floor").fetchone())
        if position.seq < floor.seq:
            raise Expired(f"expected a position from {floor} on, got one that is no longer kept")
        row = sql.execute("SELECT tag FROM changes WHERE seq = ?", (position.seq,)).fetchone()
        if position != floor and (row is None or row[0] != position.tag):
            raise Forked("expected a position of this history, got one of another; read the state anew")

    def _append(self, batch: Batch) -> list[Appended]:
        with self._transaction("IMMEDIATE") as sql:
            self._verify(sql, batch.read)
            done = self._find(sql, [entry.remember for entry in batch.entries if entry.remember])
            if done:
                raise Duplicate(done)
            self._compare(sql, batch.versions)
            outcomes = number(batch, self._head(sql), new_tag())
            sql.executemany(
                f"INSERT INTO changes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(change) for outcome in outcomes for change in outcome.changes],
            )
            self._move(sql, batch, outcomes)
            self._remember(sql, batch.entries, outcomes)
        return outcomes

    def _compare(self, sql: sqlite3.Connection, versions: Mapping[str, int]) -> None:
        for name, version in versions.items():
            row = sql.execute("SELECT version FROM versions WHERE slice = ?", (name,)).fetchone()
            if (row[0] if row else 0) != version:
                raise Conflict(f"expected to be first to change {name}; read what came before")

    def _move(self, sql: sqlite3.Connection, batch: Batch, outcomes: Sequence[Appended]) -> None:
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

    def _remember(self, sql: sqlite3.Connection, entries: Sequence[Entry], outcomes: Sequence[Appended]) -> None:
        rows = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            if entry.remember:
                kept = record(entry, outcome)
                where = (kept.position.seq, kept.position.tag, orjson.dumps(kept.changes).decode(), entry.at)
                rows.append((*entry.remember, kept.digest, *where))
        if rows:
            sql.execute("DELETE FROM requests WHERE at < ?", (_now() - REMEMBERED_MS,))
            sql.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def _recall(self, keys: Sequence[RequestKey]) -> dict[RequestKey, Record]:
        with self._transaction() as sql:
            return self._find(sql, keys)

    def _find(self, sql: sqlite3.Connection, keys: Sequence[RequestKey]) -> dict[RequestKey, Record]:
        found = {}
        query = "SELECT digest, seq, tag, changes FROM requests WHERE actor = ? AND id = ? AND at >= ?"
        for key in keys:
            row = sql.execute(query, (*key, _now() - REMEMBERED_MS)).fetchone()
            if row is not None:
                changes = tuple((name, version) for name, version in orjson.loads(row[3]))
                found[key] = Record(digest=row[0], position=Position(seq=row[1], tag=row[2]), changes=changes)
        return found

    def _read(self, after: Position, limit: int) -> list[Change]:
        with self._transaction() as sql:
            self._verify(sql, after)
            query = f"SELECT {_COLUMNS} FROM changes WHERE seq > ? ORDER BY seq LIMIT ?"
            return [_change(row) for row in sql.execute(query, (after.seq, limit))]

    def _checkpoint(self, position: Position, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._transaction("IMMEDIATE") as sql:
            kept_at = sql.execute("SELECT coalesce(max(seq), 0) FROM checkpoints").fetchone()[0]
            if position.seq <= kept_at:
                return
            size = sql.execute(
                "SELECT coalesce(sum(length(data) + length(payload) + 200), 0) FROM changes WHERE seq > ? AND seq <= ?",
                (kept_at, position.seq),
            ).fetchone()[0]
            sql.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", (position.seq, position.tag, _now(), size))
            sql.executemany(
                "INSERT INTO snapshots (slice, checkpoint, version, tag, value) VALUES (?, ?, ?, ?, ?)", rows
            )
            self._trim(sql)

    def _trim(self, sql: sqlite3.Connection) -> None:
        """Takes the oldest changes away, up to a checkpoint, and the snapshots that only older positions needed."""
        points = [
            (Position(seq=seq, tag=tag), at, size)
            for seq, tag, at, size in sql.execute("SELECT seq, tag, at, bytes FROM checkpoints ORDER BY seq")
        ]
        floor = _position(sql.execute("SELECT seq, tag FROM floor").fetchone())
        newer = [point for point in points if point[0].seq > floor.seq]
        target = trim_to(newer, self._head(sql), self.retention, _now())
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


def _now() -> int:
    return int(time.time() * 1000)


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
