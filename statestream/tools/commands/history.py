"""`statestream history URL`: prints the changes that the journal keeps, one per line, as they arrive.

Invariants: a stream. One line is in memory at a time, however long the history is.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any

import aiohttp
import orjson
import typer

from statestream.core.change import Position
from statestream.tools.console.change_lines import change_line
from statestream.tools.console.exit_codes import run
from statestream.tools.console.options import Headers, Json, Slices, Url, parsed, target_of
from statestream.tools.console.output import write, write_json
from statestream.tools.console.requests import get, not_statestream
from statestream.tools.target import Target


def history(
    url: Url,
    slices: Slices = None,
    after: Annotated[
        str | None, typer.Option(help="Only changes after this position. Default: from the earliest position.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many changes.", min=0)] = None,
    full: Annotated[bool, typer.Option("--full", help="Include the payload of each action.")] = False,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Prints the changes that the journal keeps, one per line, oldest first, up to now.

    With --json each line is what the server sent, unabridged.

    Exit code 0: it is complete. 1: the server refused, or the response was
    cut off. 2: invalid usage.

    \b
    statestream history URL --slices board
    statestream history URL --after 1042.k3v9x2m --limit 10
    statestream history URL --json --full | jq -c .cause
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    position = parsed(Position.parse, after, "--after")
    query = {} if position is None else {"after": str(position)}
    query |= {} if limit is None else {"limit": str(limit)}
    run(_print(target, query | ({"cause": "full"} if full else {}), as_json))


async def _print(target: Target, query: dict[str, str], as_json: bool) -> None:
    async with get(target, "history", "application/x-ndjson", query) as response:
        async for lines in _lines(response):
            for line in lines:
                change = _parse(line, target)
                if as_json:
                    write_json(line)
                else:
                    write(change_line(change, len(line)).encode())
            sys.stdout.flush()


def _parse(line: bytes, target: Target) -> Any:
    try:
        change = orjson.loads(line)
        change["position"], change["slice"], change["version"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise not_statestream(target) from None
    return change


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
    """The lines that each chunk completes. aiohttp's own iterator limits a line to less than a change may have."""
    rest: list[bytes] = []
    async for chunk in response.content.iter_any():
        *lines, begun = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join([*rest, lines[0]])
            rest = []
            yield lines
        rest.append(begun)
