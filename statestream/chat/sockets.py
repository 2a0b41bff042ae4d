"""One client's WebSocket: opened for its own host only, written as fast as the client takes it.

aiohttp's own wait for room is not used: it lasts as long as a client does not read, and the server's end with it.

Invariants: who sends waits for the socket, so a client that does not read costs what is on its way and no more; one
that takes nothing for a while is cut. However it ends, nothing waits for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from statestream.core.errors import Forbidden, Malformed
from statestream.core.values import loads
from statestream.store.notifier import Notifier

UNSENT_BYTES: Final = 64 << 10
HEARTBEAT_SECONDS: Final = 20.0
STALL_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.05
_PORTS: Final = {"http": 80, "https": 443}


class Socket:
    """`async with Socket(request, watch, max_message=…)`: open within. Raises Forbidden for a page of another host."""

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        _check_origin(request)
        self._request, self._watch = request, notifier
        self.response = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            timeout=CLOSE_SECONDS,
            max_msg_size=max_message,
            writer_limit=sys.maxsize,  # who writes waits by `_room`
            compress=False,  # it would cost a third of a megabyte a client
        )

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.response.close_code in (None, WSCloseCode.ABNORMAL_CLOSURE):
            self._abort()  # closing would wait for a client that does not read

    async def messages(self) -> AsyncIterator[WSMessage]:
        """What the client says, until it has gone."""
        async for message in self.response:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message

    async def send(self, frame: Any) -> None:
        """Sends the frame, and returns when there is room for the next one. Raises ConnectionError."""
        await self.response.send_frame(orjson.dumps(frame), WSMsgType.TEXT)
        loop = asyncio.get_running_loop()
        least, since = sys.maxsize, loop.time()
        while (transport := self._request.transport) is not None:
            unsent = transport.get_write_buffer_size()
            if unsent <= UNSENT_BYTES:
                return
            if unsent < least:
                least, since = unsent, loop.time()
            elif loop.time() - since > (CLOSE_SECONDS if self._watch.closed else STALL_SECONDS):
                transport.abort()
                break
            await asyncio.sleep(LOOK_SECONDS)
        raise ConnectionAbortedError("the client has gone, or it does not read")

    async def go_away(self) -> None:
        """For the server's end: clients come back in a moment."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.response.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops; come back")
        except TimeoutError:
            self._abort()

    def _abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def value_of(message: WSMessage) -> Any:
    """The JSON of a message. Raises NotJSON, Malformed."""
    if message.type is not WSMsgType.TEXT:
        raise Malformed("expected a message of text, got a binary one")
    return loads(message.data.encode())


def _check_origin(request: web.Request) -> None:
    """Browsers let any page open a WebSocket anywhere, with cookies. Raises Forbidden for one of another host."""
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
        raise Forbidden("expected an Origin of the host that is asked; a proxy in between must pass Host on")
