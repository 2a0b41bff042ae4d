"""Where a subscriber's bytes go: the sink, and the sink on a transport that aiohttp keeps.

The broadcast writes through a Sink and knows nothing else of connections. The other sinks are sockets of our own, see
`sockets.py`, and the answer to a long poll, see `answer_sink.py`.

Invariants: `write` never waits and never calls back. It takes the bytes as a whole and returns whether more may follow.
Bytes that wait for a client count against the Budget.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal, Protocol

from aiohttp.abc import AbstractStreamWriter
from aiohttp.base_protocol import BaseProtocol

from statestream.broadcast.budget import Budget
from statestream.broadcast.kernel_limits import unacknowledged

Ending = Literal["left", "lost", "unread", "failed", "polled"]
"""How a connection ended if no `stream.end` was sent: see `counters`."""
ENDINGS: Final[tuple[Ending, ...]] = ("left", "lost", "unread", "failed", "polled")


class Sink(Protocol):
    direct: bool
    """Whether others may write to the `descriptor` while nothing waits. They report to `took`."""

    @property
    def descriptor(self) -> int:
        """The open socket, if writing is direct."""

    @property
    def closed(self) -> bool:
        """Whether the peer is gone, as far as is known."""

    @property
    def ending(self) -> Ending:
        """How the connection ended, once it is closed."""

    @property
    def waiting(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""

    @property
    def outstanding(self) -> int:
        """Bytes that were written and that the peer has not acknowledged. The number falls while the peer reads."""

    @property
    def sent(self) -> int | None:
        """The bytes that were sent, once it is closed; None if they were not counted. Is asked once."""

    def write(self, data: bytes) -> bool:
        """Takes encoded frames. False: the sink is closed, or must be `drained` before the next write."""

    def took(self, data: bytes, sent: int) -> None:
        """Is called after `data` was written to the descriptor, which took only `sent` bytes, or was GONE or LOST."""

    async def drained(self) -> None:
        """Returns when the sink can be written to again, or is closed."""

    def finish(self) -> None:
        """Ends the response after what was written. The sink must be drained."""

    def abort(self, how: Ending = "left") -> None:
        """Ends the connection at once and drops what waits."""


class TransportSink:
    """Writes to aiohttp's transport directly, after aiohttp has sent the response's headers.

    The request's handler waits for `finished`; aiohttp then ends the response.
    """

    __slots__ = ("_budget", "_draining", "_finished", "_protocol", "_taken", "_transport", "_writer", "ending", "sent")
    direct = False
    descriptor = -1  # never used: writing is not direct

    def __init__(
        self, writer: AbstractStreamWriter, protocol: BaseProtocol, transport: asyncio.Transport, budget: Budget
    ) -> None:
        self._writer, self._protocol, self._transport, self._budget = writer, protocol, transport, budget
        self._taken = 0
        self.sent = 0
        self.ending: Ending = "left"  # a transport does not report that the kernel has closed it
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

    def write(self, data: bytes) -> bool:
        if self._transport.is_closing():
            return False
        self.sent += len(data)
        self._transport.write(data)
        if not self._protocol.writing_paused:
            return True
        if self._budget.take(len(data)):  # most transports copy waiting bytes, so they are not shared
            self._taken += len(data)
        else:
            self.abort("unread")
        return False

    def took(self, data: bytes, sent: int) -> None:
        raise AssertionError("a transport's descriptor is never written to directly")

    async def drained(self) -> None:
        """A caller may be cancelled. aiohttp's waiter must not be: all share it, and it would stay cancelled."""
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        """Returns when the client reads, and when the connection is lost."""
        try:
            await self._writer.drain()
        except ConnectionError:
            self._transport.abort()
        finally:
            self._give_back()

    def _give_back(self) -> None:
        self._budget.free(self._taken)
        self._taken = 0

    @property
    def finished(self) -> asyncio.Future[None]:
        """Done when nothing more will be written."""
        return self._finished

    def finish(self) -> None:
        self._give_back()
        if not self._finished.done():
            self._finished.set_result(None)

    def abort(self, how: Ending = "left") -> None:
        self.ending = how
        self._transport.abort()
        self.finish()
