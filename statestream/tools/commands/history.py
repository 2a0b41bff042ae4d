"""`statestream history URL`: every change that is kept, one a line, as they come.

Invariants: a stream. What is held at a time is one line, however long the history is.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import orjson
import typer

from statestream.core.change import Position
from statestream.tools.bench.target import Target
from statestream.tools.commands.asking import (
    Headers,
    Slices,
    Url,
    answer,
    checked,
    not_ours,
    run,
    target_of,
    write,
    write_json,
)
from statestream.tools.commands.lines import change_line


def history(
    url: Url,
    slices: Slices = None,
    after: Annotated[
        str | None, typer.Option(help="Only what came after this position; else from the oldest that is kept.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most as many changes.", min=0)] = None,
    full: Annotated[bool, typer.Option("--full", help="With the payload of each action.")] = False,
    header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines as the server says them, uncut.")] = False,
) -> None:
    """Prints the changes that the journal keeps, one a line, the oldest first, up to now.

    Exit code 0: that is all. 1: the server said no, or broke off.
    2: a wrong call.

    \b
    statestream history URL --slices board
    statestream history URL --after 1042.k3v9x2m --limit 10
    statestream history URL --json --full | jq -c .cause
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    position = checked(Position.parse, after, "--after")
    query = {} if position is None else {"after": str(position)}
    query |= {} if limit is None else {"limit": str(limit)}
    run(_print(target, query | ({"cause": "full"} if full else {}), as_json))


async def _print(target: Target, query: dict[str, str], as_json: bool) -> None:
    async with answer(target, "history", "application/x-ndjson", query) as response:
        async for lines in _lines(response):
            for line in lines:
                change = _read(line, target)
                if as_json:
                    write_json(line)
                else:
                    write(change_line(change, len(line)).encode())
            sys.stdout.flush()


def _read(line: bytes, target: Target) -> Any:
    try:
        change = orjson.loads(line)
        change["position"], change["slice"], change["version"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise not_ours(target) from None
    return change


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
    """The lines that have come. Unlike aiohttp's own they may be as long as a change may be."""
    rest: list[bytes] = []
    async for chunk in response.content.iter_any():
        *lines, begun = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest = []
            yield lines
        rest.append(begun)
