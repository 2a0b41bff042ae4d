"""`statestream journal export URL`: everything that a journal keeps, as JSON lines.

Invariants: arguments, messages and exit codes only; `journal/exporting.py` does the work. A file appears under its name
when it is complete.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from statestream.journal.contract import Journal
from statestream.journal.export_file import ExportWriter
from statestream.journal.exporting import export as export_journal
from statestream.tools.commands.journal.opened import JournalUrl, journal_of, opened
from statestream.tools.console.exit_codes import run
from statestream.tools.console.output import notice

FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
"""Only its owner may read the file."""


def export(
    url: JournalUrl,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write. Default: stdout.")
    ] = None,
) -> None:
    """Exports a journal as JSON lines, which `statestream journal import` reads into a journal of any engine.

    The file has everything that clients can read, and the ids of requests:
    keep it as secret as the journal. A server can go on using the journal;
    the export ends at the position at which it began.

    Exit code 0: it was exported. 1: it could not be. 2: invalid usage.

    \b
    statestream journal export sqlite:///board.db -o board.jsonl
    statestream journal export sqlite:///board.db | gzip > board.jsonl.gz
    """  # noqa: D301  # \b keeps the lines apart
    writer = run(_exported(journal_of(url), output))
    notice(f"exported {writer.changes:,} changes, {writer.slices:,} slices before them, and {writer.records:,} ids")


async def _exported(journal: Journal, output: Path | None) -> ExportWriter:
    async with opened(journal):
        if output is None:
            writer = ExportWriter(sys.stdout.buffer.write)
            await export_journal(journal, writer)
            return writer
        begun = output.with_name(f"{output.name}-part")
        try:
            with os.fdopen(os.open(begun, FLAGS, mode=0o600), "wb") as file:
                writer = ExportWriter(file.write)
                await export_journal(journal, writer)
                file.flush()
                os.fsync(file.fileno())
            begun.replace(output)
        finally:
            begun.unlink(missing_ok=True)
        return writer
