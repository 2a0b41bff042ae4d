"""Carries one request, or one WebSocket, between an ASGI server and aiohttp's protocol.

Invariants: the ASGI server's own task sends, so that a server that makes it wait holds back this client only. Another
task receives, because only this shows that the client has left. Both end with the request. A response that is not
complete ends with an exception, so that no server completes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from aiohttp import WSMsgType

from statestream.asgi.frames import NO_STATUS, Frame, FrameReader
from statestream.asgi.scope import LAST_CHUNK, Scope, chunk, ends_of, has_body, head_of, is_secure, place_of
from statestream.asgi.transport import AsgiTransport, Headers
from statestream.server.connection import HttpConnection

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

SWITCHING: Final = 101
DENIAL: Final = "websocket.http.response"
"""The extension by which a WebSocket is refused with a response (ASGI, Websocket Denial Response)."""
CLOSE_SECONDS: Final = 2.0
"""So long a handler may go on after its client has closed the WebSocket; on a socket, the connection ends then."""
OF_THE_HANDSHAKE: Final = (b"upgrade", b"sec-websocket-accept", b"sec-websocket-protocol", b"content-type")


class Exchange:
    """`await Exchange(…).run()` returns when the response is complete, or its client has left.

    Raises ConnectionAbortedError if the response was cut.
    """

    __slots__ = (
        "_connection",
        "_frames",
        "_head",
        "_last",
        "_mute",
        "_receive",
        "_scope",
        "_send",
        "_socket",
        "_started",
        "_transport",
        "left",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, connection: HttpConnection) -> None:
        self._scope, self._receive, self._send, self._connection = scope, receive, send, connection
        self._socket = scope["type"] == "websocket"
        self._frames: FrameReader | None = None
        """Of a WebSocket that was accepted."""
        self._started = self._mute = False
        """Whether the head of a response was sent, and whether only that can be sent."""
        self._last = False
        """Whether all of a response was sent."""
        self.left = False
        """Whether the client has left."""
        place = place_of(scope)
        self._head = head_of(scope, place.path)
        self._transport = AsgiTransport(connection, ends_of(scope), place, secure=is_secure(scope))
        connection.connection_made(self._transport)

    async def run(self) -> None:
        self._connection.data_received(self._head)
        self._head = b""
        receiving = asyncio.create_task(self._receive_all())
        try:
            await self._deliver()
        finally:
            complete = self._last or self._frames is not None
            receiving.cancel()
            self._transport.abort()
            self._connection.connection_lost(None if complete else ConnectionResetError("the response was cut"))
            await asyncio.wait([receiving])
        if not receiving.cancelled() and (error := receiving.exception()) is not None:
            raise error
        if not complete and not self.left:
            raise ConnectionAbortedError("the response was cut, so that its client does not take it for complete")

    # to the ASGI server

    async def _deliver(self) -> None:
        try:
            async with asyncio.timeout(None) as self._transport.interrupt:
                while not self._last and not self._transport.over:
                    await self._transport.ready()
                    for message in self._messages():
                        if not self.left:
                            await self._send(message)
                    self._transport.took()
        except TimeoutError:
            if not self._transport.is_closing():
                raise
        except OSError:  # so the ASGI server says that the client has left (ASGI 2.4)
            self._lose()
        finally:
            self._transport.interrupt = None

    def _messages(self) -> Iterator[Message]:
        """What is to be sent now."""
        head, self._transport.head = self._transport.head, None
        if head is not None:
            yield from self._begin(*head)
        if self._frames is not None:
            yield from self._socket_messages(self._frames)
            self._last = self._transport.ended
        elif self._started:
            data = self._transport.take_piece()
            last = self._transport.ended and not self._transport.more
            if (data or last) and not self._mute:
                yield {"type": f"{self._kind}.body", "body": data, "more_body": not last}
            self._last = last

    @property
    def _kind(self) -> str:
        return DENIAL if self._socket else "http.response"

    def _begin(self, status: int, headers: Headers) -> Iterator[Message]:
        if self._socket and status == SWITCHING:
            self._frames = FrameReader()
            chosen = dict(headers).get(b"sec-websocket-protocol")
            more = [(name, value) for name, value in headers if name not in OF_THE_HANDSHAKE]
            subprotocol = None if chosen is None else chosen.decode()
            yield {"type": "websocket.accept", "subprotocol": subprotocol, "headers": more}
        elif self._socket and DENIAL not in (self._scope.get("extensions") or {}):
            self._started = self._mute = True
            yield {"type": "websocket.close"}
        else:
            self._started = True
            if self._socket and self._scope.get("http_version", "1.1") == "1.1":
                headers.append((b"connection", b"close"))  # hypercorn closes it without saying so
            yield {"type": f"{self._kind}.start", "status": status, "headers": headers}

    def _socket_messages(self, frames: FrameReader) -> Iterator[Message]:
        for frame in frames.read(self._transport.take()):
            if frame.kind is WSMsgType.PING:  # the ASGI server finds out by itself whether its client is there
                self._connection.data_received(Frame(kind=WSMsgType.PONG, data=frame.data).encode())
            elif frame.kind is WSMsgType.CLOSE:
                yield {"type": "websocket.close", "code": frame.code, "reason": frame.reason}
            elif frame.kind is WSMsgType.TEXT:
                yield {"type": "websocket.send", "text": frame.data.decode()}
            elif frame.kind is WSMsgType.BINARY:
                yield {"type": "websocket.send", "bytes": frame.data}

    # from the ASGI server

    async def _receive_all(self) -> None:
        """Passes on what the client sends, until it leaves."""
        try:
            await (self._receive_socket() if self._socket else self._receive_body())
        except OSError:
            self._lose()
        except Exception:
            self._lose()
            raise

    def _lose(self) -> None:
        """The client has left."""
        self.left = True
        self._transport.abort()
        self._connection.connection_lost(ConnectionResetError("the client has left"))

    async def _receive_body(self) -> None:
        wanted = has_body(self._scope)
        while True:
            await self._transport.readable()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._lose()
                return
            data, more = message.get("body", b""), message.get("more_body", False)
            if wanted and data:
                self._connection.data_received(chunk(data))
            if wanted and not more:
                wanted = False
                self._connection.data_received(LAST_CHUNK)

    async def _receive_socket(self) -> None:
        while True:
            await self._transport.readable()
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                break
            if message["type"] == "websocket.receive":
                self._connection.data_received(_frame_of(message).encode())
        if self._frames is not None:
            # for hypercorn, every connection was lost: what the client has sent before is for the handler nevertheless
            self.left = True
            self._connection.data_received(Frame.closing(message.get("code", NO_STATUS)).encode())
            await asyncio.sleep(CLOSE_SECONDS)
        self._lose()


def _frame_of(message: Message) -> Frame:
    data, text = message.get("bytes"), message.get("text")
    if data is None:
        return Frame(kind=WSMsgType.TEXT, data=(text or "").encode())
    return Frame(kind=WSMsgType.BINARY, data=bytes(data))
