"""`statestream runs list`: the replies of chats that are in progress or waiting, on a server or in a journal.

Invariants: a journal is only read, so its servers may run meanwhile. What a server has answered is made safe before it
is printed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Final

import orjson
import typer

from statestream.journal.contract import Journal
from statestream.tools.commands.journal.opened import journal_of, opened
from statestream.tools.console.exit_codes import run
from statestream.tools.console.options import Headers, Json, target_of
from statestream.tools.console.output import write, write_json
from statestream.tools.console.requests import get, not_statestream
from statestream.tools.console.text import safe
from statestream.tools.target import Target

WATCH_SECONDS: Final = 1.0
COLUMNS: Final = ("chat", "reply", "state", "model", "node", "age", "tokens", "status")
CLEAR: Final = b"\x1b[H\x1b[2J"


def list_(
    url: Annotated[
        str | None, typer.Argument(metavar="URL", help="The root URL of the server, such as http://127.0.0.1:8000.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(metavar="JOURNAL", help="Read this journal instead of asking a server.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat the list every second, until Ctrl-C.")] = False,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Lists the replies of chats that are in progress, queued or waiting, the oldest first.

    A server answers only operators: people who may see the readers in its
    inspector.

    Exit code 0: they were listed. 1: the server refused or did not answer, or
    the journal cannot be read. 2: invalid usage.

    \b
    statestream runs list URL
    statestream runs list --journal sqlite:///board.db
    statestream runs list URL --json | jq '.[] | select(.state == "waiting") | .chat'
    """  # noqa: D301  # \b keeps the lines apart
    if (url is None) == (journal is None):
        raise typer.BadParameter(
            "expected the URL of a server, or --journal with the URL of a journal", param_hint="URL"
        )
    if journal is not None:
        find = partial(_in_journal, journal_of(journal))
    else:
        find = partial(_on_server, target_of(url or "", None, header))
    run(_print(find, watch, as_json))


async def _print(find: Callable[[], Awaitable[Sequence[Any]]], watch: bool, as_json: bool) -> None:
    while True:
        found = await find()
        if watch and sys.stdout.isatty() and not as_json:
            sys.stdout.buffer.write(CLEAR)
        if as_json:
            write_json(orjson.dumps(found))
        else:
            for line in lines(found, int(time.time() * 1000)):
                write(line.encode())
        sys.stdout.flush()
        if not watch:
            return
        await asyncio.sleep(WATCH_SECONDS)


async def _on_server(target: Target) -> Sequence[Any]:
    async with get(target, "api/runs", "application/json", {}) as response:
        body = await response.read()
    try:
        found = orjson.loads(body)["runs"]
        for each in found:
            each["chat"], each["reply"], each["state"], each["model"], int(each["since"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise not_statestream(target) from None
    runs: Sequence[Any] = found
    return runs


async def _in_journal(journal: Journal) -> Sequence[Any]:
    from statestream.tools.runs_in_journal import runs_in  # here, because it imports the chat

    async with opened(journal):
        return await runs_in(journal)


def lines(runs: Sequence[Any], now: int) -> Iterator[str]:
    """A table with a line for each run; a sentence without any."""
    if not runs:
        yield "no reply is in progress or waiting"
        return
    table = [COLUMNS, *(_row(each, now) for each in runs)]
    widths = [max(len(row[at]) for row in table) for at in range(len(COLUMNS))]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(run: Any, now: int) -> tuple[str, ...]:
    usage = run.get("usage", {})
    tokens = f"{usage.get('input', 0) + usage.get('output', 0):,}" if usage else "-"
    tokens += f" ({run['cost']:,.4g})" if "cost" in run else ""
    named = (run["chat"], run["reply"], run["state"], run["model"], run.get("node", "-"))
    return (*(safe(str(each)) for each in named), _age(now - run["since"]), tokens, safe(str(run.get("status", ""))))


def _age(milliseconds: int) -> str:
    seconds = max(0, milliseconds // 1000)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h"
