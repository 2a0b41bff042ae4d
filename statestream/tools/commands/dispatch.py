"""`statestream dispatch URL TYPE [PAYLOAD]`: makes an action happen, once.

Invariants: the request has an id before it is sent, so that whatever becomes of the answer it can be repeated.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
import typer

from statestream.client.dispatching import dispatch as send
from statestream.core.change import Action, Result
from statestream.core.errors import Malformed, Unavailable
from statestream.core.names import check_id, check_key, split_name
from statestream.core.values import loads
from statestream.tools.bench.target import Target
from statestream.tools.commands.asking import (
    Headers,
    Url,
    as_wrong_call,
    checked,
    reach,
    run,
    say,
    session,
    shown_url,
    target_of,
    write,
    write_json,
)
from statestream.tools.commands.text import safe

QUIET_SECONDS: Final = 3.0
"""Without an answer for so long, a person is told that there is none yet."""


def dispatch(
    url: Url,
    type: Annotated[str, typer.Argument(metavar="TYPE", help="What happens, like board/task_added.")],
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="A JSON object, or - to read it from stdin.")
    ] = "{}",
    key: Annotated[str | None, typer.Option(help="Which instance of a keyed slice, like 42 of room/42.")] = None,
    id: Annotated[
        str | None, typer.Option(help="Makes it safe to repeat: the same id takes effect once. Else a new one.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="SLICE=VERSION", help="Only if the slice has this version; may be given again."),
    ] = None,
    header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as one JSON object in one line.")] = False,
) -> None:
    """Dispatches an action and says what it changed. A lost connection is tried again: it happens once.

    Exit code 0: it happened. 1: the server said no, or nobody knows whether
    it happened. 2: a wrong call.

    \b
    statestream dispatch URL board/task_added '{"id": "1", "title": "Ship it"}'
    statestream dispatch URL room/joined '{"name": "Ada"}' --key lobby
    statestream dispatch URL board/cleared --expect board=12
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, None, header)
    checked(check_key, key, "--key")
    action = Action(type=type, payload=_payload(payload), key=key)
    request_id = checked(check_id, id, "--id") or uuid.uuid4().hex
    run(_dispatch(target, action, request_id, _expected(expect or []), as_json), interrupted=1)


def _payload(text: str) -> Mapping[str, Any]:
    with as_wrong_call("PAYLOAD"):
        value = loads(sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape"))
        if not isinstance(value, dict):
            raise Malformed('expected a JSON object like \'{"title": "Ship it"}\', got another value')
        return value


def _expected(pairs: list[str]) -> dict[str, int]:
    found = {}
    for pair in pairs:
        name, _, version = pair.rpartition("=")
        with as_wrong_call("--expect"):
            if not version.isascii() or not version.isdigit() or len(version) > 16:
                raise Malformed(f"expected SLICE=VERSION like board=12, got {pair!r}")
            split_name(name)
        found[name] = int(version)
    return found


async def _dispatch(target: Target, action: Action, id: str, expect: Mapping[str, int], as_json: bool) -> None:
    await reach(target)
    unknown = f"the outcome is unknown: repeat it with --id {id}"
    async with session(target) as http:
        waiting = asyncio.get_running_loop().call_later(QUIET_SECONDS, say, f"no answer yet, trying on; {unknown}")
        try:
            result = await send(http, str(target.url).rstrip("/"), [action], id=id, expect=expect)
        except Unavailable:
            raise Unavailable(f"expected an answer from {shown_url(target)}, got none; {unknown}") from None
        except asyncio.CancelledError:
            say(f"interrupted; {unknown}")
            raise
        finally:
            waiting.cancel()
    _say_json(result) if as_json else _say(result)


def _say_json(result: Result) -> None:
    changes = [{"slice": name, "version": version} for name, version in result.changes]
    found = {"id": result.id, "position": str(result.position), "duplicate": result.duplicate, "changes": changes}
    write_json(orjson.dumps(found))


def _say(result: Result) -> None:
    changed = ", ".join(f"{name} (version {version})" for name, version in result.changes) or "nothing"
    write(f"id        {safe(result.id)}".encode())
    write(f"position  {result.position}".encode())
    write(f"changed   {safe(changed)}{', the first time: this was a repeat' if result.duplicate else ''}".encode())
