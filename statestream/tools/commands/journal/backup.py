"""`statestream journal backup URL FILE`: copies a SQLite journal while a server uses it.

Invariants: arguments, messages and exit codes only; `journal/sqlite/backup.py` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.journal import SqliteJournal
from statestream.journal.sqlite.backup import backup as copy_journal
from statestream.tools.commands.journal.opened import JournalUrl, journal_of
from statestream.tools.console.exit_codes import errors_explained, failure


def backup(
    url: JournalUrl,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file. `FILE-head` is written beside it.")],
) -> None:
    """Copies a SQLite journal while a server writes to it.

    The copy is checked, and has everything that was acknowledged before the
    command began. It is a journal itself. For other engines, use their own
    backups, or `statestream journal export`.

    Exit code 0: the copy is complete. 1: it is not. 2: invalid usage.

    \b
    statestream journal backup sqlite:///board.db board-backup.db
    """  # noqa: D301  # \b keeps the lines apart
    journal = journal_of(url)
    if not isinstance(journal, SqliteJournal):
        raise typer.BadParameter(
            "expected a SQLite journal; use the backups of your database, or statestream journal export",
            param_hint="URL",
        )
    with errors_explained():
        try:
            position = copy_journal(journal.path, file)
        except OSError as error:
            raise failure(f"cannot write {file}: {error.strerror}") from None
    typer.echo(f"{file} is complete and ends at {position}. Keep {file.name}-head beside it.")
