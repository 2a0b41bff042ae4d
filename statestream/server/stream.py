"""GET /stream/state: from a request to a reader of the hub.

Invariants: what can be refused with a status is refused before the head is sent; from then on the stream
speaks for itself (`stream.end`). After the head, only the hub writes to the connection, and where it takes
the socket over, aiohttp is done with the request: its log, middlewares and `finally` blocks end here. Elsewhere they
see it end with the stream, and of the response's headers the type alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from statestream.broadcast.hub import Hub
from statestream.broadcast.reader import Interest
from statestream.broadcast.replay import EARLIEST
from statestream.broadcast.sink import TransportSink
from statestream.broadcast.sockets import watch_over
from statestream.core.selection import Selection
from statestream.server.routes import STORE, selection_of, wants_payloads

HUB: Final = web.AppKey("statestream_hub", Hub)
HANDOFF: Final = web.AppKey("statestream_takeover", bool)
Follower = Callable[[web.Request, Selection], Callable[[], None] | None]
"""Is told of each stream that opens, and what it follows; gives what is to be called, once, when it has closed."""
FOLLOWERS: Final = web.AppKey("statestream_followers", list[Follower])


class StreamResponse(EventSourceResponse):
    """The response that starts a stream: our headers, and no task of its own."""

    def __init__(self) -> None:
        super().__init__(send_timeout=None)
        self.headers["Cache-Control"] = "no-store, no-transform"
        self.describe()
        self.handed_off = False

    def describe(self) -> None:
        self.headers["Content-Type"] = "text/event-stream; charset=utf-8"

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Past the library's own, which starts a task to ping: heartbeats come from the hub, for all at once."""
        return await web.StreamResponse.prepare(self, request)

    async def write_eof(self, data: bytes = b"") -> None:
        """A connection that was handed off is ended by the hub."""
        if not self.handed_off:
            await super().write_eof(data)


async def stream_state(request: web.Request) -> web.StreamResponse:
    """Raises Malformed, UnknownSlice and, where there is no cursor, TooLarge; after that it ends in the stream."""
    store, hub = request.config_dict[STORE], request.config_dict[HUB]
    selection = selection_of(request, store)
    interest = Interest(selection=selection, full=wants_payloads(request))
    after = request.query.get("after") or None
    every = after == EARLIEST
    cursor = request.headers.get("Last-Event-ID") or (None if every else after)
    if cursor is None and not every:
        selection.snapshot(store.slices)
    response = StreamResponse()
    writer, left = await _opened(request, response, selection)
    transport = request.transport
    if writer is None or transport is None:
        if left is not None:
            left()
        return response
    chunked = request.version >= HttpVersion11
    taken = hub.sockets.hand_off(transport, chunked=chunked) if request.config_dict[HANDOFF] else None
    if taken is not None:
        response.handed_off = True
        hub.counts.handed_off += 1
        taken.owner = hub.join(taken, interest, cursor, every=every, left=left)
        return response
    connection = transport.get_extra_info("socket")
    if connection is not None:
        watch_over(connection.fileno(), connection.family)
    sink = TransportSink(writer, request.protocol, transport, chunked=chunked)
    reader = hub.join(sink, interest, cursor, every=every, left=left)
    del selection, interest, writer, connection, left  # while the stream lasts, the handler holds what it needs
    response.headers.clear()  # they are sent: with the timer below they would be a seventh of what a reader costs
    request.protocol.keep_alive(False)  # aiohttp turns it on again, if the response says so, when the stream has ended
    try:
        await sink.finished
    finally:
        if reader is not None:
            hub.leave(reader)
        response.describe()
    return response


async def _opened(
    request: web.Request, response: StreamResponse, selection: Selection
) -> tuple[AbstractStreamWriter | None, Callable[[], None] | None]:
    """The stream has begun, and those are told who want to know: the writer, and what tells them that it has ended."""
    with contextlib.ExitStack() as followed:
        wanted = False
        for follower in request.config_dict[FOLLOWERS]:
            if (left := follower(request, selection)) is not None:
                followed.callback(left)
                wanted = True
        writer = await _head_sent(request, response)
        return writer, followed.pop_all().close if wanted else None


async def _head_sent(request: web.Request, response: StreamResponse) -> AbstractStreamWriter | None:
    """None where the client left before."""
    if request.version < HttpVersion11 or request.config_dict[HANDOFF]:
        del response.headers["Connection"]  # aiohttp says what is true: it ends with the stream
        response.force_close()
    try:
        writer = await response.prepare(request)
    except ConnectionError:
        return None
    if writer is not None:
        writer.send_headers()
    return writer
