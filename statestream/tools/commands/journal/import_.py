"""`statestream journal import FILE URL`: fills an empty journal from an export.

Invariants: arguments, messages and exit codes only; `journal/importing.py` does the work. The journal is opened after
the file was found to be complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from statestream.journal.contract import Journal
from statestream.journal.export_file import MAX_LINE
from statestream.journal.importing import Content, Imported, examined, import_into
from statestream.tools.commands.journal.opened import JournalUrl, journal_of, opened
from statestream.tools.console.exit_codes import errors_explained, failure, run


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `statestream journal export` has written, unpacked.")
    ],
    url: JournalUrl,
) -> None:
    """Reads an export into an empty journal of any engine, which is created if it is missing.

    The whole file is checked first: a file that is damaged or incomplete
    changes nothing. The server must not use the journal yet.

    Positions stay as they are if the engine allows it, as SQLite does.
    Otherwise clients receive the state again, and an id that is used again
    is recognized.

    Exit code 0: it was imported. 1: it was not. 2: invalid usage.

    \b
    statestream journal import board.jsonl sqlite:///new.db
    """  # noqa: D301  # \b keeps the lines apart
    journal = journal_of(url, new=True)
    with errors_explained():
        try:
            content = examined(lambda: _lines(file))
        except OSError as error:
            raise failure(f"cannot read {file}: {error.strerror}") from None
    done = run(_imported(journal, content, file))
    typer.echo(
        f"Imported {done.slices:,} slices, {done.changes:,} changes and {done.records:,} ids. "
        f"The journal ends at {done.head}."
    )
    if not done.same_positions:
        typer.echo("This engine has numbered the changes anew: clients receive the state again, as `forked`.")


async def _imported(journal: Journal, content: Content, file: Path) -> Imported:
    async with opened(journal):
        return await import_into(journal, content, lambda: _lines(file))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE + 1):
            yield line
