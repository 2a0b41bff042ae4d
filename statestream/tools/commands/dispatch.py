"""`statestream dispatch URL TYPE [PAYLOAD]`: dispatches an action, exactly once.

Invariants: the request has an id before it is sent, and every message about an unknown outcome shows it: with the same
id it is safe to repeat.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
import typer

from statestream.client.dispatch import dispatch as send
from statestream.client.token import Token
from statestream.core.change import Action, Result
from statestream.core.errors import Malformed, Unavailable
from statestream.core.names import check_id, check_key, split_name
from statestream.core.values import loads
from statestream.tools.console.exit_codes import run, wrong_call
from statestream.tools.console.options import Headers, Json, Url, parsed, target_of
from statestream.tools.console.output import notice, write, write_json
from statestream.tools.console.requests import reach, session
from statestream.tools.console.text import safe
from statestream.tools.target import Target

NOTICE_SECONDS: Final = 3.0
"""After how much silence the user learns that there is no answer yet."""


def dispatch(
    url: Url,
    type: Annotated[str, typer.Argument(metavar="TYPE", help="The type of the action, such as board/task_added.")],
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help="A JSON object, or - to read it from stdin.")
    ] = "{}",
    key: Annotated[str | None, typer.Option(help="The instance of a keyed slice, such as 42 for room/42.")] = None,
    id: Annotated[
        str | None, typer.Option(help="Makes a repeat safe: an id takes effect once. Default: a new id.")
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="SLICE=VERSION", help="Refuse unless the slice has this version. Repeatable."),
    ] = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Dispatches an action and prints what it changed. A lost connection is retried; the action takes effect once.

    Exit code 0: it took effect. 1: the server refused it, or the outcome is
    unknown. 2: invalid usage.

    \b
    statestream dispatch URL board/task_added '{"id": "1", "title": "Ship it"}'
    statestream dispatch URL room/joined '{"name": "Ada"}' --key lobby
    statestream dispatch URL board/cleared --expect board=12
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, None, header)
    parsed(check_key, key, "--key")
    action = Action(type=type, payload=_payload(payload), key=key)
    request_id = parsed(check_id, id, "--id") or uuid.uuid4().hex
    run(_dispatch(target, action, request_id, _expected(expect or []), as_json), interrupted=1)


def _payload(text: str) -> Mapping[str, Any]:
    with wrong_call("PAYLOAD"):
        value = loads(sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape"))
        if not isinstance(value, dict):
            raise Malformed('expected a JSON object such as \'{"title": "Ship it"}\', got another value')
        return value


def _expected(pairs: list[str]) -> dict[str, int]:
    found = {}
    for pair in pairs:
        name, _, version = pair.rpartition("=")
        with wrong_call("--expect"):
            if not version.isascii() or not version.isdigit() or len(version) > 16:
                raise Malformed(f"expected SLICE=VERSION such as board=12, got {pair!r}")
            split_name(name)
        found[name] = int(version)
    return found


async def _dispatch(target: Target, action: Action, id: str, expect: Mapping[str, int], as_json: bool) -> None:
    await reach(target)
    unknown = f"the outcome is unknown: repeat it with --id {id}"
    async with session(target) as http:
        waiting = asyncio.get_running_loop().call_later(NOTICE_SECONDS, notice, f"no answer yet, retrying; {unknown}")
        try:
            result = await send(http, str(target.url).rstrip("/"), [action], id=id, expect=expect, token=Token(None))
        except Unavailable as error:
            raise Unavailable(f"{safe(str(error))}: repeat it with --id {id}") from None
        except asyncio.CancelledError:
            notice(f"interrupted; {unknown}")
            raise
        finally:
            waiting.cancel()
    _print_json(result) if as_json else _print(result)


def _print_json(result: Result) -> None:
    changes = [{"slice": name, "version": version} for name, version in result.changes]
    found = {"id": result.id, "position": str(result.position), "duplicate": result.duplicate, "changes": changes}
    write_json(orjson.dumps(found))


def _print(result: Result) -> None:
    changed = ", ".join(f"{name} (version {version})" for name, version in result.changes) or "nothing"
    repeat = ", when it was first dispatched; this was a repeat" if result.duplicate else ""
    write(f"id        {safe(result.id)}".encode())
    write(f"position  {result.position}".encode())
    write(f"changed   {safe(changed)}{repeat}".encode())
