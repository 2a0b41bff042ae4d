"""The age clock's time, recorded in the file of a SQLite journal for the next start and for other processes.

Invariants: the recorded time never goes back. It is recorded more often than `STEP_MS` of the clock, so a process that
opens the file while another one has it open does not begin behind it.
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
    """Sets the clock to the time in the file."""
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
    """The time to record: this process's, or a later one that another process has recorded."""
    at = max(now, noted(sql) or now)
    sql.execute("INSERT OR REPLACE INTO clock VALUES (1, ?, ?)", (at, checksum((at,))))
    return at


def noted(sql: sqlite3.Connection) -> int | None:
    """The recorded time. A damaged one counts as missing: the wall clock is better."""
    row = sql.execute("SELECT at, crc FROM clock").fetchone()
    return row[0] if row is not None and fits(row[1], checksum, (row[0],)) else None
