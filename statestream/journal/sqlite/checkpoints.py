"""The jobs of a SQLite journal on checkpoints and on the earliest position, each in a short transaction of the worker.

A checkpoint is written in portions, so that appends come in between. A row of `checkpoints` with negative bytes claims
the position first; each portion renews its time, and the last job completes it. A claim that nobody renews was
interrupted, and the next checkpoint clears it away, see `claims`.

Invariants: of each slice, the newest row of `snapshots` at or before a complete checkpoint is its state there. Rows of
an interrupted checkpoint are correct, but incomplete. Each checkpoint knows how many slices exist there and the sum of
their CRCs, so that a missing slice is noticed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from statestream.core.change import ERASED, Position, SliceState
from statestream.core.errors import Expired, JournalUnusable
from statestream.core.selection import Selection
from statestream.journal.contract import Checkpoint, CheckpointClaimed, SavedSlice
from statestream.journal.sqlite.changes import condition_of, earliest, newest, set_floor, verify
from statestream.journal.sqlite.checksums import Checked, checksum, damaged, fits
from statestream.journal.sqlite.claims import Claims

PORTION_BYTES: Final = 1 << 20
PORTION_ROWS: Final = 1_000
"""What one transaction writes: it takes some milliseconds, for which an append may have to wait."""

Row = tuple[str, int, int, str, bytes | None, int]


class Point(NamedTuple):
    """A row of `checkpoints`. Negative `bytes` claim the position."""

    seq: int
    tag: str
    at: int
    bytes: int
    slices: int
    total: int

    @property
    def position(self) -> Position:
        return Position(seq=self.seq, tag=self.tag)

    def put(self, sql: sqlite3.Connection) -> None:
        sql.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?)", (*self, checksum(tuple(self))))


def points(sql: sqlite3.Connection) -> list[Point]:
    """All rows of `checkpoints`, in order."""
    query = "SELECT seq, tag, at, bytes, slices, total, crc FROM checkpoints ORDER BY seq"
    return [_point(row) for row in sql.execute(query)]


def _point(row: tuple[Any, ...]) -> Point:
    """Of a row with its CRC. Raises JournalUnusable if it is damaged."""
    *columns, crc = row
    if not fits(crc, checksum, tuple(columns)):
        raise damaged(f"the checkpoint at change {columns[0]} of the journal")
    return Point(*columns)


def complete_points(sql: sqlite3.Connection) -> list[Point]:
    return [point for point in points(sql) if point.bytes >= 0]


def checkpoints(sql: sqlite3.Connection) -> list[Checkpoint]:
    return [Checkpoint(position=point.position, at=point.at, bytes=point.bytes) for point in complete_points(sql)]


def saved(
    sql: sqlite3.Connection, checkpoint: Position, selection: Selection, checked: Checked
) -> list[SavedSlice] | None:
    """The selected slices at a checkpoint, if that costs no more than their rows; None if it takes `saved_checked`.

    It does if something may be missing, because damage to its name could hide a slice, and the first time, all rows
    must be checked.
    """
    point = _complete_point(sql, checkpoint)
    if selection.everything or (selection.families and point.seq not in checked.checkpoints):
        return None
    rows = list(_effective(sql, point, *condition_of(selection)))
    if len(rows) < len(selection.names) and point.seq not in checked.checkpoints:
        return None
    return [_slice(row) for row in rows]


def saved_checked(
    sql: sqlite3.Connection, checkpoint: Position, selection: Selection, checked: Checked
) -> list[SavedSlice]:
    """The selected slices at a checkpoint, of which all rows are checked."""
    point = _complete_point(sql, checkpoint)
    kept, count, total = [], 0, 0
    for row in _effective(sql, point, "TRUE", []):
        count, total = count + 1, total + row[5]
        if selection.everything or selection.matches(row[0]):
            kept.append(_slice(row))
    if (count, total) != (point.slices, point.total):
        raise _damaged_point(point)
    checked.checkpoints.add(point.seq)
    return kept


def _slice(row: Row) -> SavedSlice:
    name, _, version, tag, value, _ = row
    return SavedSlice(name=name, position=Position(seq=version, tag=tag), data=value or b"")


def index(sql: sqlite3.Connection, checkpoint: Position, selection: Selection) -> dict[str, int]:
    """The versions of the selected slices at a checkpoint. Values are not read.

    At the newest one they follow from the current versions, which were checked when the journal was opened.
    """
    point = _complete_point(sql, checkpoint)
    if not selection.everything or point != complete_points(sql)[-1]:
        return _index(sql, point, selection)
    found = dict(sql.execute("SELECT slice, version FROM versions").fetchall())
    later = "SELECT slice, from_version, type FROM changes WHERE seq > ? ORDER BY seq DESC"
    for name, version, kind in sql.execute(later, (point.seq,)):
        if version and kind != ERASED:
            found[name] = version
        else:
            found.pop(name, None)
    if len(found) != point.slices:
        raise _damaged_point(point)
    return found


def _index(sql: sqlite3.Connection, point: Point, selection: Selection) -> dict[str, int]:
    condition, values = condition_of(selection)
    rows = sql.execute(
        "SELECT slice, max(checkpoint), version, value IS NULL FROM snapshots"
        f" WHERE checkpoint <= ? AND {condition} GROUP BY slice",
        (point.seq, *values),
    )
    return {name: version for name, _, version, removed in rows if not removed}


def _complete_point(sql: sqlite3.Connection, checkpoint: Position) -> Point:
    """Raises Expired if there is none."""
    row = sql.execute(
        "SELECT seq, tag, at, bytes, slices, total, crc FROM checkpoints WHERE seq = ?", (checkpoint.seq,)
    ).fetchone()
    point = None if row is None else _point(row)
    if point is None or point.bytes < 0 or point.position != checkpoint:
        raise Expired("the checkpoint is not kept any more; read the checkpoints again")
    return point


def _damaged_point(point: Point) -> JournalUnusable:
    return damaged(f"the checkpoint at change {point.seq} of the journal")


def _effective(sql: sqlite3.Connection, point: Point, condition: str, values: Sequence[str]) -> Iterator[Row]:
    """The rows of the slices that exist at a checkpoint, each of them checked."""
    rows = sql.execute(
        "SELECT slice, max(checkpoint), version, tag, value, crc FROM snapshots"
        f" WHERE checkpoint <= ? AND {condition} GROUP BY slice",
        (point.seq, *values),
    )  # SQLite takes the other columns from the row that has the maximum
    for row in rows:
        if not row_fits(row):
            raise damaged(f"a slice in the checkpoint at change {row[1]} of the journal")
        if row[4] is not None:
            yield row


def row_fits(row: tuple[Any, ...]) -> bool:
    return fits(row[5], row_checksum, *row[:5])


def row_checksum(name: str, checkpoint: int, version: int, tag: str, value: bytes | None) -> int:
    return checksum((name, checkpoint, version, tag, value is None), value or b"")


def claim(sql: sqlite3.Connection, position: Position, now: int, others: Claims) -> int | None:
    """The time of the claim; None if there is such a checkpoint or a later one."""
    verify(sql, position)
    complete = complete_points(sql)
    if any(point.seq >= position.seq for point in complete):
        return None
    claims = [(point.seq, point.at) for point in points(sql) if point.bytes < 0]
    if not others.all_abandoned(claims):
        raise CheckpointClaimed
    for seq, _ in claims:
        sql.execute("DELETE FROM snapshots WHERE checkpoint = ?", (seq,))
        sql.execute("DELETE FROM checkpoints WHERE seq = ?", (seq,))
    slices, total = (complete[-1].slices, complete[-1].total) if complete else (0, 0)
    Point(position.seq, position.tag, now, -1, slices, total).put(sql)
    return now


def portions(position: Position, slices: Mapping[str, SliceState | None]) -> Iterator[list[Row]]:
    """The rows of a checkpoint, as many at a time as one transaction should write."""
    rows: list[Row] = []
    size = 0
    for name, state in slices.items():
        value = None if state is None else state.encoded()
        version, tag = (0, "0") if state is None else (state.version, state.position.tag)
        crc = row_checksum(name, position.seq, version, tag, value)
        rows.append((name, position.seq, version, tag, value, crc))
        size += len(value or b"")
        if size > PORTION_BYTES or len(rows) == PORTION_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def save(sql: sqlite3.Connection, position: Position, claim: int, rows: Sequence[Row], now: int) -> int:
    """The renewed claim."""
    now = max(now, claim + 1)  # each renewal shows
    erased = {name for (name,) in sql.execute("SELECT slice FROM erasures WHERE seq > ?", (position.seq,))}
    if erased:  # since the states were captured
        rows = [row for row in rows if row[0] not in erased]
    _renew(sql, position, claim, at=now, size=-1, instead=[(_before(sql, row), row) for row in rows])
    sql.executemany("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?)", rows)
    return now


def _before(sql: sqlite3.Connection, row: Row) -> int | None:
    """The CRC of the row that a new one takes the place of; None if the slice did not exist."""
    query = (
        "SELECT crc, value IS NULL FROM snapshots WHERE slice = ? AND checkpoint < ? ORDER BY checkpoint DESC LIMIT 1"
    )
    crc, removed = sql.execute(query, row[:2]).fetchone() or (None, True)
    return None if removed else crc


def _renew(
    sql: sqlite3.Connection,
    position: Position,
    claim: int,
    *,
    at: int,
    size: int,
    instead: Sequence[tuple[int | None, Row]] = (),
) -> None:
    """Renews a claim, given the rows that it adds. Raises CheckpointClaimed if another process has one meanwhile."""
    point = next((point for point in points(sql) if point.seq == position.seq), None)
    if point is None or point.bytes >= 0 or point.at != claim:
        raise CheckpointClaimed  # this one took so long that another process has begun one
    slices, total = point.slices, point.total
    for before, (*_, value, crc) in instead:
        if before is not None:
            slices, total = slices - 1, total - before
        if value is not None:
            slices, total = slices + 1, total + crc
    point._replace(at=at, bytes=size, slices=slices, total=total).put(sql)


def complete(sql: sqlite3.Connection, position: Position, claim: int, saved: int, now: int) -> None:
    """`saved` is the size of the slices that were saved."""
    newest = sql.execute("SELECT coalesce(max(seq), 0) FROM checkpoints WHERE bytes >= 0").fetchone()[0]
    size = sql.execute(
        "SELECT coalesce(sum(length(data) + length(payload) + 200), 0) FROM changes WHERE seq > ? AND seq <= ?",
        (newest, position.seq),
    ).fetchone()[0]
    _renew(sql, position, claim, at=max(now, claim), size=size + saved)


def unclaim(sql: sqlite3.Connection, position: Position, claim: int) -> None:
    gone = sql.execute("DELETE FROM checkpoints WHERE seq = ? AND at = ? AND bytes < 0", (position.seq, claim))
    if gone.rowcount:
        sql.execute("DELETE FROM snapshots WHERE checkpoint = ?", (position.seq,))


def move_earliest(sql: sqlite3.Connection, until: Position) -> None:
    if until.seq > earliest(sql).seq:
        set_floor(sql, until, newest(sql)[1])
        sql.execute("DELETE FROM checkpoints WHERE seq < ? AND bytes >= 0", (until.seq,))
        sql.execute("DELETE FROM erasures WHERE seq <= ? AND overwritten = 1", (until.seq,))
