"""One client's WebSocket, and the WebSocket as an outlet of viewers.

It is opened for pages of its own host only, and written to as fast as the client reads. As an outlet, it sends the
items of viewers, takes the client's messages, and owns the tasks for both. aiohttp's own wait for room in the write
buffer is not used: it lasts as long as a client does not read, and the server could not end meanwhile.

Invariants: a sender waits for the socket, so that a client that does not read costs only what is on its way. A client
that reads nothing for a while is disconnected. However the connection ends, nothing waits for the client, and the tasks
end with it. When the server stops, they may finish what they send, for a short while; then the WebSocket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from statestream.chat.viewing.projection import Item
from statestream.core.errors import Forbidden, Malformed
from statestream.core.values import loads
from statestream.store.notifier import Notifier

UNSENT_BYTES: Final = 64 << 10
HEARTBEAT_SECONDS: Final = 20.0
STALL_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.05
_PORTS: Final = {"http": 80, "https": 443}


class Socket:
    """`async with Socket(request, notifier, max_message=…)` opens it. Raises Forbidden for a page of another host.

    The notifier says whether the server stops: then a client that does not read is given up sooner.
    """

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        _check_origin(request)
        self._request, self._notifier = request, notifier
        self.response = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            timeout=CLOSE_SECONDS,
            max_msg_size=max_message,
            writer_limit=sys.maxsize,  # `send` waits for room itself
            compress=False,  # compression would cost a third of a megabyte per client
        )

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.response.close_code in (None, WSCloseCode.ABNORMAL_CLOSURE):
            self._abort()  # closing would wait for a client that does not read

    async def messages(self) -> AsyncIterator[WSMessage]:
        """The client's messages, until the connection has ended."""
        async for message in self.response:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message

    async def send(self, value: Any) -> None:
        """Sends a value as JSON, and returns when there is room for the next one. Raises ConnectionError."""
        await self.response.send_frame(orjson.dumps(value), WSMsgType.TEXT)
        loop = asyncio.get_running_loop()
        least, since = sys.maxsize, loop.time()
        while (transport := self._request.transport) is not None:
            unsent = transport.get_write_buffer_size()
            if unsent <= UNSENT_BYTES:
                return
            if unsent < least:
                least, since = unsent, loop.time()
            elif loop.time() - since > (CLOSE_SECONDS if self._notifier.closed else STALL_SECONDS):
                transport.abort()
                break
            await asyncio.sleep(POLL_SECONDS)
        raise ConnectionAbortedError("the client has gone, or it does not read")

    async def go_away(self) -> None:
        """Closes the connection because the server stops, so that the client comes back in a moment."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.response.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops; come back")
        except TimeoutError:
            self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def value_of(message: WSMessage) -> Any:
    """The JSON value of a message. Raises NotJSON, Malformed."""
    if message.type is not WSMsgType.TEXT:
        raise Malformed("expected a text message, got a binary one")
    return loads(message.data.encode())


def _check_origin(request: web.Request) -> None:
    """Browsers let any page open a WebSocket anywhere, with cookies. Raises Forbidden for a page of another host."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"//{request.host}")
        port = _PORTS.get(theirs.scheme)
        same = bool(theirs.hostname) and theirs.hostname == ours.hostname
        same = same and (theirs.port or port) == (ours.port or port)
    except ValueError:
        same = False
    if not same:
        raise Forbidden("the Origin is not the requested host; a proxy in between must pass on the Host header")


class SocketOutlet:
    """`async with SocketOutlet(request, notifier, max_message=…)` opens it.

    Raises Forbidden for a page of another host. `max_message` is the limit on the bytes of the client's messages.
    """

    keep_alive_seconds = None  # the socket sends pings

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        self.writing = asyncio.Lock()
        self._socket = Socket(request, notifier, max_message=max_message)
        self._notifier = notifier
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def response(self) -> web.WebSocketResponse:
        return self._socket.response

    async def __aenter__(self) -> Self:
        await self._socket.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._socket.__aexit__(*error)

    async def serve(self, take: Callable[[WSMessage], Awaitable[None]], *work: Coroutine[Any, Any, None]) -> None:
        """Does the work, and passes the client's messages to `take` one by one, until the WebSocket has ended."""
        async with self._group:
            for each in work:
                self.start(each)
            closing = self._group.create_task(self._close_when_stopping())
            async for message in self._socket.messages():
                await take(message)
            for task in (closing, *self._tasks):
                task.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the WebSocket. Call it while `serve` runs."""
        task = self._group.create_task(_until_gone(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_when_stopping(self) -> None:
        with self._notifier.on(()) as signal:
            while not self._notifier.closed:
                signal.clear()
                await signal.wait()
        if self._tasks:  # they send how the replies ended
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        await self._socket.go_away()

    async def send(self, items: Sequence[Item]) -> None:
        """Sends each item as JSON. Raises ConnectionError."""
        for item in items:
            await self._socket.send(item)

    async def keep_alive(self) -> None:
        """Never called."""


async def _until_gone(work: Coroutine[Any, Any, None]) -> None:
    """Does the work. A client that has gone ends it quietly; `serve` notices that by itself."""
    with contextlib.suppress(ConnectionError):
        await work
