"""Where a reader's bytes go: the one small interface between the broadcaster and sockets.

Invariants: the broadcaster writes through a Sink and knows nothing else of connections. `write` never waits
and never calls back: it takes the frame whole, keeps what the kernel does not take, and says whether
another one may follow. Half a frame is never left behind while the connection lasts.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final, Protocol

from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol

from statestream.protocol.frames import Frame

if sys.platform != "win32":
    import fcntl
    import termios

GONE: Final = -1


def unacknowledged(descriptor: int) -> int:
    """What the kernel holds for the other side of a connection, in bytes; 0 where it does not say."""
    if sys.platform == "win32" or descriptor < 0:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class Sink(Protocol):
    direct: bool
    """Whether the `descriptor` may be written to past the sink while nothing waits; `took` is told what came of it."""
    chunked: bool
    """Which of a frame's two forms goes out."""

    @property
    def descriptor(self) -> int:
        """The open socket, where writing is direct."""

    @property
    def closed(self) -> bool:
        """Whether the other side is gone, as far as is known."""

    @property
    def waiting(self) -> int:
        """Bytes taken that the kernel has not."""

    @property
    def outstanding(self) -> int:
        """Bytes taken that the other side has not acknowledged, as far as is known: it falls while a reader reads."""

    def write(self, frame: Frame) -> bool:
        """Takes the frame. False: it is closed, or nothing more may come until it is `drained`."""

    def took(self, data: bytes, sent: int) -> None:
        """So much of `data` was taken at the descriptor, less than all of it; GONE: the other side is."""

    async def drained(self) -> None:
        """Returns when it takes frames again, or is closed."""

    def finish(self) -> None:
        """Ends the response behind what was written, which has been drained."""

    def abort(self) -> None:
        """Cuts the connection, dropping what waits."""


class TransportSink:
    """Writes to the transport that aiohttp made, past its response, whose head has been sent.

    The request's handler waits for `finished`, and aiohttp then ends the response.
    """

    __slots__ = ("_draining", "_finished", "_protocol", "_transport", "_writer", "chunked")
    direct = False
    descriptor = GONE

    def __init__(
        self, writer: AbstractStreamWriter, protocol: BaseProtocol, transport: asyncio.Transport, *, chunked: bool
    ) -> None:
        self._writer, self._protocol, self._transport, self.chunked = writer, protocol, transport, chunked
        self._draining: asyncio.Task[None] | None = None
        self._finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    @property
    def waiting(self) -> int:
        return self._transport.get_write_buffer_size()

    @property
    def outstanding(self) -> int:
        connection = self._transport.get_extra_info("socket")
        return self.waiting + (0 if connection is None else unacknowledged(connection.fileno()))

    def write(self, frame: Frame) -> bool:
        if self._transport.is_closing():
            return False
        self._transport.write(frame.chunked if self.chunked else frame.raw)
        return not self._protocol.writing_paused

    def took(self, data: bytes, sent: int) -> None:
        raise AssertionError("nobody writes past a transport")

    async def drained(self) -> None:
        """Who waits may be cancelled, aiohttp's waiter must not be: it is one for all, and would stay cancelled."""
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        """Ends when the client reads, and when the connection is lost."""
        try:
            await self._writer.drain()
        except ConnectionError:
            self._transport.abort()

    @property
    def finished(self) -> asyncio.Future[None]:
        """Done when nothing more will be written."""
        return self._finished

    def finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def abort(self) -> None:
        self._transport.abort()
        self.finish()
