"""One client's HTTP connection: aiohttp's protocol, with additions for a public server.

If aiohttp cannot parse a request, or a client leaves early, it logs a traceback that quotes what the client sent, a
token for example. It answers malformed requests in plain text. It limits neither the frames of a WebSocket that never
become a message, nor how long a handler waits for a body whose rest is not valid HTTP. It parses what it has read of a
body without a pause, which takes half a second for 100,000 chunks of one byte.

Invariants: nothing that a client sends is logged or sent back. A request that is not valid HTTP is answered with a
problem, after which the connection ends. Mistakes of clients cause at most one log line a minute. Parsing a body takes
turns with everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http import RawRequestMessage, WebSocketReader
from aiohttp.http_exceptions import ContentEncodingError

from statestream.core.errors import Malformed, UnsupportedMediaType
from statestream.server.allowance import FLOOD_SECONDS, Allowance
from statestream.server.bodies import ENCODINGS
from statestream.server.complaints import Complaints
from statestream.server.problems import last_problem, plain_problem

SOCKET_BYTES_PER_SECOND: Final = 1 << 20
SOCKET_BYTES_AT_ONCE: Final = 16 << 20
"""How much a WebSocket may send, including headers of frames. Bytes above the rate wait in the client."""
LAST_SECONDS: Final = 1.0
READ_BYTES: Final = 64 << 10
"""How much of a body is parsed at a time, in bytes; of chunks, a sixteenth of this number. They take about 5 ms."""
NOT_HTTP: Final = "this is not a valid HTTP/1.1 request"
HEAD_TOO_LATE: Final = plain_problem(408, "request_timeout", "the head of the request did not arrive in time")
DETAILS: Final = {
    "LineTooLong": "the request line or a header is too long",
    "ContentEncodingError": "the body cannot be decoded, or its end is missing",
}
"""By the name of aiohttp's exception, whose own message quotes the request."""
NO_DECODER: Final = "Can not decode content-encoding"
"""How aiohttp's message begins if it knows an encoding, but the package for it is not installed."""


class HttpConnection(web.RequestHandler):
    """Made for each connection that is accepted. `limited` counts those that were ended because of a limit."""

    __slots__ = ("_complaints", "_flow", "_limited", "_parsing", "_resumed", "_transport", "head_begun", "silent")

    def __init__(self, server: web.Server, complaints: Complaints, limited: Counter[str], **settings: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **settings)
        self._complaints, self._limited = complaints, limited
        self.head_begun = False
        """Whether a part of a request's head has arrived, and not the rest."""
        self.silent = True
        """Whether nothing has been read from it yet."""
        self._flow: Allowance | None = None
        self._resumed: asyncio.TimerHandle | None = None
        self._parsing: asyncio.Handle | None = None
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # the base class forgets its own before the connection is lost
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.silent = False
        super().data_received(data)
        self.head_begun = not self._messages and self._current_request is None and not self._upgraded
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._end_body()
        elif self._flow is not None and data:
            self._limit_flow(len(data))

    def _end_body(self) -> None:
        """Is called if the rest of a request is not valid HTTP, so that nobody waits for it."""
        request = self._current_request
        if request is not None and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("the rest is not valid HTTP"))

    def _process_keepalive(self) -> None:
        """Is called when the time for the head of the next request may be over: then the connection ends."""
        due = self._keepalive and not self._force_close and self._loop.time() >= self._next_keepalive_close_time
        if due and self._waiter is not None and not self._waiter.done():
            self._limited["head_time" if self.head_begun else "idle"] += 1
            if self.head_begun and self.transport is not None:
                self.transport.write(HEAD_TOO_LATE)
        super()._process_keepalive()

    def set_parser(self, parser: WebSocketReader, data_received_cb: Callable[[], None] | None = None) -> None:
        """Is called when the connection becomes a WebSocket."""
        self._flow = Allowance(SOCKET_BYTES_PER_SECOND, SOCKET_BYTES_AT_ONCE)
        super().set_parser(parser, data_received_cb)

    def _limit_flow(self, size: int) -> None:
        assert self._flow is not None
        now = self._loop.time()
        wait = self._flow.spend(size, now)
        if self._flow.exceeded_for(now) > FLOOD_SECONDS and self.transport is not None:
            self._limited["socket_bytes"] += 1
            self.transport.abort()
        elif wait and self._resumed is None:
            self._pause_reading_for_buffer()
            self._resumed = self._loop.call_later(wait, self._resume_flow)

    def _resume_flow(self) -> None:
        self._resumed = None
        self._resume_reading_for_buffer()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Is called by the reader of a body. The base class would parse what waits before it returns."""
        if not resume_parser:
            super().resume_reading(resume_parser)
        elif self._parsing is None:
            self._parsing = self._loop.call_soon(self._parse_on)

    def _parse_on(self) -> None:
        self._parsing = None
        if self.transport is not None:
            super().resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Also breaks reference cycles: no part of a lost connection waits for the garbage collector."""
        for waiting in (self._resumed, self._parsing):
            if waiting is not None:
                waiting.cancel()
        self._resumed = self._parsing = None
        if self._task_handler is not None:
            self._task_handler.add_done_callback(_forget_cancellation)
        super().connection_lost(exc)
        self._data_received_cb = None  # a WebSocket's, which has this connection
        getattr(self._transport, "__dict__", {}).pop("_read_ready_cb", None)  # a method of asyncio's own transport
        self._transport = None

    def end_soon(self) -> None:
        """After the next answer, the connection reads what the client still sends only for a moment."""
        self._lingering_time = LAST_SECONDS

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a malformed request or a handler's exception. Raises ConnectionError if there is none."""
        if isinstance(exc, ConnectionError):
            raise ConnectionResetError("the client has left")  # another one: raised here, it would hold itself
        if status != 400 or exc is None:
            return super().handle_error(request, status, exc, message)
        kind, exc.__traceback__ = type(exc).__name__, None  # its frames have this connection
        if isinstance(exc, ContentEncodingError) and exc.message.startswith(NO_DECODER):
            return last_problem(UnsupportedMediaType(ENCODINGS))
        self._complaints.add(kind, self._peer())
        return last_problem(Malformed(DETAILS.get(kind, NOT_HTTP)))

    def _peer(self) -> str | None:
        """The client's address; None if it has none, such as over a Unix socket."""
        peer = None if self._transport is None else self._transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else None

    def log_exception(self, *args: Any, **more: Any) -> None:
        """Is called with the exception that ended the connection unexpectedly."""
        if isinstance(more.get("exc_info"), web.RequestPayloadError):
            self._complaints.add("RequestPayloadError", self._peer())
        else:
            super().log_exception(*args, **more)


def _forget_cancellation(task: asyncio.Task[None]) -> None:
    """A cancelled task keeps the error with its frames, and these have the request, which has the task."""
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()  # asking for the error takes it from the task
