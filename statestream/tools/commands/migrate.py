"""`statestream migrate URL`: creates or migrates the tables of a journal, as a role that may do that.

Invariants: arguments and messages only; the engine of the journal does the work. No message contains the URL, because
it may contain a password.
"""

from __future__ import annotations

from typing import Annotated

import typer

from statestream.journal import Journal, Migratable, from_url
from statestream.tools.console.exit_codes import run


def migrate(
    journal: Annotated[str, typer.Argument(metavar="JOURNAL", help="The journal's URL: postgresql://host/database.")],
) -> None:
    """Creates the tables of a journal, or migrates those of an older version.

    A server does this when it starts, unless its URL says migrate=off:
    then it needs no right to create tables, and you run this command
    as their owner, before you start a new version.

    Exit code 0: the tables are up to date. 1: they cannot be created or
    migrated. 2: invalid usage.

    \b
    statestream migrate 'postgresql://owner@db.example.com/app?schema=board'
    """  # noqa: D301  # \b keeps the lines apart
    try:
        found = from_url(journal)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="JOURNAL") from None
    typer.echo(run(_migrated(found)))


async def _migrated(journal: Journal) -> str:
    """What has been done, as a sentence."""
    if not isinstance(journal, Migratable):
        return "This journal needs no migration: it is upgraded when it is opened."
    before, after = await journal.migrate()
    if before == after:
        return f"The tables are up to date, version {after}. Nothing was changed."
    return f"The tables were {'migrated from version ' + str(before) if before else 'created'}; now version {after}."
