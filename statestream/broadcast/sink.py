"""Where a reader's bytes go: the one small interface between the broadcaster and sockets.

Law: the broadcaster writes through a Sink and knows nothing else of connections. `write` never waits
and never takes part of a frame: a frame is taken whole, or refused because too much waits already.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol

from statestream.broadcast.frames import Frame


class Sink(Protocol):
    @property
    def closed(self) -> bool:
        """Whether the other side is gone, as far as is known."""

    @property
    def waiting(self) -> int:
        """Bytes taken that the kernel has not."""

    def write(self, frame: Frame) -> bool:
        """Takes the frame, or gives False: too much is waiting, or the sink is closed."""

    async def drained(self) -> None:
        """Returns when the sink takes frames again, or is closed."""

    def abort(self) -> None:
        """Cuts the connection, dropping what waits."""


class TransportSink:
    """Writes to the transport that aiohttp made, past its response, whose head has been sent."""

    __slots__ = ("_chunked", "_protocol", "_transport", "_writer")

    def __init__(
        self, writer: AbstractStreamWriter, protocol: BaseProtocol, transport: asyncio.Transport, *, chunked: bool
    ) -> None:
        self._writer, self._protocol, self._transport, self._chunked = writer, protocol, transport, chunked

    @property
    def closed(self) -> bool:
        return self._transport.is_closing()

    @property
    def waiting(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, frame: Frame) -> bool:
        if self._protocol.writing_paused or self._transport.is_closing():
            return False
        self._transport.write(frame.chunked if self._chunked else frame.raw)
        return True

    async def drained(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError:
            self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()
