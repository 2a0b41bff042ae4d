"""Sockets that were handed off from aiohttp: nothing is left of a reader but its descriptor and two small objects.

The descriptor is a duplicate; aiohttp's transport is aborted and closes only its own. One epoll for all of
them hangs in the event loop. The decision record 0005 says what this costs and what it must survive.

Invariants: a descriptor is closed in one place, after it has left the epoll, and its number is forgotten before
it can be given to anybody else. Nothing but this file touches one. What clients send is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from statestream.broadcast.reader import Reader
from statestream.broadcast.ring import Ring, send_each
from statestream.broadcast.sink import GONE, unacknowledged
from statestream.protocol.frames import Frame

EVENTS: Final = 512
DISCARD: Final = 1 << 16
LAST_CHUNK: Final = b"0\r\n\r\n"
UNSENT: Final = 1 << 20
"""Bytes that the kernel may hold for a reader beyond what is on its way. Without it that is megabytes of the past."""
UNACKNOWLEDGED_MS: Final = 30_000
"""What a peer has not acknowledged for so long, it will never."""
FEW: Final = 16
"""Up to here a write for each costs less than what a ring takes."""
AVAILABLE: Final = sys.platform == "linux"

if AVAILABLE:
    LISTEN: Final = select.EPOLLIN | select.EPOLLRDHUP
    WRITABLE: Final = select.EPOLLOUT


def watch_over(fd: int, family: int) -> None:
    """Lets the kernel end the connection of a peer that has vanished, and refuse more than it should hold."""
    if family == socket.AF_UNIX or not AVAILABLE:
        return
    connection = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    finally:
        connection.detach()


class SocketSink:
    """A Sink on a socket of our own. `owner` is the reader who is told of when the other side has gone."""

    __slots__ = ("_drained", "_fd", "_rest", "_sockets", "chunked", "owner")
    direct = True

    def __init__(self, sockets: Sockets, fd: int, *, chunked: bool) -> None:
        self._sockets, self._fd, self.chunked = sockets, fd, chunked
        self._rest: deque[memoryview] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.owner: Reader | None = None

    @property
    def descriptor(self) -> int:
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._rest or ()))

    @property
    def outstanding(self) -> int:
        return self.waiting + unacknowledged(self._fd)

    def write(self, frame: Frame) -> bool:
        data = frame.chunked if self.chunked else frame.raw
        if self._rest:
            self._rest.append(memoryview(data))
            return False
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = GONE
        if sent == len(data):
            return True
        self.took(data, sent)
        return False

    def took(self, data: bytes, sent: int) -> None:
        if sent == GONE:
            self.abort()
        else:
            self._rest = deque([memoryview(data)[sent:]])
            self._sockets.watch(self._fd, LISTEN | WRITABLE)

    async def drained(self) -> None:
        if self._rest:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def finish(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                if self.chunked and not self._rest:
                    os.write(self._fd, LAST_CHUNK)
                os.read(self._fd, DISCARD)  # closing over unread bytes would be a reset, and take the end with it
        self.abort()

    def abort(self) -> None:
        if self.closed:
            return
        fd, self._fd = self._fd, -1
        self._rest = self.owner = None
        self._sockets.forget(fd)
        self._wake()

    def disown(self) -> None:
        """The descriptor is another's from now on."""
        self._fd = -1

    def happened(self, events: int) -> bool:
        """What epoll said of the socket. Gives whether the other side is still there."""
        if events & WRITABLE:
            self._send_rest()
        if events & ~WRITABLE and not self.closed:
            self._hear()
        return not self.closed

    def _send_rest(self) -> None:
        try:
            while self._rest:
                sent = os.write(self._fd, self._rest[0])
                if sent < len(self._rest[0]):
                    self._rest[0] = self._rest[0][sent:]
                else:
                    self._rest.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.abort()
            return
        self._rest = None
        self._sockets.watch(self._fd, LISTEN)
        self._wake()

    def _hear(self) -> None:
        """A client has nothing more to say. The end of what it sends is the end of the stream."""
        try:
            if not os.read(self._fd, DISCARD):
                self.finish()
        except BlockingIOError:
            return
        except OSError:
            self.abort()

    def _wake(self) -> None:
        if self._drained and not self._drained.done():
            self._drained.set_result(None)


class Sockets:
    """All that were handed off. `gone` is told of the reader whose other side has left, after its sink was closed."""

    def __init__(self, gone: Callable[[Reader], None]) -> None:
        self._gone = gone
        self._sinks: dict[int, SocketSink] = {}
        self._epoll: Any = None
        self._ring: Ring | None = None

    def __len__(self) -> int:
        return len(self._sinks)

    def open(self) -> None:
        """Hangs the epoll into the running loop; not where writing to a peer that has left would end the process."""
        if AVAILABLE and signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
            self._ring = Ring.open()
            _open.add(self)

    def close(self) -> None:
        """Closes every socket, in the middle of whatever it sends."""
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

    def send(self, descriptors: list[int], data: bytes) -> list[tuple[int, int]]:
        """Sends it to all. Gives those that have not taken all of it, with how much they have taken, or GONE."""
        if self._ring is None or len(descriptors) <= FEW:
            return send_each(descriptors, data)
        return self._ring.send(descriptors, data)

    def hand_off(self, transport: asyncio.Transport, *, chunked: bool) -> SocketSink | None:
        """The transport's connection, and the transport aborted; None where the connection must stay with it.

        That is: TLS, bytes that it still has to send, no descriptor left, and where there is no epoll.
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
            watch_over(fd, connection.family)
            self._epoll.register(fd, LISTEN)
        except OSError:
            os.close(fd)
            return None
        transport.abort()
        sink = self._sinks[fd] = SocketSink(self, fd, chunked=chunked)
        return sink

    def watch(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        del self._sinks[fd]
        self._epoll.unregister(fd)
        os.close(fd)

    def _ready(self) -> None:
        """What happened to the sockets. A number that is closed and given out again in here belongs to another sink."""
        for sink, events in [(self._sinks[fd], events) for fd, events in self._epoll.poll(0, EVENTS)]:
            owner = sink.owner
            if not sink.closed and not sink.happened(events) and owner is not None:
                self._gone(owner)

    def close_in_child(self) -> None:
        """A forked process shares our descriptors: it must not hold a reader's connection open."""
        _open.discard(self)
        for fd, sink in self._sinks.items():
            os.close(fd)
            sink.disown()
        self._sinks.clear()
        self._close_polling()


_open: weakref.WeakSet[Sockets] = weakref.WeakSet()


def _forked() -> None:
    for sockets in tuple(_open):
        sockets.close_in_child()


if AVAILABLE:
    os.register_at_fork(after_in_child=_forked)
