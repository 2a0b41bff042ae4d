"""The jobs of a SQLite journal on checkpoints and trimming. Each runs in a short transaction of the worker.

A checkpoint is written in portions, so that appends come in between. A row of `checkpoints` with negative bytes claims
the position first; each portion renews its time, and the last job completes it. A claim that nobody renews was
interrupted, and the next checkpoint clears it away.

Invariants: of each slice, the newest row of `snapshots` at or before a complete checkpoint is its state there. Rows of
an interrupted checkpoint are correct, but incomplete.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from statestream.core.change import Position, SliceState, now_ms
from statestream.core.errors import Expired, Unavailable
from statestream.core.selection import Selection
from statestream.journal.contract import Checkpoint, SavedSlice
from statestream.journal.sqlite.changes import condition_of, earliest, verify

PORTION_BYTES: Final = 1 << 20
PORTION_ROWS: Final = 1_000
"""What one transaction writes: it takes some milliseconds, for which an append may have to wait."""
CLAIM_MS: Final = 10_000
"""A checkpoint that nobody has worked on for so long was interrupted."""

Row = tuple[str, int, int, str, bytes | None]


def checkpoints(sql: sqlite3.Connection) -> list[Checkpoint]:
    rows = sql.execute("SELECT seq, tag, at, bytes FROM checkpoints WHERE bytes >= 0 ORDER BY seq")
    return [Checkpoint(position=Position(seq=seq, tag=tag), at=at, bytes=size) for seq, tag, at, size in rows]


def saved(sql: sqlite3.Connection, checkpoint: Position, selection: Selection) -> list[SavedSlice]:
    if all(point.position != checkpoint for point in checkpoints(sql)):
        raise Expired("the checkpoint is not kept any more; read the checkpoints again")
    condition, values = condition_of(selection)
    rows = sql.execute(
        "SELECT slice, version, tag, value, max(checkpoint) FROM snapshots"
        f" WHERE checkpoint <= ? AND {condition} GROUP BY slice",
        (checkpoint.seq, *values),
    )  # SQLite takes the other columns from the row that has the maximum
    return [
        SavedSlice(name=name, position=Position(seq=version, tag=tag), data=value)
        for name, version, tag, value, _ in rows
        if value is not None
    ]


def claim(sql: sqlite3.Connection, position: Position) -> int | None:
    """The time of the claim; None if there is such a checkpoint or a later one."""
    verify(sql, position)
    if any(point.position.seq >= position.seq for point in checkpoints(sql)):
        return None
    now = now_ms()
    for seq, at in sql.execute("SELECT seq, at FROM checkpoints WHERE bytes < 0").fetchall():
        if at > now - CLAIM_MS:
            raise Unavailable("another process is making a checkpoint of this journal")
        sql.execute("DELETE FROM snapshots WHERE checkpoint = ?", (seq,))
        sql.execute("DELETE FROM checkpoints WHERE seq = ?", (seq,))
    sql.execute("INSERT INTO checkpoints VALUES (?, ?, ?, -1)", (position.seq, position.tag, now))
    return now


def portions(position: Position, slices: Mapping[str, SliceState | None]) -> Iterator[list[Row]]:
    """The rows of a checkpoint, as many at a time as one transaction should write."""
    rows: list[Row] = []
    size = 0
    for name, state in slices.items():
        value = None if state is None else state.encoded()
        version, tag = (0, "0") if state is None else (state.version, state.position.tag)
        rows.append((name, position.seq, version, tag, value))
        size += len(value or b"")
        if size > PORTION_BYTES or len(rows) == PORTION_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def save(sql: sqlite3.Connection, position: Position, claim: int, rows: Sequence[tuple[Any, ...]]) -> int:
    now = max(now_ms(), claim)
    _renew(sql, position, claim, at=now, size=-1)
    sql.executemany("INSERT INTO snapshots (slice, checkpoint, version, tag, value) VALUES (?, ?, ?, ?, ?)", rows)
    return now


def _renew(sql: sqlite3.Connection, position: Position, claim: int, *, at: int, size: int) -> None:
    """Raises Unavailable if the claim was given to another process meanwhile."""
    renewed = sql.execute(
        "UPDATE checkpoints SET at = ?, bytes = ? WHERE seq = ? AND at = ? AND bytes < 0",
        (at, size, position.seq, claim),
    )
    if renewed.rowcount != 1:
        raise Unavailable("the checkpoint took so long that another process has begun one")


def complete(sql: sqlite3.Connection, position: Position, claim: int) -> None:
    newest = sql.execute("SELECT coalesce(max(seq), 0) FROM checkpoints WHERE bytes >= 0").fetchone()[0]
    size = sql.execute(
        "SELECT coalesce(sum(length(data) + length(payload) + 200), 0) FROM changes WHERE seq > ? AND seq <= ?",
        (newest, position.seq),
    ).fetchone()[0]
    _renew(sql, position, claim, at=now_ms(), size=size)


def unclaim(sql: sqlite3.Connection, position: Position, claim: int) -> None:
    gone = sql.execute("DELETE FROM checkpoints WHERE seq = ? AND at = ? AND bytes < 0", (position.seq, claim))
    if gone.rowcount:
        sql.execute("DELETE FROM snapshots WHERE checkpoint = ?", (position.seq,))


def move_earliest(sql: sqlite3.Connection, until: Position) -> None:
    if until.seq > earliest(sql).seq:
        sql.execute("UPDATE floor SET seq = ?, tag = ?", (until.seq, until.tag))
        sql.execute("DELETE FROM checkpoints WHERE seq < ? AND bytes >= 0", (until.seq,))


def forget_changes(sql: sqlite3.Connection, until: Position) -> bool:
    """Whether there were any left."""
    oldest = sql.execute("SELECT min(seq) FROM changes").fetchone()[0]
    if oldest is None or oldest > until.seq:
        return False
    sql.execute("DELETE FROM changes WHERE seq <= ?", (min(until.seq, oldest + PORTION_ROWS - 1),))
    return True


def forget_saved(sql: sqlite3.Connection, until: Position, name: str) -> str | None:
    """Forgets what only older positions needed of the next slices after `name`; returns the last of these."""
    query = "SELECT max(slice) FROM (SELECT DISTINCT slice FROM snapshots WHERE slice > ? ORDER BY slice LIMIT ?)"
    last: str | None = sql.execute(query, (name, PORTION_ROWS)).fetchone()[0]
    if last is not None:
        between = {"after": name, "last": last, "until": until.seq}
        sql.execute(
            "DELETE FROM snapshots AS old WHERE slice > :after AND slice <= :last AND checkpoint < ("
            " SELECT max(checkpoint) FROM snapshots WHERE slice = old.slice AND checkpoint <= :until)",
            between,
        )
        sql.execute(
            "DELETE FROM snapshots WHERE slice > :after AND slice <= :last AND value IS NULL AND checkpoint <= :until",
            between,
        )
    return last
