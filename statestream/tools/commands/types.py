"""`statestream types TARGET`: writes what a store declares as types of TypeScript.

Invariants: arguments, files and messages only; `tools/typescript` has the types. A file that is up to date is not
written, so nothing that watches it starts to work.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aiohttp import web

from statestream.server.request import STORE
from statestream.store.store import Store
from statestream.tools.console.exit_codes import failure
from statestream.tools.console.output import write
from statestream.tools.console.program import ProgramObject
from statestream.tools.console.text import safe
from statestream.tools.typescript.declarations import declarations

STDOUT: Final = "-"
SHOWN_LINES: Final = 40
"""How much of a difference is printed."""


def types(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The store or web.Application: app.py:store or package.module:app."),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write them; - is stdout.")
    ] = STDOUT,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing, and say whether FILE is up to date: for CI.")
    ] = False,
) -> None:
    """Writes TypeScript: the values of your slices, and the payloads of their actions.

    The file exports State, by names of slices, and Actions, by types of
    actions. It is the same each time, so keep it under version control.

    Exit code 0: it is written, or up to date. 1: it is stale, or cannot be
    written. 2: invalid usage.

    \b
    statestream types app.py:store
    statestream types app.py:store -o web/state.d.ts
    statestream types app.py:store -o web/state.d.ts --check
    """  # noqa: D301  # \b keeps the lines apart
    if check and output == STDOUT:
        raise typer.BadParameter("name the file to look at with -o FILE", param_hint="--check")
    found = ProgramObject(target, "TARGET").load("a Store or a web.Application with one", _has_store)
    text = declarations(found if isinstance(found, Store) else found[STORE])
    if output == STDOUT:
        write(text.rstrip("\n").encode())
        return
    path = Path(output)
    before = _content(path)
    if check and before != text:
        _show(before or "", text, output)
        again = f"statestream types {shlex.quote(target)} -o {shlex.quote(output)}"
        raise failure(f"{output} is {'stale' if before is not None else 'missing'}; write it with: {again}")
    if before != text:
        _write(path, text)


def _has_store(found: Any) -> bool:
    return isinstance(found, Store) or (isinstance(found, web.Application) and STORE in found)


def _content(path: Path) -> str | None:
    """None if there is no such file, or if it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    except OSError as error:
        raise failure(f"cannot read {path}: {error.strerror}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise failure(f"cannot write {path}: {error.strerror}") from None


def _show(before: str, after: str, name: str) -> None:
    """Prints the beginning of the difference, and how much there is of it."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), name, "now", lineterm="", n=1))
    for line in lines[:SHOWN_LINES]:
        write(safe(line).encode())
    if len(lines) > SHOWN_LINES:
        write(f"… {len(lines) - SHOWN_LINES} more lines".encode())
    write(f"{_count(lines[2:], '+')} to add, {_count(lines[2:], '-')} to remove".encode())


def _count(lines: Iterable[str], sign: str) -> str:
    number = sum(line.startswith(sign) for line in lines)
    return f"{number} line" if number == 1 else f"{number} lines"
