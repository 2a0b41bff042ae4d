"""GET /stream/state?live=long-poll: what a client has missed, as one answer, as soon as there is any.

A proxy may hold a stream back until it ends. An answer ends. Its frames are those of a stream, and the last id in it is
the cursor of the next request. All that the answer depends on is in the URL, so a cache can serve many clients.

Invariants: a poll is a subscriber like any other, as far as rights, limits and revocations are concerned. A shared
cache may keep only what everybody may read, and only for a moment: nothing that was erased comes back from it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.broadcast.answer_sink import AnswerSink, has_changes
from statestream.broadcast.hub import Hub
from statestream.broadcast.subscription import Cursor, Wanted
from statestream.core.errors import Malformed
from statestream.server.access_log import stream_logger
from statestream.server.authentication import SESSION, hold
from statestream.server.problems import OUTCOME
from statestream.server.request import PRINCIPAL
from statestream.server.transfer import BUDGET, send
from statestream.store.view import StoreView

LONG_POLL: Final = "long-poll"
TYPE: Final = "text/event-stream; charset=utf-8"
SHARED: Final = "public, max-age=1"
"""A second is enough for a cache to answer all who ask at the same cursor."""
PRIVATE: Final = "no-store"
CREDENTIALS: Final = ("Authorization", "Cookie", "Proxy-Authorization")
"""What a proxy or a surrounding application may ask for, which a server without a login knows nothing of."""
VARY: Final = ", ".join(CREDENTIALS)
"""Of a server with a login: by this, a client knows that the stream depends on who asks."""


def is_long_poll(request: web.Request) -> bool:
    """What the query's `live` says. Raises Malformed."""
    live = request.query.get("live", "sse")
    if live not in ("sse", LONG_POLL):
        raise Malformed(f"expected live=sse or live={LONG_POLL}")
    return live == LONG_POLL


async def long_poll(
    request: web.Request, hub: Hub, view: StoreView, wanted: Wanted, cursor: Cursor
) -> web.StreamResponse:
    """Answers within a heartbeat. Raises TooManyStreams, and Unavailable if too much waits for slow clients."""
    transport = request.transport
    request[OUTCOME] = "left" if transport is None else "ok"
    if transport is None:
        return web.Response()
    session = hold(request)
    sink = AnswerSink(transport, request.config_dict[BUDGET])
    request.pop(SESSION, None)  # from here on it is the hub that ends the poll, and closes the session
    subscriber = hub.join(sink, view, wanted, cursor, session, stream_logger(request))
    try:
        await sink.news
    finally:
        answer = sink.take()
        if subscriber is not None:
            hub.leave(subscriber)
    shared = _is_anonymous(request) and has_changes(answer)
    headers = {"Content-Type": TYPE, "Cache-Control": SHARED if shared else PRIVATE, "X-Accel-Buffering": "no"}
    if PRINCIPAL in request:
        headers["Vary"] = VARY
    return await send(request, [answer], headers)


def _is_anonymous(request: web.Request) -> bool:
    """Whether everybody gets this answer: neither the server nor anything in front of it can know who asks."""
    return PRINCIPAL not in request and not any(header in request.headers for header in CREDENTIALS)
