"""Returns the unused space of a SQLite file to the disk.

SQLite keeps freed pages, and a file shrinks only if its pages are moved together. In a file that we create, this is
done in portions, while the journal is written to (auto_vacuum=INCREMENTAL). An older file has to be rewritten once.
This happens when it is opened, unless it is so large that opening it would take long.

Invariants: nothing here changes what the journal holds. A portion is short, because an append waits for it. Some free
pages stay for the next writes.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

INCREMENTAL: Final = 2
REWRITE_BYTES: Final = 256 << 20
"""The largest file that is rewritten when it is opened, which takes a few seconds."""
LOG_BYTES: Final = 16 << 20
"""The size to which the write-ahead log shrinks after a burst."""
REWRITE_WHILE_SERVING: Final = 64 << 20
"""The largest file that is rewritten while it is written to, which takes about half a second."""
PORTION_PAGES: Final = 256
SPARE_PAGES: Final = 256
SPARE: Final = 8
"""Up to this fraction of the file stays free."""


def prepare(sql: sqlite3.Connection) -> None:
    """Enables a file that is about to be created to return space. Does nothing to an existing file."""
    sql.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    sql.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    sql.execute("PRAGMA secure_delete = FAST")  # overwrites what costs no further write; see `rewrite` for the rest


def convert(sql: sqlite3.Connection) -> None:
    """Enables an older file to return space, unless this would take long. The file must be known to be intact."""
    if _figure(sql, "auto_vacuum") == INCREMENTAL:
        return
    sql.execute(f"PRAGMA auto_vacuum = {INCREMENTAL}")
    used = _figure(sql, "page_count") - _figure(sql, "freelist_count")
    if 0 < used * _figure(sql, "page_size") <= REWRITE_BYTES:
        with contextlib.suppress(sqlite3.OperationalError):  # locked, or the disk is full: try again at the next start
            sql.execute("VACUUM")
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def give_back(sql: sqlite3.Connection) -> bool:
    """Returns a portion to the disk. The result is whether there was one."""
    return has_unused(sql) and _give_back(sql)


def give_back_all(sql: sqlite3.Connection) -> bool:
    """The same until no page is free, so that nothing is left in one."""
    return _figure(sql, "freelist_count") > 0 and _figure(sql, "auto_vacuum") == INCREMENTAL and _give_back(sql)


def _give_back(sql: sqlite3.Connection) -> bool:
    for _ in range(PORTION_PAGES):
        sql.execute("PRAGMA incremental_vacuum(1)")  # the module sqlite3 stops after the first page of several
    return True


def rewrite(sql: sqlite3.Connection) -> bool:
    """Writes the file anew, so that it has nothing but rows. Whether it was small enough. Not in a transaction."""
    small = _figure(sql, "page_count") * _figure(sql, "page_size") <= REWRITE_WHILE_SERVING
    if small:
        sql.execute("VACUUM")
    return small


def empty_log(sql: sqlite3.Connection) -> bool:
    """Moves the write-ahead log into the file and cuts it to nothing. Whether others let it. Not in a transaction."""
    busy: int = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def has_unused(sql: sqlite3.Connection) -> bool:
    """Whether more than the spare pages are free, and can be returned."""
    spare = max(SPARE_PAGES, _figure(sql, "page_count") // SPARE)
    return _figure(sql, "freelist_count") >= spare + PORTION_PAGES and _figure(sql, "auto_vacuum") == INCREMENTAL


def shrink(sql: sqlite3.Connection) -> None:
    """Moves the write-ahead log into the file, which cuts both to their sizes. Must not be in a transaction.

    Most of this is done while others write. If they prevent the rest, it is left for the next time.
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
