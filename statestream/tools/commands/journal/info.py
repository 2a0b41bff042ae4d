"""`statestream journal info URL`: what a journal holds, and how large it is.

Invariants: arguments, messages and exit codes only; `journal/inspection.py` does the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import typer

from statestream.journal.contract import Journal, Retention
from statestream.journal.inspection import Overview, overview
from statestream.tools.commands.journal.opened import JournalUrl, journal_of, opened
from statestream.tools.console.exit_codes import run

UNITS: Final = ("B", "kB", "MB", "GB", "TB")


def info(url: JournalUrl) -> None:
    """Prints what a journal holds: positions, times, sizes, checkpoints.

    It reads the whole history. A server can go on using the journal.

    Exit code 0: it was read. 1: it cannot be read. 2: invalid usage.

    \b
    statestream journal info sqlite:///board.db
    """  # noqa: D301  # \b keeps the lines apart
    journal = journal_of(url)
    found = run(_overview(journal))
    for line in (*_summary(url, found, journal.retention), "", *_families(found)):
        typer.echo(line)


async def _overview(journal: Journal) -> Overview:
    async with opened(journal):
        return await overview(journal)


def _summary(url: str, found: Overview, retention: Retention) -> Iterator[str]:
    changes = sum(family.changes for family in found.families.values())
    size = sum(family.history_bytes for family in found.families.values())
    yield f"engine       {url.partition(':')[0]}"
    yield f"head         {found.head}{_at(found.ended)}"
    yield f"earliest     {found.earliest}{_at(found.began, 'followed by a change of ')}"
    yield f"history      {changes:,} changes, {_size(size)}"
    kept = [str(point.position) for point in found.checkpoints]
    yield f"checkpoints  {', '.join(kept[-3:]) or 'none'}{f', and {len(kept) - 3:,} older ones' if kept[3:] else ''}"
    if found.records is not None:
        yield f"ids          {found.records:,} remembered {'request' if found.records == 1 else 'requests'}"
    days = f"{retention.age / 86_400:g} days" if retention.age else "any age"
    yield (
        f"retention    {retention.changes or 'any number of'} changes, {days}, {_size(retention.bytes)}; "
        f"ids {_size(retention.id_bytes)}"
    )
    yield "             (unless the program that uses the journal sets another)"


def _families(found: Overview) -> Iterator[str]:
    width = max((len(name) for name in found.families), default=0)
    yield f"{'slice':{max(width, 5)}}  {'instances':>10}  {'state':>10}  {'changes':>10}  {'history':>10}"
    for name, each in found.families.items():
        yield (
            f"{name:{max(width, 5)}}  {each.instances:>10,}  {_size(each.state_bytes):>10}  {each.changes:>10,}"
            f"  {_size(each.history_bytes):>10}"
        )


def _at(ms: int | None, what: str = "") -> str:
    return "" if ms is None else f", {what}{datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec='seconds')}"


def _size(count: float) -> str:
    """In units of 1,000, as the disk's own."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"
