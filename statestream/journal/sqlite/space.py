"""The space of a SQLite file that is no longer used, and how the disk gets it back.

SQLite keeps the pages that were freed, and a file shrinks only if its pages are moved together. A file that we create
does this in portions, while the journal is written to (auto_vacuum=INCREMENTAL). A file from before has to be rewritten
once. It is when it is opened, unless it holds so much that opening it would take long.

Invariants: nothing here changes what the journal holds. A portion is short, because an append waits for it. Some free
pages stay, because what is written next needs them.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

INCREMENTAL: Final = 2
REWRITE_BYTES: Final = 256 << 20
"""The most that is rewritten when a file from before is opened: it takes some seconds."""
LOG_BYTES: Final = 16 << 20
"""What the write-ahead log keeps of its size after a burst."""
PORTION_PAGES: Final = 256
SPARE_PAGES: Final = 256
SPARE: Final = 8
"""Up to this fraction of the file stays free."""


def prepare(sql: sqlite3.Connection) -> None:
    """Lets a file that is about to be created give space back. Does nothing to one that there is."""
    sql.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    sql.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")


def convert(sql: sqlite3.Connection) -> None:
    """Lets a file from before give space back, unless that would take long. It must be known to be intact."""
    if _figure(sql, "auto_vacuum") == INCREMENTAL:
        return
    sql.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    used = _figure(sql, "page_count") - _figure(sql, "freelist_count")
    if 0 < used * _figure(sql, "page_size") <= REWRITE_BYTES:
        with contextlib.suppress(sqlite3.OperationalError):  # locked, or the disk is full: next time, then
            sql.execute("VACUUM")
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def give_back(sql: sqlite3.Connection) -> bool:
    """Gives a portion back; whether there was one."""
    if not has_unused(sql):
        return False
    for _ in range(PORTION_PAGES):
        sql.execute("PRAGMA incremental_vacuum(1)")  # the module sqlite3 stops after the first page of several
    return True


def has_unused(sql: sqlite3.Connection) -> bool:
    """Whether more than the spare pages are free, and can be given back."""
    spare = max(SPARE_PAGES, _figure(sql, "page_count") // SPARE)
    return _figure(sql, "freelist_count") >= spare + PORTION_PAGES and _figure(sql, "auto_vacuum") == INCREMENTAL


def shrink(sql: sqlite3.Connection) -> None:
    """Moves the write-ahead log into the file, which cuts both to their sizes. Must not be in a transaction.

    Most is done while others write. If they keep the rest from being done, it is left for the next time.
    """
    sql.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    patience = _figure(sql, "busy_timeout")
    sql.execute("PRAGMA busy_timeout = 0")
    try:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        sql.execute(f"PRAGMA busy_timeout = {patience}")


def _figure(sql: sqlite3.Connection, name: str) -> int:
    figure: int = sql.execute(f"PRAGMA {name}").fetchone()[0]
    return figure
