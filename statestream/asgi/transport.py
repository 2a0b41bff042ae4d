"""The connection in memory between aiohttp's protocol, which serves a request, and the exchange, which carries it.

aiohttp writes the head of a response with `begin`, its body with `write`, and says with `end` that it is complete. On a
WebSocket, the body is frames.

Invariants: `write` never waits. What was written counts as waiting until the ASGI server has taken it; if that is too
much, the protocol is told to pause, as by a transport of asyncio. After `close`, what was written is still delivered.
After `abort` it is as well if the ASGI server takes it soon: on a socket, the kernel would have taken it by then.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from statestream.asgi.scope import Place

HIGH_WATER: Final = 64 << 10
LOW_WATER: Final = 16 << 10
"""The limits of asyncio's own transports, in bytes."""
ABORT_SECONDS: Final = 0.5
"""How long a client whose connection is aborted may take to read what was written before."""
PIECE: Final = 64 << 10
"""How much of a body is given to the ASGI server at once: what it has taken, it may have copied for this client."""

Headers = list[tuple[bytes, bytes]]


class AsgiTransport(asyncio.Transport):
    """`place` is where the application is mounted. `secure`: whether the client came by HTTPS."""

    __slots__ = (
        "_closing",
        "_offset",
        "_paused",
        "_protocol",
        "_readable",
        "_taken",
        "_waiting",
        "_woken",
        "_written",
        "ended",
        "head",
        "interrupt",
        "place",
        "secure",
    )

    def __init__(self, protocol: asyncio.Protocol, ends: Mapping[str, Any], place: Place, *, secure: bool) -> None:
        super().__init__(ends)
        self.place, self.secure = place, secure
        self.head: tuple[int, Headers] | None = None
        """The status and the headers of the response, until they are taken."""
        self.ended = False
        """Whether the body is complete."""
        self.interrupt: asyncio.Timeout | None = None
        """What ends the delivery, whatever the ASGI server waits for."""
        self._protocol = protocol
        self._written: deque[bytes] = deque()
        self._waiting = self._taken = self._offset = 0
        """The bytes that the ASGI server has not taken, those that it is taking, and those of the first that it has."""
        self._closing = self._paused = False
        self._woken: asyncio.Future[None] | None = None
        self._readable: asyncio.Event | None = None

    # called by aiohttp, and by what writes through it

    def begin(self, status: int, headers: Headers) -> None:
        """The head of the response."""
        self.head = status, headers
        self._wake()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data:
            return
        self._written.append(bytes(data))
        self._waiting += len(data)
        if self._waiting > HIGH_WATER and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._wake()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def end(self) -> None:
        """The body is complete, unless the response was aborted."""
        if not self._closing:
            self.ended = True
            self._wake()

    def close(self) -> None:
        self._closing = True
        self._wake()

    def abort(self) -> None:
        self._closing, self.ended = True, False
        if self.interrupt is not None:
            self.interrupt.reschedule(asyncio.get_running_loop().time() + ABORT_SECONDS)
            self.interrupt = None
        self._wake()

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def pause_reading(self) -> None:
        if self._readable is None:
            self._readable = asyncio.Event()
        self._readable.clear()

    def resume_reading(self) -> None:
        if self._readable is not None:
            self._readable.set()

    # called by the exchange

    async def readable(self) -> None:
        """Returns when aiohttp takes more of the request."""
        if self._readable is not None:
            await self._readable.wait()

    async def ready(self) -> None:
        """Returns when there is something to deliver, or nothing more will come."""
        if self.head is None and not self._written and not self.ended and not self._closing:
            self._woken = asyncio.get_running_loop().create_future()
            try:
                await self._woken
            finally:
                self._woken = None

    def take(self) -> bytes:
        """All that was written, for the ASGI server. Call `took` when it has it."""
        if self._offset:
            self._written[0] = self._written[0][self._offset :]
            self._offset = 0
        data = self._written[0] if len(self._written) == 1 else b"".join(self._written)
        self._written.clear()
        self._taken = len(data)
        return data

    def take_piece(self) -> bytes:
        """The next PIECE of what was written. What remains is still shared with other clients."""
        if self._waiting <= PIECE:
            return self.take()
        piece = bytearray()
        while len(piece) < PIECE:
            first = self._written[0]
            part = memoryview(first)[self._offset : self._offset + PIECE - len(piece)]
            piece += part
            self._offset += len(part)
            if self._offset == len(first):
                self._written.popleft()
                self._offset = 0
        self._taken = len(piece)
        return bytes(piece)

    def took(self) -> None:
        self._waiting -= self._taken
        self._taken = 0
        if self._paused and self._waiting <= LOW_WATER:
            self._paused = False
            self._protocol.resume_writing()

    @property
    def more(self) -> bool:
        """Whether something was written that was not taken yet."""
        return bool(self._written)

    @property
    def over(self) -> bool:
        """Whether nothing is left to deliver, not even that the body is complete."""
        return self._closing and not self._written and self.head is None and not self.ended

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)
