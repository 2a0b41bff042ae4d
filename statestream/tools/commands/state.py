"""`statestream state URL`: prints the state, now or at a position.

Invariants: one request, one response; every value that is printed was in the response.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from statestream.core.change import Position
from statestream.core.errors import Malformed
from statestream.tools.console.exit_codes import run
from statestream.tools.console.options import Headers, Json, Slices, Url, parsed, target_of
from statestream.tools.console.output import write, write_json
from statestream.tools.console.requests import get, not_statestream
from statestream.tools.console.text import safe
from statestream.tools.target import Target


def state(
    url: Url,
    slices: Slices = None,
    at: Annotated[
        str | None, typer.Option(help="The state at this position, as far back as the journal goes. Default: now.")
    ] = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Prints the state as it is now, or as it was at a position.

    Exit code 0: it was printed. 1: the server refused or did not answer.
    2: invalid usage.

    \b
    statestream state URL --slices 'board,room/*'
    statestream state URL --at 1042.k3v9x2m
    statestream state URL --json | jq .slices.board
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    position = parsed(Position.parse, at, "--at")
    run(_print(target, {} if position is None else {"at": str(position)}, as_json))


async def _print(target: Target, query: dict[str, str], as_json: bool) -> None:
    found = await _get(target, query)
    if as_json:
        write_json(orjson.dumps(found))
        return
    write(f"position {safe(found['position'])}".encode())
    for name, value in found["slices"].items():
        write(f"\n{safe(name)}, version {safe(str(found['versions'][name]))}".encode())
        write_json(orjson.dumps(value, option=orjson.OPT_INDENT_2))


async def _get(target: Target, query: dict[str, str]) -> Any:
    async with get(target, "state", "application/json", query) as response:
        body = await response.read()
    try:
        found = orjson.loads(body)
        _ = Position.parse(found["position"]), {name: found["versions"][name] for name in found["slices"]}
    except (orjson.JSONDecodeError, KeyError, TypeError, Malformed):
        raise not_statestream(target) from None
    return found
