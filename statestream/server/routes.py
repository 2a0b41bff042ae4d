"""POST /dispatch, GET /state and GET /history.

Invariants: a route reads its request, calls the store, and writes the answer; what is true of the state is
decided below. Errors are raised, and become problems in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import ETag, web
from pydantic import Field

from statestream.core.change import Action, Position, Result, SliceState
from statestream.core.errors import Malformed, StatestreamError
from statestream.core.selection import Selection
from statestream.core.values import MAX_INT
from statestream.journal.contract import PAGE
from statestream.protocol import frames
from statestream.server.abort import cut
from statestream.server.bodies import Body, checked, read_json
from statestream.store.store import Store

MAX_ACTIONS: Final = 1_000
STORE: Final = web.AppKey("statestream_store", Store)


class _Action(Body):
    type: str
    payload: dict[str, Any]
    key: str | None = None

    def action(self, store: Store) -> Action:
        store.rules.check_public(self.type)
        return Action(type=self.type, payload=self.payload, key=self.key)


class _One(_Action):
    id: str | None = None
    expect: dict[str, int] = Field(default_factory=dict)


class _Several(Body):
    actions: list[_Action] = Field(min_length=1, max_length=MAX_ACTIONS)
    id: str | None = None
    expect: dict[str, int] = Field(default_factory=dict)


async def dispatch(request: web.Request) -> web.Response:
    value = await read_json(request)
    store = request.config_dict[STORE]
    if isinstance(value, dict) and "actions" in value:
        several = checked(_Several, value)
        actions = [item.action(store) for item in several.actions]
        result = await store.dispatch(actions, id=several.id, expect=several.expect)
    else:
        one = checked(_One, value)
        result = await store.dispatch(one.action(store), id=one.id, expect=one.expect)
    return json_response(_answer(result))


def _answer(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "position": str(result.position),
        "duplicate": result.duplicate,
        "changes": [{"slice": name, "version": version} for name, version in result.changes],
    }


async def state(request: web.Request) -> web.Response:
    store = request.config_dict[STORE]
    selection = selection_of(request, store)
    if "at" in request.query:
        then = await store.journal.load(Position.parse(request.query["at"]), selection.matches)
        position, slices = then.position, selection.snapshot(then.slices)
    else:
        position, slices = store.position, selection.snapshot(store.slices)
    etag = _etag(slices)
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        response = web.Response(status=304)
    else:
        response = json_response(
            {
                "position": str(position),
                "slices": {name: orjson.Fragment(part.encoded()) for name, part in slices.items()},
                "versions": {name: part.version for name, part in slices.items()},
            }
        )
    response.etag = ETag(etag, is_weak=True)  # weak: `position` moves on while the slices stay the same
    response.headers["Cache-Control"] = "no-cache"
    return response


async def history(request: web.Request) -> web.StreamResponse:
    """Every change behind `after` (absent: the oldest position that is kept), a line each, up to now or `limit`."""
    store = request.config_dict[STORE]
    selection, full, left = selection_of(request, store), wants_payloads(request), _limit(request)
    after = request.query.get("after")
    position = await store.journal.earliest() if after is None else Position.parse(after)
    page = await store.journal.read(position, PAGE)
    end = store.position.seq
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        while page and left > 0:
            kept = selection.among(change for change in page if change.version <= end)[:left]
            await response.write(b"".join(frames.line(change, full=full) for change in kept))
            left -= len(kept)
            page = await store.journal.read(page[-1].position, PAGE) if page[-1].version < end else []
    except StatestreamError:
        cut(request)
    return response


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(MAX_INT))
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise Malformed("expected `limit` to be a whole number of at least 0")
    return int(text)


def wants_payloads(request: web.Request) -> bool:
    """What the query's `cause` asks for. Raises Malformed."""
    cause = request.query.get("cause", "brief")
    if cause not in ("brief", "full"):
        raise Malformed("expected cause=brief or cause=full")
    return cause == "full"


def _etag(slices: Mapping[str, SliceState]) -> str:
    names = "\n".join(f"{name} {part.position}" for name, part in sorted(slices.items()))
    return hashlib.sha256(names.encode()).hexdigest()[:32]


def selection_of(request: web.Request, store: Store) -> Selection:
    """What the query's `slices` asks for. Raises Malformed, UnknownSlice."""
    asked = request.query.getall("slices", None)
    return Selection.parse(None if asked is None else ",".join(asked), store.rules)


def json_response(body: Any, *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), headers={"Content-Type": "application/json"})
