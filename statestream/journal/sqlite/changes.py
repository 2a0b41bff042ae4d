"""The jobs of a SQLite journal on changes, idempotency records and positions. Each runs in a transaction of the worker.

Invariants: values are always bound; SQL is put together from constants of this file only. `schema.sql` has the tables.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from statestream.core.change import (
    START,
    Cause,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    Position,
    new_tag,
    now_ms,
)
from statestream.core.errors import Expired, Forked
from statestream.core.selection import Selection
from statestream.journal.contract import (
    IDEMPOTENCY_MS,
    Appended,
    Batch,
    Conflict,
    Duplicate,
    Entry,
    idempotency_record,
    number,
    page_of,
)

_COLUMNS: Final = "seq, tag, slice, from_version, kind, data, type, request, actor, payload, at"


def earliest(sql: sqlite3.Connection) -> Position:
    return _position(sql.execute("SELECT seq, tag FROM floor").fetchone())


def head(sql: sqlite3.Connection) -> Position:
    row = sql.execute("SELECT seq, tag FROM changes ORDER BY seq DESC LIMIT 1").fetchone()
    return _position(row) if row else earliest(sql)


def _position(row: tuple[int, str]) -> Position:
    return Position(seq=row[0], tag=row[1]) if row[0] else START


def verify(sql: sqlite3.Connection, position: Position) -> None:
    """Raises Forked or Expired unless `position` is part of this history and changes after it are kept."""
    oldest = earliest(sql)
    if position.seq < oldest.seq:
        raise Expired(f"the journal goes back to {oldest} only; start without a position")
    row = sql.execute("SELECT tag FROM changes WHERE seq = ?", (position.seq,)).fetchone()
    if position != oldest and (row is None or row[0] != position.tag):
        raise Forked("the position is not part of this history; start without a position")


def append(sql: sqlite3.Connection, batch: Batch) -> list[Appended]:
    verify(sql, batch.read)
    records = lookup(sql, [entry.idempotency_key for entry in batch.entries if entry.idempotency_key])
    if records:
        raise Duplicate(records)
    _compare(sql, batch.versions)
    outcomes = number(batch, head(sql), new_tag())
    sql.executemany(
        f"INSERT INTO changes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_row(change) for outcome in outcomes for change in outcome.changes],
    )
    _set_versions(sql, outcomes)
    _record(sql, batch.entries, outcomes)
    return outcomes


def _compare(sql: sqlite3.Connection, versions: Mapping[str, int]) -> None:
    for name, version in versions.items():
        row = sql.execute("SELECT version FROM versions WHERE slice = ?", (name,)).fetchone()
        if (row[0] if row else 0) != version:
            raise Conflict(f"{name} changed since it was read; reload and retry")


def _set_versions(sql: sqlite3.Connection, outcomes: Sequence[Appended]) -> None:
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


def _record(sql: sqlite3.Connection, entries: Sequence[Entry], outcomes: Sequence[Appended]) -> None:
    """Keeps the idempotency records, and forgets those that are too old."""
    rows = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if entry.idempotency_key:
            record = idempotency_record(entry, outcome)
            where = (record.position.seq, record.position.tag, orjson.dumps(record.changes).decode(), entry.at)
            rows.append((*entry.idempotency_key, record.digest, *where))
    if rows:
        sql.execute("DELETE FROM requests WHERE at < ?", (now_ms() - IDEMPOTENCY_MS,))
        sql.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def lookup(sql: sqlite3.Connection, keys: Sequence[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
    found = {}
    query = "SELECT digest, seq, tag, changes FROM requests WHERE actor = ? AND id = ? AND at >= ?"
    for key in keys:
        row = sql.execute(query, (*key, now_ms() - IDEMPOTENCY_MS)).fetchone()
        if row is not None:
            changes = tuple((name, version) for name, version in orjson.loads(row[3]))
            position = Position(seq=row[1], tag=row[2])
            found[key] = IdempotencyRecord(digest=row[0], position=position, changes=changes)
    return found


def read(sql: sqlite3.Connection, after: Position, limit: int, selection: Selection) -> Page:
    verify(sql, after)
    condition, values = condition_of(selection)
    query = f"SELECT {_COLUMNS} FROM changes WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq"
    last = sql.execute(
        "SELECT seq, tag FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq DESC LIMIT 1",
        (after.seq, after.seq + limit),
    ).fetchone()
    rows = sql.execute(query, (after.seq, after.seq + limit, *values))
    return page_of(map(_change, rows), after if last is None else _position(last))


def condition_of(selection: Selection) -> tuple[str, list[str]]:
    """The selection as a condition on the column `slice`, and the values it is bound to."""
    if selection.everything:
        return "TRUE", []
    names = sorted(selection.names)
    conditions = [f"slice IN ({', '.join('?' * len(names))})"]
    for family in sorted(selection.families):
        conditions.append("(slice >= ? AND slice < ?)")
        names += [f"{family}/", f"{family}0"]  # 0 is the character after the slash
    return f"({' OR '.join(conditions)})", names


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
