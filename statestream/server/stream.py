"""GET /stream/state: from a request to a reader of the hub.

Law: what can be refused with a status is refused before the head is sent; from then on the stream
speaks for itself (`stream.end`). After the head, only the hub writes to the connection.
"""

from __future__ import annotations

from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from statestream.broadcast.audience import Interest, Reader
from statestream.broadcast.hub import Hub
from statestream.broadcast.replay import EARLIEST
from statestream.broadcast.sink import TransportSink
from statestream.server.routes import STORE, selection_of, wants_payloads

HUB: Final = web.AppKey("statestream_hub", Hub)
UNACKNOWLEDGED_SECONDS: Final = 30.0


class StreamResponse(EventSourceResponse):
    """The response that starts a stream: our headers, and no task of its own."""

    def __init__(self) -> None:
        super().__init__(send_timeout=UNACKNOWLEDGED_SECONDS)
        self.headers["Content-Type"] = "text/event-stream; charset=utf-8"
        self.headers["Cache-Control"] = "no-store, no-transform"

    async def _ping(self) -> None:
        """Heartbeats come from the hub, for all readers at once."""


async def stream_state(request: web.Request) -> web.StreamResponse:
    """Raises Malformed, UnknownSlice and, where there is no cursor, TooLarge; after that it ends in the stream."""
    store, hub = request.config_dict[STORE], request.config_dict[HUB]
    selection = selection_of(request, store)
    full = wants_payloads(request)
    after = request.query.get("after") or None
    cursor = request.headers.get("Last-Event-ID") or (None if after == EARLIEST else after)
    if cursor is None and after != EARLIEST:
        selection.snapshot(store.slices)
    response = StreamResponse()
    chunked = request.version >= HttpVersion11
    if not chunked:
        del response.headers["Connection"]
        response.force_close()
    try:
        writer = await response.prepare(request)
    except ConnectionError:
        return response  # it left before the head was sent
    transport = request.transport
    if writer is None or transport is None:
        return response
    writer.send_headers()
    sink = TransportSink(writer, request.protocol, transport, chunked=chunked)
    interest = Interest(selection=selection, full=full)
    await hub.serve(Reader(sink, interest, every=after == EARLIEST), cursor)
    return response
