"""The journal that a command is about, by its URL.

Invariants: a command creates no journal except to import into it: a misspelt path is reported instead.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from statestream.journal import MemoryJournal, SqliteJournal, from_url
from statestream.journal.contract import Journal
from statestream.tools.console.exit_codes import failure

JournalUrl = Annotated[str, typer.Argument(metavar="URL", help="The journal's URL, such as sqlite:///board.db.")]


def journal_of(url: str, *, new: bool = False) -> Journal:
    """Raises typer.BadParameter for a wrong URL. Exits with 1 if there is no such file, unless it may be `new`."""
    try:
        journal = from_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="URL") from None
    if isinstance(journal, MemoryJournal):
        raise typer.BadParameter("a journal in memory exists only in the process that uses it", param_hint="URL")
    if isinstance(journal, SqliteJournal) and not new and not journal.path.is_file():
        raise failure(f"expected a journal at {journal.path}, but there is no file")
    return journal


def sqlite_path(journal: str, parameter: str) -> Path:
    """The path of a SQLite journal, which may be given as a path or a URL. Raises typer.BadParameter."""
    if ":" not in journal:
        return Path(journal)
    try:
        return SqliteJournal.from_url(journal).path
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=parameter) from None


@asynccontextmanager
async def opened(journal: Journal) -> AsyncIterator[Journal]:
    await journal.open()
    try:
        yield journal
    finally:
        await journal.close()
