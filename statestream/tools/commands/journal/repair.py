"""`statestream journal repair JOURNAL`: takes a damaged journal back to its last good change.

Invariants: arguments and messages only; `journal/sqlite/repair.py` does the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statestream.journal.sqlite.repair import Repaired
from statestream.journal.sqlite.repair import repair as repair_journal
from statestream.tools.commands.journal.opened import sqlite_path
from statestream.tools.console.exit_codes import errors_explained, failure


def repair(
    journal: Annotated[
        str, typer.Argument(metavar="JOURNAL", help="The journal's URL or file: sqlite:///board.db or board.db.")
    ],
) -> None:
    """Checks a SQLite journal, and takes a damaged one back to its last good change.

    Stop the server first. The damaged files are copied beside themselves
    before anything is changed, and what is lost is printed.

    Exit code 0: the journal is intact, or was repaired. 1: it cannot be
    repaired. 2: invalid usage.

    \b
    statestream journal repair sqlite:///board.db
    """  # noqa: D301  # \b keeps the lines apart
    path = sqlite_path(journal, "JOURNAL")
    with errors_explained():
        try:
            repaired = repair_journal(path)
        except OSError as error:
            raise failure(f"{path} could not be repaired: {error}") from None
    for line in _report(path, repaired):
        typer.echo(line)


def _report(path: Path, repaired: Repaired) -> list[str]:
    if not repaired.copies:
        return [f"{path} is intact and ends at {repaired.head}. Nothing was changed."]
    first = repaired.head.seq + 1
    lines = [
        f"{path} was damaged. It now ends at {repaired.head}.",
        f"Lost changes: {repaired.lost}, from number {first} on." if repaired.lost else "No newer changes are lost.",
    ]
    if repaired.earlier is None or repaired.earliest.seq > repaired.earlier:
        lines.append(f"Older history: it can be read from {repaired.earliest} on. Earlier changes are lost.")
    if repaired.lost_requests:
        lines.append(f"Lost ids: at least {repaired.lost_requests}. A repeat of such a request takes effect again.")
    if repaired.lost:
        lines.append("If a request whose change is lost is repeated with the same id, it takes effect.")
    return [*lines, f"The damaged files were copied to {', '.join(str(copy) for copy in repaired.copies)}."]
