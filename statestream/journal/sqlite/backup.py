"""Copies a SQLite journal while a server writes to it.

SQLite's own backup copies the pages as of one moment, which a server that appends meanwhile does not notice. The copy
is checked as a journal is that is opened, and gets a head file of its own: the one beside the original may be newer.

Invariants: the copy appears under its name when it is complete and on disk, not before. No file is overwritten.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from statestream.core.change import Position
from statestream.core.errors import JournalUnusable, StatestreamError
from statestream.journal.sqlite.files import check_foreign
from statestream.journal.sqlite.head_file import Acknowledged, HeadFile, head_path
from statestream.journal.sqlite.schema import Schema
from statestream.journal.sqlite.worker import SQLITE_ERRORS, translated


def backup(path: Path, to: Path) -> Position:
    """Copies the journal at `path` to `to`, and returns the position at which the copy ends.

    Raises StatestreamError: if there is no journal, if it is damaged, if there is a file at `to`. Raises OSError.
    """
    if not path.is_file():
        raise StatestreamError(f"expected a journal at {path}, but there is no file")
    check_foreign(path)
    for file in (to, head_path(to), *(to.with_name(f"{to.name}-{end}") for end in ("wal", "shm"))):
        if file.exists():
            raise StatestreamError(f"{file} exists already; choose another name, or delete it")
    begun = to.with_name(f"{to.name}-part")
    begun.touch(0o600)  # fails with a reason if nothing can be written there
    try:
        newest = _copied(path, begun)
        shutil.copymode(path, begun)
        begun.replace(to)
    except SQLITE_ERRORS as error:
        if isinstance(translated(error), JournalUnusable):
            raise translated(error) from error
        raise StatestreamError(f"the journal could not be copied: {error}") from error
    finally:
        for file in (begun, *(begun.with_name(f"{begun.name}-{end}") for end in ("wal", "shm", "journal"))):
            file.unlink(missing_ok=True)
    head = HeadFile(to)
    head.open(newest, to.stat().st_mode & 0o777)  # which flushes the directory as well
    head.close()
    return newest.position


def _copied(path: Path, to: Path) -> Acknowledged:
    """Copies all pages in one step: between two, the file would change, and the copy begin again."""
    with (
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as source,
        closing(sqlite3.connect(to, isolation_level=None)) as copy,
    ):
        source.backup(copy)
        position, ledger = Schema(copy, path).prepare(None)
    with to.open("rb") as file:
        os.fsync(file.fileno())
    return Acknowledged(position=position, ledger=ledger)
