"""The sockets that were handed off by aiohttp, as sinks.

Nothing is left of such a subscriber but a descriptor and two small objects. The descriptor is a duplicate; aiohttp's
transport is aborted and closes only its own. One epoll for all of them is in the event loop. Decision record 5 has the
costs, and what this must survive.

Bytes that wait for slow clients count against the Budget. When it is used up, a client that does not take its bytes is
disconnected, and can resume later.

Invariants: `write` never waits and never calls back. It takes the bytes as a whole, keeps what the kernel does not
take, and returns whether more may follow; a frame is never left half-written while the connection lasts. A descriptor
is closed only after it has left the epoll, and its number is forgotten before anybody else can get it. Others may send
to the descriptor of a live sink, and do nothing else with it. What clients send after their request is discarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from statestream.broadcast.budget import Budget
from statestream.broadcast.encoding import Encoding
from statestream.broadcast.kernel_limits import bound_socket, bytes_sent, unacknowledged
from statestream.broadcast.ring import LOST, Ring, Write, closed_by, send_each
from statestream.broadcast.sink import ENDINGS, Ending

Owner = TypeVar("Owner")

EVENTS: Final = 512
DISCARD: Final = 1 << 16
FEW: Final = 16
"""For up to so many sockets, one write for each costs less than a ring."""
AVAILABLE: Final = sys.platform == "linux"

if AVAILABLE:
    LISTEN: Final = select.EPOLLIN | select.EPOLLRDHUP
    WRITABLE: Final = select.EPOLLOUT


class SocketSink(Generic[Owner]):
    """A Sink on a socket of our own. `owner` is the subscriber to report when the peer has gone."""

    __slots__ = ("_drained", "_fd", "_last", "_rest", "_sockets", "owner")
    direct = True

    def __init__(self, sockets: Sockets[Owner], fd: int, last: bytes) -> None:
        self._sockets, self._fd, self._last = sockets, fd, last
        self._rest: deque[tuple[bytes, int]] | None = None
        """Frames, and how much of them was sent."""
        self._drained: asyncio.Future[None] | None = None
        self.owner: Owner | None = None

    @property
    def descriptor(self) -> int:
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    @property
    def ending(self) -> Ending:
        """A closed sink has a negative descriptor, which encodes how it ended: a field would cost every sink memory."""
        return ENDINGS[~self._fd]

    @property
    def waiting(self) -> int:
        return sum(len(data) - sent for data, sent in self._rest or ())

    @property
    def outstanding(self) -> int:
        return self.waiting + unacknowledged(self._fd)

    @property
    def sent(self) -> int | None:
        return self._sockets.counted(self)

    def write(self, data: bytes) -> bool:
        if self._rest:
            self._keep(data, 0)
            return False
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            sent = closed_by(error.errno)
        if sent == len(data):
            return True
        self.took(data, sent)
        return False

    def took(self, data: bytes, sent: int) -> None:
        if sent < 0:
            self.abort("lost" if sent == LOST else "left")
        else:
            self._sockets.watch(self._fd, LISTEN | WRITABLE)
            self._keep(data, sent)

    def _keep(self, data: bytes, sent: int) -> None:
        """Keeps the bytes that the kernel did not take, or disconnects the client if there is no room."""
        if not self._sockets.budget.hold(data):
            self.abort("unread")
            return
        if self._rest is None:
            self._rest = deque()
        self._rest.append((data, sent))

    async def drained(self) -> None:
        if self._rest:  # only the task that owns the subscriber waits, so one future is enough
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def finish(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                if self._last and not self._rest:
                    os.write(self._fd, self._last)
                os.read(self._fd, DISCARD)  # closing with unread bytes would send a reset, which discards the end
        self.abort()

    def abort(self, how: Ending = "left") -> None:
        if self.closed:
            return
        self._sockets.count(self)
        fd, self._fd = self._fd, ~ENDINGS.index(how)
        for data, _ in self._rest or ():
            self._sockets.budget.release(data)
        self._rest = self.owner = None
        self._sockets.forget(fd)
        self._wake()

    def disown(self) -> None:
        """The descriptor belongs to somebody else from now on."""
        self._fd = -1

    def happened(self, events: int) -> bool:
        """Handles what epoll reported. Returns whether the peer is still there."""
        if events & WRITABLE:
            self._send_rest()
        if events & ~WRITABLE and not self.closed:
            self._discard_input()
        return not self.closed

    def _send_rest(self) -> None:
        try:
            while self._rest:
                data, before = self._rest[0]
                sent = before + os.write(self._fd, memoryview(data)[before:])
                if sent < len(data):
                    self._rest[0] = (data, sent)
                else:
                    self._rest.popleft()
                    self._sockets.budget.release(data)
        except BlockingIOError:
            return
        except OSError as error:
            self.took(b"", closed_by(error.errno))
            return
        self._rest = None
        self._sockets.watch(self._fd, LISTEN)
        self._wake()

    def _discard_input(self) -> None:
        """A client has nothing more to say. If it shuts down its side, the stream ends."""
        try:
            if not os.read(self._fd, DISCARD):
                self.finish()
        except BlockingIOError:
            return
        except OSError as error:
            self.took(b"", closed_by(error.errno))

    def _wake(self) -> None:
        if self._drained and not self._drained.done():
            self._drained.set_result(None)


class Sockets(Generic[Owner]):
    """All sockets that were handed off. `gone` is called with the owner of a sink that its peer has closed."""

    def __init__(self, gone: Callable[[Owner], None], budget: Budget) -> None:
        self._gone, self.budget = gone, budget
        self._sinks: dict[int, SocketSink[Owner]] = {}
        self._counted: dict[SocketSink[Owner], int] | None = None
        self._epoll: Any = None
        self._ring: Ring | None = None

    def __len__(self) -> int:
        return len(self._sinks)

    def open(self) -> None:
        """Adds the epoll to the running loop, unless writing to a closed connection would end the process (SIGPIPE)."""
        if AVAILABLE and signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
            self._ring = Ring.open()
            _open.add(self)

    def count_bytes(self) -> None:
        """From now on, sinks know how much they have `sent`. The kernel counts; that costs a number for each sink."""
        self._counted = {}

    def count(self, sink: SocketSink[Owner]) -> None:
        """Notes what was sent so far, or since the last time."""
        if self._counted is not None and (sent := bytes_sent(sink.descriptor)) is not None:
            self._counted[sink] = sent - self._counted.get(sink, 0)

    def counted(self, sink: SocketSink[Owner]) -> int | None:
        """What a closed sink has sent. Forgets it."""
        return None if self._counted is None else self._counted.pop(sink, None)

    def close(self) -> None:
        """Closes every socket at once, also in the middle of a frame."""
        for sink in tuple(self._sinks.values()):
            sink.abort()
        if self._epoll is not None:
            _open.discard(self)
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._close_polling()

    def _close_polling(self) -> None:
        self._epoll.close()
        if self._ring is not None:
            self._ring.close()
        self._epoll = self._ring = None

    def send(self, writes: Sequence[Write]) -> list[tuple[int, int]]:
        """See `ring.Send`."""
        if self._ring is None or sum(len(descriptors) for descriptors, _ in writes) <= FEW:
            return send_each(writes)
        return self._ring.send(writes)

    def hand_off(self, transport: asyncio.Transport, encoding: Encoding) -> SocketSink[Owner] | None:
        """Takes the connection from a transport, which is aborted. None if the connection must stay with it.

        That is the case with TLS, with bytes that the transport still has to send, without a descriptor left, and on
        systems without epoll.
        """
        connection = transport.get_extra_info("socket")
        if self._epoll is None or connection is None or transport.get_extra_info("sslcontext") is not None:
            return None
        if transport.is_closing() or transport.get_write_buffer_size():
            return None
        try:
            fd = os.dup(connection.fileno())
        except OSError:
            return None
        try:
            bound_socket(fd, connection.family)
            self._epoll.register(fd, LISTEN)
        except OSError:
            os.close(fd)
            return None
        transport.abort()  # aiohttp notices in a later iteration, when the handler has returned
        sink = self._sinks[fd] = SocketSink(self, fd, encoding.last)
        self.count(sink)  # what earlier responses on this connection, and the head of this one, have sent
        return sink

    def watch(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        del self._sinks[fd]
        self._epoll.unregister(fd)
        os.close(fd)

    def _ready(self) -> None:
        """Handles what happened to the sockets.

        The sinks are looked up before the first one is handled: a descriptor that is closed while this runs may be
        given out again, and then belongs to another sink.
        """
        for sink, events in [(self._sinks[fd], events) for fd, events in self._epoll.poll(0, EVENTS)]:
            owner = sink.owner
            if not sink.closed and not sink.happened(events) and owner is not None:
                self._gone(owner)

    def close_in_child(self) -> None:
        """A forked process shares our descriptors, and must not keep the connections open."""
        _open.discard(self)
        for fd, sink in self._sinks.items():
            os.close(fd)
            sink.disown()
        self._sinks.clear()
        self._close_polling()


_open: weakref.WeakSet[Sockets[Any]] = weakref.WeakSet()


def _forked() -> None:
    for sockets in tuple(_open):
        sockets.close_in_child()


if AVAILABLE:
    os.register_at_fork(after_in_child=_forked)
