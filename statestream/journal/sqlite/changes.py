"""The jobs of a SQLite journal on changes, idempotency records and positions. Each runs in a transaction of the worker.

Invariants: values are always bound; SQL is put together from constants of this file only. `schema.sql` has the tables.
Each row is written with its CRC and checked when it is read, and each batch leaves a ledger (`checksums.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from statestream.core.change import (
    PAGE,
    START,
    Cause,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    Position,
    new_tag,
)
from statestream.core.errors import Expired, Forked
from statestream.core.folding import folded
from statestream.core.selection import Selection
from statestream.journal.contract import (
    IDEMPOTENCY_MS,
    PAGE_BYTES,
    Appended,
    Batch,
    Conflict,
    Duplicate,
    Entry,
    KeptRecord,
    idempotency_record,
    number,
    page_of,
)
from statestream.journal.sqlite.checksums import (
    Checked,
    Ledger,
    change_checksum,
    checksum,
    damaged,
    fits,
    request_checksum,
)

COMPARED: Final = 500
"""Versions in one query. SQLite allows at least 999 values."""
_FOLDED: Final = ("", b"", "", "", None, b"")
"""The columns of a folded change between its `from_version` and its time. There are many of them, so they are short."""
_COLUMNS: Final = "seq, tag, slice, from_version, kind, data, type, request, actor, payload, at"


def earliest(sql: sqlite3.Connection) -> Position:
    return _floor(sql)[0]


def _floor(sql: sqlite3.Connection) -> tuple[Position, object]:
    """The last trimmed position, and the ledger that was current then."""
    row = sql.execute("SELECT seq, tag, ledger, crc FROM floor").fetchone()
    if row is None or not fits(row[3], checksum, row[:3]):
        raise damaged("the earliest position of the journal")
    return _position(row), row[2]


def set_floor(sql: sqlite3.Connection, position: Position, ledger: Ledger) -> None:
    """Makes `position` the earliest one. The ledger is used from there if this is also the head."""
    columns = (position.seq, position.tag, ledger.packed(position))
    sql.execute("INSERT OR REPLACE INTO floor VALUES (1, ?, ?, ?, ?)", (*columns, checksum(columns)))


def head(sql: sqlite3.Connection) -> Position:
    return newest(sql)[0]


def newest(sql: sqlite3.Connection) -> tuple[Position, Ledger]:
    """The head, and the ledger that belongs to it."""
    row = sql.execute("SELECT seq, tag, ledger FROM changes ORDER BY seq DESC LIMIT 1").fetchone()
    position, packed = (_position(row), row[2]) if row else _floor(sql)
    return position, Ledger.unpacked(packed, position)


def set_ledger(sql: sqlite3.Connection, position: Position, ledger: Ledger) -> None:
    """Replaces the ledger of the head, which `position` is. A trim up to the head may be about to delete its row."""
    sql.execute("UPDATE changes SET ledger = ? WHERE seq = ?", (ledger.packed(position), position.seq))
    if earliest(sql) == position:
        set_floor(sql, position, ledger)


def _position(row: tuple[Any, ...]) -> Position:
    return Position(seq=row[0], tag=row[1]) if row[0] else START


def verify(sql: sqlite3.Connection, position: Position) -> None:
    """Raises Forked or Expired unless `position` is part of this history and changes after it are kept."""
    oldest = _position(sql.execute("SELECT seq, tag FROM floor").fetchone() or (0, ""))  # checked where it decides
    if position.seq < oldest.seq:
        raise Expired(f"the journal goes back to {earliest(sql)} only; start without a position")
    row = sql.execute("SELECT tag FROM changes WHERE seq = ?", (position.seq,)).fetchone()
    if position != oldest and (row is None or row[0] != position.tag):
        if earliest(sql).seq < position.seq <= head(sql).seq:
            change_at(sql, position.seq)  # unless it is damaged, it is of another history
        raise Forked("the position is not part of this history; start without a position")


def append(sql: sqlite3.Connection, batch: Batch, now: int) -> tuple[list[Appended], Position, Ledger]:
    """The outcomes, and the head and its ledger after them."""
    verify(sql, batch.read)
    records = lookup(sql, [entry.idempotency_key for entry in batch.entries if entry.idempotency_key], now)
    if records:
        raise Duplicate(records)
    held = _compare(sql, batch.versions)
    position, ledger = newest(sql)
    outcomes = number(batch, position, new_tag())
    changes = [change for outcome in outcomes for change in outcome.changes]
    gone, new = _set_versions(sql, changes, held)
    if any(entry.idempotency_key for entry in batch.entries):
        forgotten, recorded = _record(sql, batch.entries, outcomes, now)
        gone, new = gone + forgotten, new + recorded
    elif not changes:
        return outcomes, position, ledger
    ledger = ledger.after(gone, new)
    if changes:
        position = changes[-1].position
        insert(sql, [row_of(change) for change in changes], ledger)
    else:
        set_ledger(sql, position, ledger)
    return outcomes, position, ledger


def begin_at(sql: sqlite3.Connection, position: Position, versions: Mapping[str, int]) -> tuple[Position, Ledger]:
    """Makes the history of an empty journal begin at a position, at which slices have these versions."""
    before, ledger = newest(sql)
    if before != START:
        raise Forked(f"expected an empty journal, got one that ends at {before}")
    rows = [(*item, checksum(item)) for item in versions.items()]
    sql.executemany("INSERT INTO versions VALUES (?, ?, ?)", rows)
    ledger = ledger.after([], [row[2] for row in rows])
    set_floor(sql, position, ledger)
    return position, ledger


def adopt(sql: sqlite3.Connection, changes: Sequence[Change], records: Sequence[KeptRecord]) -> tuple[Position, Ledger]:
    """Appends changes and records of another journal as they are. Returns the head and its ledger."""
    position, ledger = newest(sql)
    first: dict[str, int] = {}
    for seq, change in enumerate(changes, position.seq + 1):
        if change.version != seq:
            raise Forked(f"expected change {seq}, got {change.version}")
        first.setdefault(change.slice, 0 if change.is_erased else change.from_version)
    try:
        held = _compare(sql, first)
    except Conflict as error:
        raise Forked(str(error)) from None
    gone, new = _set_versions(sql, changes, held)
    rows = [record_row(each.key, each.record, each.at) for each in records]
    sql.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    ledger = ledger.after(gone, [*new, *(row[7] for row in rows)])
    if changes:
        position = changes[-1].position
        insert(sql, [row_of(change) for change in changes], ledger)
    else:
        set_ledger(sql, position, ledger)
    return position, ledger


def insert(sql: sqlite3.Connection, rows: list[tuple[Any, ...]], ledger: Ledger | None) -> None:
    """Inserts rows that `row_of` has made. The last one gets the ledger."""
    if ledger is not None:
        position = _position(rows[-1])
        rows[-1] = (*rows[-1][:-1], ledger.packed(position))
    query = f"INSERT INTO changes ({_COLUMNS}, crc, ledger) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    sql.executemany(query, rows)


def _compare(sql: sqlite3.Connection, versions: Mapping[str, int]) -> dict[str, int]:
    """The CRCs of the rows that are there."""
    rows: dict[str, tuple[int, int]] = {}
    names = list(versions)
    for begin in range(0, len(names), COMPARED):
        some = padded(names[begin : begin + COMPARED])
        query = f"SELECT slice, version, crc FROM versions WHERE slice IN ({', '.join('?' * len(some))})"
        rows.update((name, (version, crc)) for name, version, crc in sql.execute(query, some))
    for name, version in versions.items():
        held, crc = rows.get(name, (0, 0))
        if held != version:
            if held and not fits(crc, checksum, (name, held)):
                raise damaged(f"the version of a slice at {head(sql)}")
            raise Conflict(f"{name} changed since it was read; reload and retry")
    return {name: crc for name, (_, crc) in rows.items()}


def versions(sql: sqlite3.Connection, names: Iterable[str]) -> dict[str, int]:
    """The versions of slices; 0 for each that does not exist."""
    found = {}
    for name in sorted(names):
        row = sql.execute("SELECT version FROM versions WHERE slice = ?", (name,)).fetchone()
        found[name] = 0 if row is None else row[0]
    return found


def _set_versions(
    sql: sqlite3.Connection, changes: Sequence[Change], held: Mapping[str, int]
) -> tuple[list[int], list[int]]:
    """Returns the CRCs of the rows that are gone and of those that are new."""
    versions = {change.slice: 0 if change.kind == "removed" else change.version for change in changes}
    gone = [held[name] for name in versions if name in held]
    rows = [(*item, checksum(item)) for item in versions.items() if item[1]]
    sql.executemany(
        "DELETE FROM versions WHERE slice = ?", [(name,) for name, version in versions.items() if not version]
    )
    sql.executemany(
        "INSERT INTO versions VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET version = excluded.version, crc = excluded.crc",
        rows,
    )
    return gone, [row[2] for row in rows]


def _record(
    sql: sqlite3.Connection, entries: Sequence[Entry], outcomes: Sequence[Appended], now: int
) -> tuple[list[int], list[int]]:
    """Stores the idempotency records, and replaces those that are too old.

    Returns the CRCs of the rows that are gone and of those that are new.
    """
    rows = []
    for entry, outcome in zip(entries, outcomes, strict=True):
        if entry.idempotency_key:
            rows.append(record_row(entry.idempotency_key, idempotency_record(entry, outcome), now))
    gone: list[int] = []
    oldest = sql.execute("SELECT min(at) FROM requests").fetchone()[0]
    if oldest is not None and oldest < now - IDEMPOTENCY_MS:  # rarely, because tidying forgets them
        query = "DELETE FROM requests WHERE actor = ? AND id = ? RETURNING crc"
        gone = [crc for row in rows for (crc,) in sql.execute(query, row[:2]).fetchall()]
    sql.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    return gone, [row[7] for row in rows]


def record_row(key: IdempotencyKey, record: IdempotencyRecord, at: int) -> tuple[Any, ...]:
    """With its CRC."""
    where = (record.position.seq, record.position.tag, orjson.dumps(record.changes).decode(), at)
    columns = (*key, record.digest, *where)
    return (*columns, request_checksum(columns))


def lookup(
    sql: sqlite3.Connection, keys: Sequence[IdempotencyKey], now: int
) -> dict[IdempotencyKey, IdempotencyRecord]:
    found = {}
    query = "SELECT digest, seq, tag, changes, at, crc FROM requests WHERE actor = ? AND id = ? AND at >= ?"
    for key in keys:
        row = sql.execute(query, (*key, now - IDEMPOTENCY_MS)).fetchone()
        if row is not None:
            found[key] = _kept_record((*key, *row)).record
    return found


def record(sql: sqlite3.Connection, key: IdempotencyKey) -> KeptRecord | None:
    """The record under a key, however old it is."""
    row = sql.execute("SELECT * FROM requests WHERE actor = ? AND id = ?", key).fetchone()
    return None if row is None else _kept_record(row)


def records(sql: sqlite3.Connection, after: IdempotencyKey, now: int) -> list[KeptRecord]:
    """The next records that are not too old, in the order of their keys."""
    query = "SELECT * FROM requests WHERE (actor, id) > (?, ?) AND at >= ? ORDER BY actor, id LIMIT ?"
    return [_kept_record(row) for row in sql.execute(query, (*after, now - IDEMPOTENCY_MS, PAGE))]


def _kept_record(row: tuple[Any, ...]) -> KeptRecord:
    """Of a row of `requests`. Raises JournalUnusable if it is damaged."""
    if not fits(row[7], request_checksum, row[:7]):
        raise damaged("the record of a request")
    changes = tuple((name, version) for name, version in orjson.loads(row[5]))
    record = IdempotencyRecord(digest=row[2], position=Position(seq=row[3], tag=row[4]), changes=changes)
    return KeptRecord(key=(row[0], row[1]), record=record, at=row[6])


def read(sql: sqlite3.Connection, after: Position, limit: int, selection: Selection, checked: Checked) -> Page:
    verify(sql, after)
    until = min(head(sql).seq, after.seq + limit)
    if selection.everything or not checked.covers(after.seq, until):
        return _read_all(sql, after, until, selection, checked)
    condition, values = condition_of(selection)
    query = f"SELECT {_COLUMNS}, crc FROM changes WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq"
    rows = sql.execute(query, (after.seq, until, *values))
    return page_of(map(_change, rows), after if until == after.seq else change_at(sql, until).position)


def _read_all(sql: sqlite3.Connection, after: Position, until: int, selection: Selection, checked: Checked) -> Page:
    """A page for which every change is checked, selected or not. PAGE_BYTES bounds what is read."""
    kept: list[Change] = []
    last, size = after, 0
    query = f"SELECT {_COLUMNS}, crc FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq"
    for change in map(_change, sql.execute(query, (after.seq, until))):
        size += change.size
        if size > PAGE_BYTES and last != after:
            break
        if change.version != last.seq + 1:
            raise damaged(f"the history after change {last.seq}")
        last = change.position
        if selection.everything or selection.matches(change.slice):
            kept.append(change)
    else:
        if last.seq != until:
            raise damaged(f"the history after change {last.seq}")
    checked.add(after.seq, last.seq)
    return Page(changes=kept, until=last)


def change_at(sql: sqlite3.Connection, seq: int) -> Change:
    row = sql.execute(f"SELECT {_COLUMNS}, crc FROM changes WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        raise damaged(f"change {seq} of the journal")
    return _change(row)


def padded(values: list[str]) -> list[str]:
    """The same values, the last one repeated until their number is a power of two.

    The driver keeps each statement that it has prepared, and a statement for every number of values would take a
    megabyte after some hours.
    """
    return [*values, *values[-1:] * ((1 << (len(values) - 1).bit_length()) - len(values))]


def condition_of(selection: Selection) -> tuple[str, list[str]]:
    """The selection as a condition on the column `slice`, and the values it is bound to."""
    if selection.everything:
        return "TRUE", []
    names = padded(sorted(selection.names))
    conditions = [f"slice IN ({', '.join('?' * len(names))})"]
    for family in padded(sorted(selection.families)):
        conditions.append("(slice >= ? AND slice < ?)")
        names += [f"{family}/", f"{family}0"]  # 0 is the character after the slash
    return f"({' OR '.join(conditions)})", names


def row_of(change: Change) -> tuple[Any, ...]:
    """With its CRC, and without a ledger."""
    cause = change.cause
    where = (change.position.seq, change.position.tag, change.slice, change.from_version)
    what: tuple[Any, ...] = (change.kind, change.data, cause.type, cause.id, cause.actor, cause.payload)
    row = (*where, *(_FOLDED if change.is_folded else what), change.at)
    return (*row, change_checksum(row), None)


def _change(row: tuple[Any, ...]) -> Change:
    """Of a row with its CRC. Raises JournalUnusable if it is damaged."""
    if not fits(row[11], change_checksum, row[:11]):
        raise damaged(f"change {row[0]} of the journal")
    change = Change(
        position=Position(seq=row[0], tag=row[1]),
        slice=row[2],
        from_version=row[3],
        kind=row[4],
        data=row[5],
        cause=Cause(type=row[6], id=row[7], actor=row[8], payload=row[9]),
        at=row[10],
    )
    return change if change.kind else folded(change)
