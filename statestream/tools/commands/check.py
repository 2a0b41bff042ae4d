"""`statestream check TARGET`: what would happen if this code opened its journal.

Invariants: arguments and messages only; `store/preview.py` looks.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from statestream.journal.sqlite import SqliteJournal
from statestream.store.preview import Preview
from statestream.store.store import Store
from statestream.tools.console.exit_codes import errors_explained, failure
from statestream.tools.console.program import ProgramObject

NAMED: Final = 50
"""The values that the code cannot use and that are named: there may be a hundred thousand."""


def check(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The store: app.py:store or package.module:store.")],
    journal: Annotated[
        str | None, typer.Option(help="The journal to look at, in place of the store's: sqlite:///board.db.")
    ] = None,
) -> None:
    """Says what would happen if your code opened the journal: before you deploy it.

    It writes nothing. A server may use the journal meanwhile.

    Exit code 0: the code can open the journal, use its values, and accepts
    the actions that it has had lately. 1: it cannot, or would refuse some.
    2: invalid usage.

    \b
    statestream check app.py:store --journal sqlite:///board.db
    """  # noqa: D301  # \b keeps the lines apart
    store = ProgramObject(target, "TARGET").load("a Store", _is_store)
    if journal is not None:
        try:
            store.use_journal(journal)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--journal") from None
    if isinstance(store.journal, SqliteJournal) and not store.journal.path.exists():
        raise failure(f"there is no journal at {store.journal.path}; name the one that you deploy to with --journal")
    with errors_explained():
        found = asyncio.run(store.preview())
    for line in report(found):
        typer.echo(line)
    if found.refused or found.unusable:
        raise typer.Exit(1)


def _is_store(found: Any) -> bool:
    return isinstance(found, Store)


def report(found: Preview) -> list[str]:
    lines = [f"The journal is at {found.position}. This code can open it."]
    lines += [f"- {what}: {count} {_values(count)}" for what, count in found.steps.items()]
    lines += [
        f"- {count} {_values(count)} of {name} {'is' if count == 1 else 'are'} of an earlier version; each is upgraded "
        "when it is first read or written"
        for name, count in found.later.items()
    ]
    lines += [f"- {why}" for _, why in sorted(found.unusable.items())[:NAMED]]
    if (more := len(found.unusable) - NAMED) > 0:
        lines.append(f"- {more} more {_values(more)} cannot be used either")
    lines += [
        f"- {name} is not declared: {count} {_values(count)} would stay as they are; to remove them, write "
        f"Store(…, removed=[{name!r}])"
        for name, count in found.undeclared.items()
    ]
    if not found.steps and not found.undeclared and not found.later:
        lines.append("It would write nothing.")
    lines += [
        f"- Of the newest {found.recent} changes, {count} came from {kind} with a payload that would be refused now: "
        f"{why}"
        for kind, (count, why) in found.refused.items()
    ]
    return lines


def _values(count: int) -> str:
    return "value" if count == 1 else "values"
