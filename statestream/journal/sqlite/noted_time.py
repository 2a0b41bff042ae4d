"""The time by which a SQLite journal judges ages, noted in the file for the next start and for other processes.

Invariants: what is noted never goes back. It is noted more often than `STEP_MS` of the clock, so a process that opens
the file while another one has it open does not begin behind it.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from statestream.core.clock import AgeClock
from statestream.journal.sqlite.checksums import checksum, fits

NOTE_MS: Final = 10 * 60 * 1000
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS clock"
    " (one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL, crc INTEGER NOT NULL) STRICT"
)


def begin(sql: sqlite3.Connection, clock: AgeClock) -> None:
    """Sets the clock to where the file has got to."""
    sql.execute(_TABLE)
    known = noted(sql)
    if known is not None:
        clock.continue_from(known)
    note(sql, clock.now())


def begin_at(sql: sqlite3.Connection, at: int) -> None:
    """Gives a new file a time to continue from."""
    sql.execute(_TABLE)
    note(sql, at)


def note(sql: sqlite3.Connection, now: int) -> int:
    """What is noted then: the time, or a later one that another process has noted."""
    at = max(now, noted(sql) or now)
    sql.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)", (at, checksum((at,))))
    return at


def noted(sql: sqlite3.Connection) -> int | None:
    """The time that is noted. One that is damaged counts as none: the wall clock is better than that."""
    row = sql.execute("SELECT at, crc FROM clock").fetchone()
    return row[0] if row is not None and fits(row[1], checksum, (row[0],)) else None
