"""POST /dispatch, GET /state, DELETE /state/{slice}/{key} and GET /history.

Invariants: a route parses its request, calls a view of the store, and writes the response. The rules about the state
are enforced in the layers below. Errors are raised, and become problems in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, Final

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from statestream.core.change import Page, Result, SliceState, Snapshot
from statestream.core.errors import (
    ActionIdReused,
    Expired,
    Forbidden,
    Forked,
    HandlerFailed,
    InvalidPayload,
    JournalUnusable,
    Malformed,
    RateLimited,
    Refused,
    StatestreamError,
    TooLarge,
    UnknownAction,
    UnknownSlice,
    VersionConflict,
)
from statestream.core.folding import Merged
from statestream.core.names import escape_key
from statestream.core.values import MAX_INT
from statestream.protocol import frames
from statestream.protocol.frame_types import LINE, FullName, PositionText, Version
from statestream.server import audit
from statestream.server.abort import abort_response
from statestream.server.access_log import note
from statestream.server.bodies import checked, read_json
from statestream.server.contract import AFTER, AT, CAUSE, LIMIT, SLICES, Answer, Contract, Messages, Parameter, Route
from statestream.server.dispatch_body import One, Several, dispatch_body
from statestream.server.dispatch_rate import admit, charge
from statestream.server.request import asked_of, check_query, position_of, view_of, wants_payloads
from statestream.server.schemas import ID
from statestream.server.state_body import selected
from statestream.server.transfer import send

IF_NONE_MATCH: Final = Parameter(
    name="If-None-Match",
    description="The `ETag` of an earlier answer.",
    schema={"type": "string"},
    place="header",
)


SLICE: Final = Parameter(
    name="slice",
    description="The name of a keyed slice.",
    schema={"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"},
    place="path",
)
KEY: Final = Parameter(
    name="key",
    description="The key of the instance.",
    schema={"type": "string", "pattern": "^[A-Za-z0-9._~:@-]{1,128}$"},
    place="path",
)


class ChangedSlice(TypedDict):
    """A slice, and its version after a change."""

    slice: FullName
    version: Version


class Dispatched(TypedDict):
    """The result of a dispatch, which is durable."""

    id: Annotated[str, Field(pattern=ID["pattern"])]
    position: PositionText
    duplicate: bool
    changes: list[ChangedSlice]


class Erased(TypedDict):
    """How far the server was when nothing was left."""

    position: PositionText


async def dispatch(request: web.Request) -> web.Response:
    check_query(request)
    admit(request)
    # a request may wait for a while, so no variable holds the body meanwhile, which is twice as large as the actions
    result = await _dispatched(request, await read_json(request))
    note(request, id=result.id, position=str(result.position))
    return json_response(_answer(result))


def _dispatched(request: web.Request, value: Any) -> Coroutine[Any, Any, Result]:
    """Dispatches what a body contains. Raises Malformed at once."""
    view = view_of(request)
    if isinstance(value, dict) and "actions" in value:
        several = checked(Several, value)
        charge(request, len(several.actions) - 1)
        actions = [item.action() for item in several.actions]
        return view.dispatch(actions, id=several.id, expect=several.expect, parsed=True)
    one = checked(One, value)
    return view.dispatch(one.action(), id=one.id, expect=one.expect, parsed=True)


def _answer(result: Result) -> Dispatched:
    return {
        "id": result.id,
        "position": str(result.position),
        "duplicate": result.duplicate,
        "changes": [{"slice": name, "version": version} for name, version in result.changes],
    }


async def state(request: web.Request) -> web.StreamResponse:
    check_query(request, "slices", "at")
    view = view_of(request)
    asked, at = await asked_of(request, view), position_of(request, "at")
    if at is None:
        snapshot = await view.complete(lambda: view.snapshot(view.grant(asked).selection))
    else:
        await view.complete(lambda: view.grant(asked))  # raises TooLarge if there are too many instances to ask for
        snapshot = await view.past.snapshot_at(at, asked)
    etag = _etag(snapshot.slices, view.nothing(asked).scope.tag)
    headers = {"ETag": f'W/"{etag}"', "Cache-Control": "no-cache"}  # weak: only `position` moves on with other slices
    if _matches(request.headers.getall("If-None-Match", []), etag):
        return web.Response(status=304, headers=headers)
    return await send(request, _body(snapshot), headers | {"Content-Type": "application/json"})


def _body(snapshot: Snapshot) -> list[bytes]:
    """The JSON of a snapshot, in parts: the values are not copied, so all who ask for them share them."""
    parts = [b'{"position":' + orjson.dumps(str(snapshot.position)) + b',"slices":{']
    for name, state in snapshot.slices.items():
        parts += [orjson.dumps(name) + b":", state.encoded(), b","]
    if snapshot.slices:
        parts.pop()
    versions = orjson.dumps({name: state.version for name, state in snapshot.slices.items()})
    return [*parts, b'},"versions":' + versions + b"}"]


def _etag(slices: Mapping[str, SliceState], views: str | None) -> str:
    names = "\n".join(
        [*(f"{name} {state.position}" for name, state in sorted(slices.items())), *([views] if views else [])]
    )
    return hashlib.sha256(names.encode()).hexdigest()[:32]


def _matches(headers: Sequence[str], etag: str) -> bool:
    """Whether `If-None-Match` names the tag, by the weak comparison of RFC 9110 section 13.1.2."""
    tags = {tag.strip().removeprefix("W/") for header in headers for tag in header.split(",")}
    return bool(tags & {f'"{etag}"', "*"})


async def history(request: web.Request) -> web.StreamResponse:
    """Every change after `after` (default: the earliest position), a line each, up to now or to `limit`."""
    check_query(request, "slices", "after", "limit", "cause")
    view = view_of(request)
    asked, full, left = await asked_of(request, view), wants_payloads(request), _limit(request)
    position = position_of(request, "after") or await view.past.earliest()
    page = await view.past.history(position, asked)
    end, merged = view.position.seq, Merged()
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        while page.until != position and left > 0:
            kept = merged(change for change in page.changes if change.version <= end)[:left]
            if kept:
                await response.write(b"".join(frames.line(change, full=full) for change in kept))
            left -= len(kept)
            position = page.until
            page = await view.past.history(position, asked) if position.seq < end else Page(changes=(), until=position)
    except StatestreamError:
        abort_response(request)
    return response


async def erase(request: web.Request) -> web.Response:
    check_query(request)
    admit(request)
    family, key = request.match_info["slice"], request.match_info["key"]
    position = await view_of(request).erase([f"{family}/{escape_key(key)}"])
    audit.erased(request, family)
    return json_response(Erased(position=str(position)))


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(MAX_INT))
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > MAX_INT:
        raise Malformed("expected `limit` to be a whole number of at least 0")
    return int(text)


def json_response(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json"})


ROUTES: Final = (
    Route(
        method="POST",
        path="/dispatch",
        handler=dispatch,
        contract=Contract(
            name="dispatch",
            summary="Applies an action, or several that take effect together.",
            body=dispatch_body,
            answers=(Answer(description="It is durable.", model=Dispatched),),
            errors=(
                Forbidden,
                UnknownAction,
                UnknownSlice,
                ActionIdReused,
                VersionConflict,
                Refused,
                InvalidPayload,
                RateLimited,
                HandlerFailed,
                JournalUnusable,
            ),
        ),
    ),
    Route(
        method="GET",
        path="/state",
        handler=state,
        contract=Contract(
            name="state",
            summary="The state now, or as it was.",
            parameters=(SLICES, AT, IF_NONE_MATCH),
            answers=(
                Answer(description="The selected slices.", model=selected, headers=("ETag",)),
                Answer(description="It is still what `If-None-Match` names.", status=304, headers=("ETag",)),
            ),
            errors=(UnknownSlice, Expired, Forked, TooLarge, JournalUnusable),
        ),
    ),
    Route(
        method="DELETE",
        path="/state/{slice}/{key}",
        handler=erase,
        contract=Contract(
            name="erase",
            summary="Erases an instance of a keyed slice, with everything that it ever held.",
            parameters=(SLICE, KEY),
            answers=(Answer(description="Nothing is left of it.", model=Erased),),
            errors=(Forbidden, UnknownSlice, Refused, RateLimited, JournalUnusable),
        ),
    ),
    Route(
        method="GET",
        path="/history",
        handler=history,
        contract=Contract(
            name="history",
            summary="Changes, a line each.",
            parameters=(SLICES, AFTER, LIMIT, CAUSE),
            answers=(Answer(description="The selected changes.", media_type="application/x-ndjson"),),
            errors=(UnknownSlice, Expired, Forked, JournalUnusable),
            messages=Messages(carrier="lines", sends={"change": LINE}),
        ),
    ),
)
