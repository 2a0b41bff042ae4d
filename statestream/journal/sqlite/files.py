"""The files of a SQLite journal on disk: checks that they are ours, and that the open files are those at their paths.

A process goes on writing to a file that was deleted, renamed or replaced, and everything it writes is gone when it
ends. So the paths are compared with the open files once for each batch, after it is durable and before it is
acknowledged.

Invariants: nothing here opens a file of SQLite: closing it again would drop the locks that SQLite holds in this
process. A file that is not empty and not ours stays as it is.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal.sqlite.head_file import head_path

SMALLEST: Final = 512
"""The bytes of the smallest SQLite database that is not empty. SQLite takes some smaller files for empty ones."""
LITTLE_ROOM: Final = 1 << 20
"""With fewer free bytes on the disk, only a write shows whether there is room."""
_GONE: Final = (
    "the journal's file was deleted, renamed or replaced while it was open; put it back, or restart the server"
)


def check_foreign(path: Path) -> None:
    """Raises JournalUnusable for a file that is neither empty nor a database. SQLite would overwrite some such files.

    A file that has a head beside it is ours, however damaged it is.
    """
    size = path.stat().st_size if path.is_file() and not head_path(path).exists() else 0
    if size and (size < SMALLEST or not _has_header(path)):
        raise JournalUnusable(f"expected a statestream journal, but {path} is another kind of file; it was not changed")


def _has_header(path: Path) -> bool:
    """Whether a file begins as a database, without regard to a write-ahead log beside it."""
    sql = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        sql.execute("PRAGMA schema_version")
    except (
        sqlite3.DatabaseError,
        UnicodeDecodeError,
    ) as error:  # if it is damaged in another way, opening it properly says more
        return getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB
    finally:
        sql.close()
    return True


class OpenFiles:
    """Knows which files are open, by device and inode. `moved` stays true until the files are back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: list[tuple[str, tuple[int, int]]] = []
        self.moved = False

    def remember(self) -> None:
        """Notes the files at their paths, which SQLite has just opened. The log is beside the file, not the link."""
        paths = (os.path.abspath(self._path), os.path.realpath(self._path) + "-wal")  # noqa: PTH100  # a string is wanted
        self._known = [(path, _identity(path)) for path in paths]

    def check(self) -> None:
        """Raises Unavailable unless the open files are those at their paths."""
        self.moved = True
        try:
            for path, identity in self._known:
                if _identity(path) != identity:
                    raise Unavailable(_GONE)
        except OSError:
            raise Unavailable(_GONE) from None
        self.moved = False

    def check_again(self) -> None:
        """The same, after they were found to differ."""
        if self.moved:
            self.check()


def has_room(path: Path) -> bool:
    """Whether the file system has room for more than a small write."""
    if not hasattr(os, "statvfs"):
        return True
    disk = os.statvfs(path)
    free = disk.f_bavail if os.geteuid() else disk.f_bfree  # some blocks are reserved for root
    return free * disk.f_frsize >= LITTLE_ROOM


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  # a Path would cost as much again
    return status.st_dev, status.st_ino
