"""Changes, idempotency records and positions of a PostgreSQL journal: from batches to rows, and from rows to values.

Invariants: each function is one statement, so each sees one state of the tables, and `append` is a transaction in one
round trip. Every row that is returned is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from statestream.core.change import (
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
from statestream.journal.contract import IDEMPOTENCY_MS, PAGE_BYTES, Appended, Batch, Conflict, Duplicate, Entry, number
from statestream.journal.postgresql.checksums import change_checksum, damaged, request_checksum
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements

DUPLICATE_ATTEMPTS: Final = 3
_FOLDED: Final = ("", "", "", None, b"", b"")
"""The columns of a folded change that may be replaced."""


async def head(sql: Connection, statements: Statements) -> Position:
    return head_of(await sql.fetch_one(statements["head"]))


async def earliest(sql: Connection, statements: Statements) -> Position:
    row = await sql.fetch_one(statements["head"])
    head_of(row)
    return Position(seq=row["floor_seq"], tag=row["floor_tag"])


def head_of(row: Any) -> Position:
    """The newest position, of a row of the head. Raises JournalUnusable if there is none."""
    if row is None:
        raise damaged("the head of the journal")
    return Position(seq=row["seq"], tag=row["tag"])


def check_place(row: Any, position: Position) -> None:
    """Raises Forked or Expired unless `position` is part of the history. `row` is where it stands."""
    newest, floor = head_of(row), Position(seq=row["floor_seq"], tag=row["floor_tag"])
    if position.seq < floor.seq:
        raise Expired(f"the journal goes back to {floor} only; start without a position")
    if position not in (newest, floor) and row["found"] != position.tag:
        raise Forked("the position is not part of this history; start without a position")


async def append(sql: Connection, statements: Statements, batch: Batch, now: int) -> list[Appended]:
    tag = new_tag()
    values = (batch.read.seq, batch.read.tag, tag, now, now - IDEMPOTENCY_MS, *_columns(batch))
    for _ in range(DUPLICATE_ATTEMPTS):
        row = await sql.fetch_one(statements["append"], *values)
        outcome, seq, detail = row["outcome"], row["head_seq"], row["detail"]
        if outcome == "appended":
            return number(batch, Position(seq=seq, tag=detail), tag)
        if outcome == "damaged":
            raise damaged("the head of the journal")
        if outcome == "expired":
            raise Expired(f"the journal goes back to {seq}.{detail} only; start without a position")
        if outcome == "forked":
            raise Forked("the position is not part of this history; start without a position")
        if outcome == "conflict":
            raise Conflict(f"{detail} changed since it was read; reload and retry")
        keys = [entry.idempotency_key for entry in batch.entries if entry.idempotency_key]
        if records := await lookup(sql, statements, keys, now):
            raise Duplicate(records)
    raise damaged("the record of a request")  # it is there for the one statement, and not for the other


async def append_in(driver: Any, statements: Statements, batch: Batch, now: int) -> Position:
    """Appends a batch without keys in a transaction that has locked the head, and returns its end."""
    tag = new_tag()
    values = (batch.read.seq, batch.read.tag, tag, now, now - IDEMPOTENCY_MS, *_columns(batch))
    row = await driver.fetchrow(statements["append"], *values)
    if row["outcome"] != "appended":
        raise damaged("the head of the journal")  # which is locked, as are the versions
    return number(batch, batch.read, tag)[-1].position


def _columns(batch: Batch) -> list[Sequence[Any]]:
    """The batch as the arrays that the function in the database takes."""
    changes: list[tuple[Any, ...]] = []
    records: list[tuple[Any, ...]] = []
    bases: dict[str, int] = {}
    for entry in batch.entries:
        for pending in entry.changes:
            cause = pending.cause
            base = bases.get(pending.slice, batch.versions.get(pending.slice, 0))
            row = (
                pending.slice,
                pending.kind,
                cause.type,
                cause.id,
                cause.actor,
                entry.at,
                pending.data,
                cause.payload,
            )
            changes.append((*row, change_checksum(*row), base))
            bases[pending.slice] = 0 if pending.kind == "removed" else -len(changes)
        if entry.idempotency_key:
            records.append(_record(entry, len(changes)))
    removed = [name for name, base in bases.items() if not base]
    written = {name: -base for name, base in bases.items() if base}
    return [
        list(batch.versions),
        list(batch.versions.values()),
        *_transposed(records, 6),
        *_transposed(changes, 10),
        removed,
        list(written),
        list(written.values()),
    ]


def _record(entry: Entry, upto: int) -> tuple[Any, ...]:
    assert entry.idempotency_key is not None
    actor, id = entry.idempotency_key
    slices = orjson.dumps([change.slice for change in entry.changes]).decode()
    return (actor, id, entry.digest, slices, upto, request_checksum(actor, id, entry.digest, slices))


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[Sequence[Any]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def record_bytes(batch: Batch, base: int) -> int:
    """What the idempotency records of a batch take, each of them `base` bytes beside its contents."""
    size = 0
    for entry in batch.entries:
        if entry.idempotency_key:
            names = sum(len(change.slice) + 3 for change in entry.changes)
            size += 2 * sum(map(len, entry.idempotency_key)) + len(entry.digest) + names + base
    return size


async def lookup(
    sql: Connection, statements: Statements, keys: Iterable[IdempotencyKey], now: int
) -> dict[IdempotencyKey, IdempotencyRecord]:
    wanted = list(keys)
    if not wanted:
        return {}
    actors, ids = zip(*wanted, strict=True)
    rows = await sql.fetch(statements["lookup"], actors, ids, now - IDEMPOTENCY_MS)
    return {(row["actor"], row["id"]): record_of(row) for row in rows}


def record_of(row: Any) -> IdempotencyRecord:
    """Of a row of `requests`. Raises JournalUnusable if it is damaged."""
    seq, slices = row["seq"], row["slices"]
    if request_checksum(row["actor"], row["id"], row["digest"], slices) != row["crc"]:
        raise damaged("the record of a request")
    names = orjson.loads(slices)
    first = seq - len(names) + 1
    return IdempotencyRecord(
        digest=row["digest"],
        position=Position(seq=seq, tag=row["tag"]),
        changes=tuple((name, seq) for seq, name in enumerate(names, first) if name),  # others were erased
    )


def slices_text(record: IdempotencyRecord) -> str:
    """The column `slices` of a record: names, because the changes of a request have consecutive numbers.

    An erased slice has an empty name.
    """
    names = {seq: name for name, seq in record.changes}
    last = record.position.seq
    return orjson.dumps([names.get(seq, "") for seq in range(min(names, default=last + 1), last + 1)]).decode()


async def read(sql: Connection, statements: Statements, after: Position, limit: int, selection: Selection) -> Page:
    chosen = (selection.everything, sorted(selection.names), sorted(selection.families))
    rows = await sql.fetch(statements["read"], after.seq, limit, PAGE_BYTES, *chosen)
    if not rows:
        raise damaged("the head of the journal")
    first = rows[0]
    newest = {"seq": first["head_seq"], "tag": first["head_tag"]}
    check_place({**newest, **{name: first[name] for name in ("floor_seq", "floor_tag", "found")}}, after)
    changes = [change_of(tuple(row)[6:18]) for row in rows] if first["seq"] is not None else []
    complete = not changes or len(changes) == first["selected"]
    until = _until(first, after, limit) if complete else changes[-1].position
    if selection.everything:
        _check_numbers(changes, after, until)
    return Page(changes=changes, until=until)


def _until(row: Mapping[str, Any], after: Position, limit: int) -> Position:
    """The position that a page reaches if it is complete."""
    seq = min(row["head_seq"], after.seq + limit)
    if seq == after.seq:
        return after
    tag = row["head_tag"] if seq == row["head_seq"] else row["until_tag"]
    if tag is None:
        raise damaged(f"change {seq} of the journal")
    return Position(seq=seq, tag=tag)


def _check_numbers(changes: Sequence[Change], after: Position, until: Position) -> None:
    """Raises JournalUnusable unless these are all changes in between."""
    last = after.seq
    for change in changes:
        if change.version != last + 1:
            raise damaged(f"the history after change {last}")
        last = change.version
    if last != until.seq:
        raise damaged(f"the history after change {last}")


def change_of(columns: tuple[Any, ...]) -> Change:
    """Raises JournalUnusable if it is damaged."""
    seq, before, at, crc, tag, name, kind, type_, request, actor, data, payload = columns
    if change_checksum(name, kind, type_, request, actor, at, data, payload) != crc:
        raise damaged(f"change {seq} of the journal")
    change = Change(
        position=Position(seq=seq, tag=tag),
        slice=name,
        from_version=before,
        kind=kind,
        data=data,
        cause=Cause(type=type_, id=request, actor=actor, payload=payload),
        at=at,
    )
    return change if kind else folded(change)


def change_columns(change: Change) -> tuple[Any, ...]:
    """What may be replaced in the row of a change: from `kind` to `payload`, and the CRC.

    There are many folded changes, so what they have in common is not in their rows.
    """
    cause = change.cause
    what = (change.kind, cause.type, cause.id, cause.actor, change.data, cause.payload)
    kind, type_, request, actor, data, payload = _FOLDED if change.is_folded else what
    crc = change_checksum(change.slice, kind, type_, request, actor, change.at, data, payload)
    return kind, type_, request, actor, data, payload, crc
