"""Open connections to the chat under test, read frame by frame, and cut wherever a client is to lose them.

Invariants: what has arrived and was not read yet is lost with the connection, as it is for a client whose network
fails. A connection that the server breaks off raises Lost; whether it may do so, the protocol's client knows.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from typing import Any, Protocol

import aiohttp
import orjson

from statestream.tools.conformance.chats.event_blocks import EventBlocks


class Lost(Exception):
    """The server broke the connection off."""


class Connection(Protocol):
    """One connection, or one response."""

    async def next(self) -> bytes | None:
        """The next frame; None at a regular end. Raises Lost."""

    async def middle(self) -> bytes:
        """Waits for the first bytes of the frame after the last one, and returns them; nothing at the end."""

    async def close(self) -> None:
        """Cuts it."""


class EventConnection:
    """The response of an event stream. A frame is a block."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response, self._blocks = response, EventBlocks()
        self._ready: deque[bytes] = deque()

    async def next(self) -> bytes | None:
        while not self._ready:
            data = await _read(self._response)
            if not data:
                return None
            self._ready.extend(self._blocks.feed(data))
        return self._ready.popleft()

    async def middle(self) -> bytes:
        return b"".join(self._ready) or await _read(self._response)

    async def close(self) -> None:
        self._response.close()


class BodyConnection:
    """The response of a plain body. A frame is what has arrived."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> bytes | None:
        return await _read(self._response) or None

    async def middle(self) -> bytes:
        """Some bytes of what comes next: they may end inside a character."""
        data = await _read(self._response)
        return data[: (len(data) + 1) // 2]

    async def close(self) -> None:
        self._response.close()


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """What has arrived; nothing at the end."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError) as error:
        raise Lost(f"the response broke off: {type(error).__name__}") from None


class SocketConnection:
    """A WebSocket. A frame is a message: bytes of an incomplete one never reach a client."""

    def __init__(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self.opened = opened
        self._first: bytes | None = None

    async def send(self, value: Any) -> None:
        """Sends JSON. A connection that is lost by now is noticed by whoever reads."""
        with contextlib.suppress(ConnectionError):
            await self.opened.send_str(orjson.dumps(value).decode())

    def put_back(self, frame: bytes) -> None:
        """The frame is read again."""
        self._first = frame

    async def next(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        message = await self.opened.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data).encode()
        if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
            raise Lost(f"the WebSocket was closed with the code {self.opened.close_code}")
        raise Lost(f"the WebSocket failed: {message.data!r}")

    async def middle(self) -> bytes:
        return b""

    async def close(self) -> None:
        connection: socket.socket | None = self.opened.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
        await self.opened.close()
