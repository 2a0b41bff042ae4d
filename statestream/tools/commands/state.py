"""`statestream state URL`: what the state is, or was.

Invariants: one question, one answer; what is printed is what the server said.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from statestream.core.change import Position
from statestream.core.errors import Malformed
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
from statestream.tools.commands.text import safe


def state(
    url: Url,
    slices: Slices = None,
    at: Annotated[
        str | None, typer.Option(help="The state as of this position, as far back as the journal keeps.")
    ] = None,
    header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object in one line, and nothing else.")] = False,
) -> None:
    """Prints the state: now, or as it was at a position.

    Exit code 0: that is it. 1: the server said no, or nobody answered.
    2: a wrong call.

    \b
    statestream state URL --slices 'board,room/*'
    statestream state URL --at 1042.k3v9x2m
    statestream state URL --json | jq .slices.board
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    position = checked(Position.parse, at, "--at")
    run(_print(target, {} if position is None else {"at": str(position)}, as_json))


async def _print(target: Target, query: dict[str, str], as_json: bool) -> None:
    found = await _asked(target, query)
    if as_json:
        write_json(orjson.dumps(found))
        return
    write(f"position {safe(found['position'])}".encode())
    for name, value in found["slices"].items():
        write(f"\n{safe(name)}, version {safe(str(found['versions'][name]))}".encode())
        write_json(orjson.dumps(value, option=orjson.OPT_INDENT_2))


async def _asked(target: Target, query: dict[str, str]) -> Any:
    async with answer(target, "state", "application/json", query) as response:
        body = await response.read()
    try:
        found = orjson.loads(body)
        _ = Position.parse(found["position"]), {name: found["versions"][name] for name in found["slices"]}
    except (orjson.JSONDecodeError, KeyError, TypeError, Malformed):
        raise not_ours(target) from None
    return found
