"""The jobs of a SQLite journal on folded changes. Each runs in a transaction of the worker, and is short.

A row that gets shorter leaves a gap in its page, and a page with gaps is as large as a full one. So the rows are packed
before the position is noted.

Invariants: a row is replaced only if its CRC is that of the change as it was read. Folded rows have no ledger: they are
not the last ones of the history. The noted position saves work and decides nothing, so it has no CRC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from statestream.core.change import START, Change, Position
from statestream.journal.sqlite import changes, checkpoints

PORTION: Final = 250
"""The rows that are packed at once. Appends may have to wait for them."""
PORTION_BYTES: Final = 1 << 18
_REPLACE: Final = (
    "UPDATE changes SET kind = ?, data = ?, type = ?, request = ?, actor = ?, payload = ?, at = ?, crc = ?, ledger = ?"
    " WHERE seq = ?"
)
TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS folding"
    " (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, tag TEXT NOT NULL) STRICT"
)


def rewrite(sql: sqlite3.Connection, pairs: Sequence[tuple[Change, Change]]) -> bool:
    """Whether all of the changes were as they were read, and have been replaced."""
    ledgers = []
    for before, _ in pairs:
        row = sql.execute("SELECT crc, ledger FROM changes WHERE seq = ?", (before.version,)).fetchone()
        if row is None or row[0] != changes.row_of(before)[-2]:
            return False
        ledgers.append(row[1])
    saved: dict[int, int] = {}
    for (before, after), ledger in zip(pairs, ledgers, strict=True):
        columns = changes.row_of(after)[4:]
        sql.execute(_REPLACE, (*columns[:-1], None if after.is_folded else ledger, before.version))
        saved[before.version] = before.size - after.size
    _shrink(sql, saved)
    return True


def _shrink(sql: sqlite3.Connection, saved: dict[int, int]) -> None:
    """Changes take so many bytes less now, and so do the checkpoints that cover them."""
    before = 0
    for point in checkpoints.complete_points(sql):
        size = sum(saved[seq] for seq in saved if before < seq <= point.seq)
        if size:
            point._replace(bytes=max(0, point.bytes - size)).put(sql)
        before = point.seq


def sparse(sql: sqlite3.Connection, after: int, until: int) -> tuple[int, bool]:
    """The seq up to which the next rows are a portion, and whether many of them are folded."""
    query = (
        "SELECT seq, kind, length(data) + length(payload) FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
    )
    end, rows, gone, size = until, 0, 0, 0
    for seq, kind, length in sql.execute(query, (after, until, PORTION)):
        end, rows, gone, size = seq, rows + 1, gone + (kind == ""), size + length
        if size > PORTION_BYTES:
            break
    return end, 2 * gone > rows


def pack(sql: sqlite3.Connection, after: int, until: int) -> None:
    """Writes rows anew, so that they fill their pages."""
    rows = sql.execute("SELECT * FROM changes WHERE seq > ? AND seq <= ? ORDER BY seq", (after, until)).fetchall()
    sql.execute("DELETE FROM changes WHERE seq > ? AND seq <= ?", (after, until))
    sql.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def folded_until(sql: sqlite3.Connection) -> Position:
    row = sql.execute("SELECT seq, tag FROM folding").fetchone()
    return START if row is None or not row[0] else Position(seq=row[0], tag=row[1])


def note(sql: sqlite3.Connection, position: Position) -> None:
    if position.seq > folded_until(sql).seq:
        sql.execute("INSERT OR REPLACE INTO folding VALUES (1, ?, ?)", (position.seq, position.tag))
