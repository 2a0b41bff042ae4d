"""GET /stream/state: from a request to a subscriber of the hub.

Invariants: whatever can be refused with a status is refused before the response's headers are sent. From then on
errors are frames (`stream.end`), and only the hub writes to the connection. If the hub takes the socket, aiohttp is
done with the request: its access log, middlewares and `finally` blocks see it end here. Otherwise they see it end with
the stream, and of the response's headers only the type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from statestream.broadcast.hub import Hub
from statestream.broadcast.kernel_limits import bound_socket
from statestream.broadcast.sink import TransportSink
from statestream.broadcast.subscribers import StreamEnd
from statestream.core.errors import JournalUnusable, TooLarge, TooManyStreams, UnknownSlice
from statestream.core.selection import Selection
from statestream.protocol.frame_types import FRAMES
from statestream.server.access_log import stream_logger
from statestream.server.authentication import SESSION, SESSIONS, hold
from statestream.server.contract import CAUSE, SLICES, Answer, Contract, Messages, Parameter, Route
from statestream.server.long_poll import LONG_POLL, VARY, is_long_poll, long_poll
from statestream.server.problems import OUTCOME
from statestream.server.request import PRINCIPAL, check_query, view_of
from statestream.server.subscription import cursor_of, cursor_of_poll, wanted_by
from statestream.server.transfer import BUDGET

HUB: Final = web.AppKey("statestream_hub", Hub)
HANDOFF: Final = web.AppKey("statestream_handoff", bool)
StreamObserver = Callable[[web.Request, Selection], Callable[[], None] | None]
"""Is called with each stream that opens and what it asks for, whether or not that may be read.

May return a function to call once, when the stream has closed.
"""
STREAM_OBSERVERS: Final = web.AppKey("statestream_stream_observers", list[StreamObserver])


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
        """Skips the library's own, which starts a task that pings: the hub sends heartbeats to all at once."""
        return await web.StreamResponse.prepare(self, request)

    async def write_eof(self, data: bytes = b"") -> None:
        """The hub ends a connection that was handed off."""
        if not self.handed_off:
            await super().write_eof(data)


async def stream_state(request: web.Request) -> web.StreamResponse:
    """Raises Malformed, UnknownSlice, TooManyStreams and, without a cursor, TooLarge. After that, errors end the
    stream.
    """
    check_query(request, "slices", "cause", "after", "live")
    hub, view = request.config_dict[HUB], view_of(request)
    polls = is_long_poll(request)
    cursor = cursor_of_poll(request) if polls else cursor_of(request)
    wanted = await wanted_by(request, view, cursor, whole=polls)
    if polls:
        return await long_poll(request, hub, view, wanted, cursor)
    response = StreamResponse()
    session = hold(request)
    try:
        writer, on_closed = await _opened(request, response, wanted.selection)
    except BaseException:
        if session is not None:
            request.config_dict[SESSIONS].close(session)
        raise
    transport = request.transport
    request[OUTCOME] = "left" if writer is None or transport is None else "ok"  # the hub counts how a stream ends
    if writer is None or transport is None:
        if on_closed is not None:
            on_closed(StreamEnd(reason="left", sent=0))
        if session is not None:
            request.config_dict[SESSIONS].close(session)
        return response
    session = request.pop(SESSION, None)  # from here on it is the hub that ends the stream, and closes the session
    if request.config_dict[HANDOFF] and hub.hand_off(transport, view, wanted, cursor, session, on_closed):
        response.handed_off = True
        return response
    connection = transport.get_extra_info("socket")
    if connection is not None:
        bound_socket(connection.fileno(), connection.family)
    sink = TransportSink(writer, request.protocol, transport, request.config_dict[BUDGET])
    subscriber = hub.join(sink, view, wanted, cursor, session, on_closed)
    # while the stream lasts, the handler keeps only what it needs: locals, headers and aiohttp's keep-alive timer would
    # be a seventh of what a subscriber costs
    del view, wanted, cursor, writer, connection, on_closed, session
    response.headers.clear()
    request.protocol.keep_alive(False)  # aiohttp turns it on again when the stream has ended, if the response allows
    try:
        await sink.finished
    finally:
        if subscriber is not None:
            hub.leave(subscriber)
        response.describe()
    return response


async def _opened(
    request: web.Request, response: StreamResponse, selection: Selection
) -> tuple[AbstractStreamWriter | None, Callable[[StreamEnd], None] | None]:
    """Sends the headers and calls the observers: returns the writer, and what to call when the stream has closed."""
    with contextlib.ExitStack() as followed:
        wanted = False
        for observer in request.config_dict[STREAM_OBSERVERS]:
            if (closed := observer(request, selection)) is not None:
                followed.callback(closed)
                wanted = True
        writer = await _headers_sent(request, response)
        logged, close = stream_logger(request), followed.pop_all().close if wanted else None
    return writer, logged if close is None else _closing(close, logged)


def _closing(close: Callable[[], None], logged: Callable[[StreamEnd], None] | None) -> Callable[[StreamEnd], None]:
    """Both, whatever happens in the first."""

    def closed(end: StreamEnd) -> None:
        try:
            close()
        finally:
            if logged is not None:
                logged(end)

    return closed


async def _headers_sent(request: web.Request, response: StreamResponse) -> AbstractStreamWriter | None:
    """None if the client has left already."""
    if PRINCIPAL in request:
        response.headers["Vary"] = VARY
    if request.version < HttpVersion11 or request.config_dict[HANDOFF]:
        del response.headers["Connection"]  # aiohttp sets what is true: the connection ends with the stream
        response.force_close()
    try:
        writer = await response.prepare(request)
    except ConnectionError:
        return None
    if writer is not None:
        writer.send_headers()
    return writer


LAST_EVENT_ID: Final = Parameter(
    name="Last-Event-ID",
    description="The position to resume at. It counts before `after`.",
    schema={"type": "string"},
    place="header",
)
AFTER_CURSOR: Final = Parameter(
    name="after",
    description="The position to resume at, or `earliest` for the whole history.",
    schema={"type": "string"},
)
LIVE: Final = Parameter(
    name="live",
    description="`sse` for a stream; `long-poll` for one answer, as soon as there is something new.",
    schema={"enum": ["sse", LONG_POLL]},
)
STREAM: Final = Route(
    method="GET",
    path="/stream/state",
    handler=stream_state,
    contract=Contract(
        name="follow",
        summary="The state, and every change to it.",
        parameters=(SLICES, CAUSE, AFTER_CURSOR, LIVE, LAST_EVENT_ID),
        answers=(Answer(description="A stream that does not end by itself.", media_type="text/event-stream"),),
        errors=(UnknownSlice, TooLarge, TooManyStreams, JournalUnusable),
        cookie=True,
        messages=Messages(carrier="events", sends=FRAMES),
    ),
)
