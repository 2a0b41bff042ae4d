"""What a request for the stream asks for: which slices, in which detail, from which position.

Invariants: pure but for values that must be fetched. Whatever can be refused with a status is refused here.
"""

from __future__ import annotations

from functools import partial

from aiohttp import HttpVersion11, web

from statestream.broadcast.encoding import Encoding
from statestream.broadcast.subscription import EARLIEST, Cursor, Detail, Wanted
from statestream.core.change import Position
from statestream.core.errors import Malformed
from statestream.core.selection import Selection
from statestream.server.request import MOUNT, asked_of, wants_payloads
from statestream.store.grant import Grant
from statestream.store.view import StoreView


async def wanted_by(request: web.Request, view: StoreView, cursor: Cursor, *, whole: bool) -> Wanted:
    """`whole`: the frames become a body whose end somebody else marks.

    Raises Malformed, UnknownSlice, Unavailable, and TooLarge now, while a status can still be sent.
    """
    asked = await asked_of(request, view)
    grant = await view.complete(partial(_granted, view, asked, whole=cursor == "start"))
    return Wanted(
        selection=asked,
        lasting=grant if grant.lasting else None,
        detail=Detail(payloads=wants_payloads(request), every_change=request.query.get("after") == EARLIEST),
        encoding=Encoding.RAW if whole or request.version < HttpVersion11 or MOUNT in request else Encoding.CHUNKED,
    )


def _granted(view: StoreView, asked: Selection, *, whole: bool) -> Grant:
    """Raises TooLarge if the stream cannot begin, with the whole state or at all."""
    grant = view.grant(asked)
    if whole:
        view.snapshot(grant.selection)
    return grant


def cursor_of(request: web.Request) -> Cursor:
    """The header's position if there is one: EventSource returns with it to the URL that it first opened."""
    after = request.query.get("after") or None
    text = request.headers.get("Last-Event-ID") or (None if after == EARLIEST else after)
    if text is None:
        return EARLIEST if after == EARLIEST else "start"
    return _position(text)


def cursor_of_poll(request: web.Request) -> Cursor:
    """The query's position only: a cache knows nothing else. Raises Malformed."""
    after = request.query.get("after") or None
    if after == EARLIEST:
        raise Malformed("a long poll cannot begin at the earliest position; follow a stream, or ask GET /history")
    return "start" if after is None else _position(after)


def _position(text: str) -> Cursor:
    try:
        return Position.parse(text)
    except Malformed:
        return "invalid"
