"""One client's WebSocket, and the WebSocket as an outlet of viewers.

The server reads from it at a limited rate, and writes to it as fast as the client reads. As an outlet, it sends the
items of viewers, takes the client's messages, and owns the tasks for both. aiohttp's own wait for room in the write
buffer is not used, because it lasts until the client reads, and the server could not stop in the meantime. aiohttp's
own answer to pings is not used either, because it does not wait for room at all.

Invariants: reading and writing let other tasks run, even if there is always more to read or room to write. A sender
waits for the socket, so that a client that does not read costs only the bytes on their way to it; this includes pongs.
A client that reads nothing for a while is disconnected, and so is one that stays above the rate. However the connection
ends, nothing waits for the client, the tasks end with it, and nothing keeps the objects alive. When the server stops,
they may finish what they send, for a short while; then the WebSocket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Self

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from statestream.chat.viewing.projection import Item
from statestream.core.errors import Malformed
from statestream.server.allowance import FLOOD_SECONDS, Allowance
from statestream.server.authentication import SESSION, held
from statestream.server.bodies import parsed
from statestream.server.contract import Answer, Parameter
from statestream.server.limits import LIMITED
from statestream.store.notifier import Notifier
from statestream.store.revocations import WhyNot

MESSAGES_PER_SECOND: Final = 50.0
MESSAGES_AT_ONCE: Final = 250
"""How much a client may send, including pings and pongs. Messages above the rate wait."""
UNSENT_BYTES: Final = 64 << 10
ITERATION_BYTES: Final = 64 << 10
"""How much one iteration of the event loop writes."""
HEARTBEAT_SECONDS: Final = 20.0
STALL_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.05
CLOSE_CODES: Final = {"expired": 3000, "revoked": 3003}
"""Unauthorized and Forbidden, in IANA's registry of close codes for WebSockets."""
NO_HANDSHAKE: Final = "this route opens a WebSocket; send the headers of its handshake, by RFC 6455"
HANDSHAKE: Final = tuple(
    Parameter(name=name, description="Of the handshake, RFC 6455.", schema=schema, place="header", required=True)
    for name, schema in (
        ("Upgrade", {"const": "websocket"}),
        ("Connection", {"const": "Upgrade"}),
        ("Sec-WebSocket-Version", {"const": "13"}),
        ("Sec-WebSocket-Key", {"type": "string", "pattern": "^[A-Za-z0-9+/]{21}[AQgw]==$"}),
    )
)
OPENED: Final = Answer(description="The WebSocket is open.", status=101, media_type=None)


class Socket:
    """`async with Socket(request, notifier, max_message=…)` opens it. Raises Malformed, TooManyStreams.

    The notifier says whether the server stops: then a client that does not read is given up sooner.
    """

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        self._request, self._notifier = request, notifier
        self.response = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            timeout=CLOSE_SECONDS,
            max_msg_size=max_message,
            autoping=False,  # a pong is sent like everything else
            writer_limit=sys.maxsize,  # `_send` waits for room itself
            compress=False,  # compression would cost a third of a megabyte per client
        )
        self._allowance = Allowance(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        self._written = 0
        self._held = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        with contextlib.ExitStack() as holding:
            holding.enter_context(held(self._request))
            try:
                await self.response.prepare(self._request)
            except web.HTTPBadRequest:
                raise Malformed(NO_HANDSHAKE) from None
            self._held = holding.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._held.close()
        if self.response.close_code in (None, WSCloseCode.ABNORMAL_CLOSURE):
            self.abort()  # closing would wait for a client that does not read
            await self.response.close()  # waits for nothing now, and ends the timers
        if (error := self.response.exception()) is not None:
            error.__traceback__ = error.__context__ = None  # their frames have the response, which has the error

    async def messages(self) -> AsyncIterator[WSMessage]:
        """The client's messages, until the connection has ended."""
        async for message in self.response:
            if not await self._next_iteration():
                self._request.config_dict[LIMITED]["socket_messages"] += 1
                await self._close(WSCloseCode.POLICY_VIOLATION, b"too many messages")
                return
            if message.type is WSMsgType.PING:
                with contextlib.suppress(ConnectionError):
                    await self._send(message.data, WSMsgType.PONG)
            elif message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message

    async def _next_iteration(self) -> bool:
        """Waits until the next message may be taken, at least until other tasks have run. False: too many came."""
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self._allowance.spend(1, now))
        return self._allowance.exceeded_for(now) < FLOOD_SECONDS

    async def send(self, value: Any) -> None:
        """Sends a value as JSON, and returns when there is room for the next one. Raises ConnectionError."""
        await self._send(orjson.dumps(value), WSMsgType.TEXT)

    async def _send(self, data: bytes, kind: WSMsgType) -> None:
        await self.response.send_frame(data, kind)
        self._written += len(data)
        if self._written >= ITERATION_BYTES:
            self._written = 0
            await asyncio.sleep(0)
        await self._room()

    async def _room(self) -> None:
        """Returns when there is room for more. Raises ConnectionError."""
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
        await self._close(WSCloseCode.GOING_AWAY, b"the server is stopping; reconnect")

    async def _close(self, code: int, why: bytes) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.response.close(code=code, message=why)
        except TimeoutError:
            self.abort()

    async def close_session(self, code: int, why: bytes) -> None:
        """Closes the connection because the client's credentials are no longer valid."""
        await self._close(code, why)

    def abort(self) -> None:
        """Ends the connection at once, without a close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()


class SocketOutlet:
    """`async with SocketOutlet(request, notifier, max_message=…)` opens it.

    `max_message` is the limit on the bytes of the client's messages.
    """

    keep_alive_seconds = None  # the socket sends pings

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        self.writing = asyncio.Lock()
        self._socket = Socket(request, notifier, max_message=max_message)
        self._request, self._notifier = request, notifier
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    @property
    def response(self) -> web.WebSocketResponse:
        return self._socket.response

    async def __aenter__(self) -> Self:
        await self._socket.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._socket.__aexit__(*error)

    async def serve(self, take: Callable[[WSMessage], Awaitable[None]], *work: Coroutine[Any, Any, None]) -> None:
        """Does the work, and passes the client's messages to `take` one by one, until the WebSocket has ended.

        Raises what the work raises. It does not use a task group: a cancelled one remains as a reference cycle, with
        everything that the connection had.
        """
        closing = {asyncio.create_task(self._close_when_stopping()), *self._closing_with_the_session()}
        try:
            for each in work:
                self.start(each)
            async for message in self._socket.messages():
                await take(message)
        finally:
            tasks = closing | self._tasks
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if self._failures:
            raise self._failures.pop()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the WebSocket. Call it while `serve` runs."""
        task = asyncio.create_task(self._until_gone(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_gone(self, work: Coroutine[Any, Any, None]) -> None:
        """Does the work, and ends quietly if the client has left; `serve` notices that by itself."""
        try:
            await work
        except ConnectionError:
            pass
        except Exception as error:
            self._failures.append(error)
            self._socket.abort()

    async def _close_when_stopping(self) -> None:
        with self._notifier.on(()) as signal:
            while not self._notifier.closed:
                signal.clear()
                await signal.wait()
        if self._tasks:  # they send how the replies ended
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        await self._socket.go_away()

    def _closing_with_the_session(self) -> list[asyncio.Task[None]]:
        """The task that closes the WebSocket when the client's credentials end, if it has any."""
        session = self._request.get(SESSION)
        if session is None or session.end is None:
            return []
        ended: asyncio.Future[WhyNot] = asyncio.get_running_loop().create_future()
        session.end = lambda reason: None if ended.done() else ended.set_result(reason)
        return [asyncio.create_task(self._close_when(ended))]

    async def _close_when(self, ended: asyncio.Future[WhyNot]) -> None:
        reason = await ended
        await self._socket.close_session(CLOSE_CODES[reason], reason.encode())

    async def value_of(self, message: WSMessage) -> Any:
        """The JSON value of a message. Raises NotJSON, Malformed."""
        if message.type is not WSMsgType.TEXT:
            raise Malformed("expected a text message, got a binary one")
        return await parsed(self._request, message.data.encode())

    async def send(self, items: Sequence[Item]) -> None:
        """Sends each item as JSON. Raises ConnectionError."""
        for item in items:
            await self._socket.send(item)

    async def keep_alive(self) -> None:
        """Never called."""
