"""The jobs of a SQLite journal that delete the rows before the earliest position after a trim, a portion at a time.

`checkpoints.move_earliest` comes first: after that, nobody reads the rows that these jobs delete. The saved slices are
deleted before the changes that name them, so an interrupted trim is recognized by the remaining changes, and can be
repeated.

Invariants: a job deletes about a portion at most, however large rows are, because an append waits for it. Of each slice
the newest saved row at or before the earliest position stays, unless it says that the slice did not exist.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from statestream.core.change import Position
from statestream.journal.sqlite.changes import earliest
from statestream.journal.sqlite.checkpoints import PORTION_BYTES, PORTION_ROWS

_SUPERSEDED: Final = (
    "SELECT checkpoint, coalesce(length(value), 0) FROM snapshots AS old WHERE slice = :slice AND checkpoint <= :until"
    " AND (value IS NULL OR checkpoint < (SELECT max(checkpoint) FROM snapshots"
    " WHERE slice = :slice AND checkpoint <= :until))"
    " ORDER BY checkpoint"
)


def left_behind(sql: sqlite3.Connection) -> Position | None:
    """The earliest position, if changes up to it are still there: the trim that moved it was interrupted."""
    until = earliest(sql)
    oldest = sql.execute("SELECT min(seq) FROM changes").fetchone()[0]
    return None if oldest is None or oldest > until.seq else until


def changed_slices(sql: sqlite3.Connection, after: int, until: Position) -> tuple[list[str], int]:
    """The slices of the next changes after a seq, and the seq of the last of these changes."""
    rows = sql.execute(
        "SELECT seq, slice FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (after, until.seq, PORTION_ROWS),
    ).fetchall()
    return sorted({name for _, name in rows}), rows[-1][0] if rows else until.seq


def saved_slices(sql: sqlite3.Connection, after: str) -> list[str]:
    """The names of the next saved slices after a name."""
    query = "SELECT DISTINCT slice FROM snapshots WHERE slice > ? ORDER BY slice LIMIT ?"
    return [name for (name,) in sql.execute(query, (after, PORTION_ROWS))]


def forget_saved(sql: sqlite3.Connection, until: Position, names: Iterable[str]) -> list[str]:
    """Deletes saved slices that only older positions needed. Returns the slices that are left for the next portion."""
    left, rows, size = list(names), 0, 0
    while left:
        superseded = sql.execute(_SUPERSEDED, {"slice": left[-1], "until": until.seq}).fetchall()
        for checkpoint, length in superseded:
            if rows >= PORTION_ROWS or size >= PORTION_BYTES:
                return left
            sql.execute("DELETE FROM snapshots WHERE slice = ? AND checkpoint = ?", (left[-1], checkpoint))
            rows, size = rows + 1, size + length
        left.pop()
    return left


def forget_changes(sql: sqlite3.Connection, until: Position) -> bool:
    """Whether there were any left."""
    last, size = None, 0
    query = "SELECT seq, length(data) + length(payload) FROM changes WHERE seq <= ? ORDER BY seq LIMIT ?"
    for seq, length in sql.execute(query, (until.seq, PORTION_ROWS)):
        last, size = seq, size + length
        if size >= PORTION_BYTES:
            break
    if last is None:
        return False
    sql.execute("DELETE FROM changes WHERE seq <= ?", (last,))
    return True
