"""`statestream journal verify URL`: reads everything and says whether it fits.

Invariants: arguments, messages and exit codes only; `journal/inspection.py` does the work.
"""

from __future__ import annotations

import typer

from statestream.journal.contract import Journal
from statestream.journal.inspection import Verified
from statestream.journal.inspection import verify as verify_journal
from statestream.tools.commands.journal.opened import JournalUrl, journal_of, opened
from statestream.tools.console.exit_codes import run


def verify(url: JournalUrl) -> None:
    """Reads a journal as a whole, with all of its checksums, and checks that its changes fit each other.

    At each checkpoint, they must lead to the state that is saved there. A
    server can go on using the journal. Nothing is changed: to mend a
    damaged SQLite journal, use `statestream journal repair`.

    Exit code 0: everything fits. 1: something does not, or the journal
    cannot be read. 2: invalid usage.

    \b
    statestream journal verify sqlite:///board.db
    """  # noqa: D301  # \b keeps the lines apart
    found = run(_verified(journal_of(url)))
    ids = "" if found.records is None else f", {found.records:,} ids of requests"
    typer.echo(
        f"The journal is intact: {found.changes:,} changes from {found.earliest} to {found.head}, "
        f"{found.checkpoints:,} checkpoints{ids}."
    )


async def _verified(journal: Journal) -> Verified:
    async with opened(journal):
        return await verify_journal(journal)
