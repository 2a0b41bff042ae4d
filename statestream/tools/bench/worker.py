"""One process of readers: `python -m statestream.tools.bench.worker`, told what to do over its standard input.

A thread, a selector and non-blocking sockets. It opens its readers, a bounded number at a time, says when
all have the state, and from `start` on counts what comes, until `finish` or until nobody talks to it any more.

Invariants: JSON lines in and out, see `Assignment`, `Start` and the `_say`s. A failure is said, in one line, never
raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import socket
import ssl
import sys
import time
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.core.errors import StatestreamError
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.limits import raise_files
from statestream.tools.bench.reader import Counts, Frames, Reader
from statestream.tools.bench.tally import Tally

READ: Final = 1 << 16
NEWS_SECONDS: Final = 0.2
CONNECT_SECONDS: Final = 10.0
PORT_LATER: Final = 24  # IP_BIND_ADDRESS_NO_PORT: the port is chosen when both ends are known, so that each fits many


class Assignment(Struct, frozen=True, kw_only=True):
    """`at_once` connections are under way at a time; reader k comes from `sources[k % len]`, none: from anywhere."""

    family: int
    address: list[Any]
    tls: str | None
    request: str
    readers: int
    at_once: int
    sources: list[str]
    run: str


class Start(Struct, frozen=True, kw_only=True):
    """Change n is due at `first_ns + n * apart_ns` of the monotonic clock."""

    first_ns: int
    apart_ns: int
    changes: int


class Connection:
    """A socket and its reader; `since_ns` is when it set out."""

    __slots__ = ("asked", "reader", "since_ns", "socket")

    def __init__(self, sock: socket.socket, reader: Reader) -> None:
        self.socket, self.reader = sock, reader
        self.asked = False
        self.since_ns = time.monotonic_ns()


class Worker:
    """See the module. `run` returns when it is told to finish, when it is alone, or when a reader cannot join."""

    def __init__(self, assignment: Assignment) -> None:
        self._task = assignment
        self._tls = ssl.create_default_context() if assignment.tls else None
        self._selector = selectors.DefaultSelector()
        self._counts = Counts()
        self._frames = Frames(assignment.run)
        self._tally = Tally.empty(0)
        self._start: Start | None = None
        self._opened = self._joined = 0
        self._began_ns = time.monotonic_ns()
        self._joining = Histogram()
        self._alive: set[Connection] = set()
        self._asked_for = b""
        self._done = False
        self._news_at = 0.0
        self._cpu = 0.0
        self._wall = 0.0

    def run(self) -> None:
        os.set_blocking(sys.stdin.fileno(), False)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        while not self._done:
            while self._opened < self._task.readers and len(self._alive) - self._joined < self._task.at_once:
                self._open()
            for key, _ in self._selector.select(NEWS_SECONDS):
                if key.data is None:
                    self._told()
                elif key.data.asked:
                    self._read(key.data)
                else:
                    self._ask(key.data)
            if time.monotonic() >= self._news_at:
                self._news()

    # joining

    def _open(self) -> None:
        sock = socket.socket(self._task.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._task.sources:
            sock.setsockopt(socket.IPPROTO_IP, PORT_LATER, 1)
            sock.bind((self._task.sources[self._opened % len(self._task.sources)], 0))
        connection = Connection(sock, Reader(self._frames, self._counts))
        self._opened += 1
        trouble = sock.connect_ex(tuple(self._task.address))
        if trouble not in (0, errno.EINPROGRESS):  # else what came of it is seen when the socket is writable
            raise OSError(trouble, os.strerror(trouble))
        self._alive.add(connection)
        self._selector.register(sock, selectors.EVENT_WRITE, connection)

    def _ask(self, connection: Connection) -> None:
        trouble = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if trouble:
            self._lost(connection, os.strerror(trouble))
            return
        self._selector.unregister(connection.socket)
        if self._tls:
            connection.socket.settimeout(CONNECT_SECONDS)
            connection.socket = self._tls.wrap_socket(connection.socket, server_hostname=self._task.tls)
            connection.socket.setblocking(False)
        connection.socket.send(self._task.request.encode())  # an empty buffer takes it whole
        connection.asked = True
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _has_joined(self, connection: Connection) -> None:
        self._joined += 1
        self._joining.add((time.monotonic_ns() - connection.since_ns) // 1_000)
        if self._joined == self._task.readers:
            self._say("joined", latency=self._joining.pairs(), began_ns=self._began_ns, ended_ns=time.monotonic_ns())

    # reading

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.socket.recv(READ)
            while data:
                self._came(connection, data)
                if not self._tls or not connection.socket.pending():  # type: ignore[attr-defined]
                    return
                data = connection.socket.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except (OSError, StatestreamError) as error:
            self._lost(connection, str(error))
            return
        self._lost(connection, "the connection was closed")

    def _came(self, connection: Connection, data: bytes) -> None:
        now, reader, joined = time.monotonic_ns(), connection.reader, connection.reader.joined
        numbers = reader.feed(data)
        self._tally.bytes += len(data)
        if numbers and self._start is not None:
            for number in numbers:
                due = self._start.first_ns + number * self._start.apart_ns
                self._tally.arrived(number, (now - due) // 1_000)
            self._tally.ended_us = (now - self._start.first_ns) // 1_000
        if reader.joined and not joined:
            self._has_joined(connection)
        if reader.end is not None:
            self._lost(connection, f"the server ended the stream: {reader.end}")

    def _lost(self, connection: Connection, why: str) -> None:
        if connection not in self._alive:
            return
        self._alive.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        self._tally.lost[why] += 1
        self._tally.left[connection.reader.cursor] += 1
        if self._joined < self._task.readers:
            self.fail(why)
        elif not self._alive:
            self._news()

    def fail(self, why: str) -> None:
        self._say("failed", why=why, joined=self._joined)
        self._done = True

    # talking

    def _told(self) -> None:
        data = os.read(sys.stdin.fileno(), READ)
        if not data:
            self._done = True
        *lines, self._asked_for = (self._asked_for + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if message.pop("what") == "start":
                self._begin(Start(**message))
            else:
                self._finish()

    def _begin(self, start: Start) -> None:
        """From here on is what counts."""
        self._start = start
        lost, left, self._tally = self._tally.lost, self._tally.left, Tally.empty(start.changes)
        self._tally.lost, self._tally.left = lost, left
        fresh = Counts()
        for name in fresh.__struct_fields__:
            setattr(self._counts, name, getattr(fresh, name))
        self._tally.counts = self._counts
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def _finish(self) -> None:
        self._tally.busy = (time.process_time() - self._cpu) / max(1e-9, time.monotonic() - self._wall)
        for connection in self._alive:
            self._tally.behind[connection.reader.cursor] += 1
        self._say("tally", **self._tally.message())
        self._done = True

    def _news(self) -> None:
        self._news_at = time.monotonic() + NEWS_SECONDS
        cursor = min((connection.reader.cursor for connection in self._alive), default=0)
        self._say(
            "news",
            joined=self._joined,
            alive=len(self._alive),
            delivered=self._tally.latency.count,
            bytes=self._tally.bytes,
            cursor=cursor,
            lost=dict(self._tally.lost),
        )

    def _say(self, what: str, **more: Any) -> None:
        data = memoryview(orjson.dumps({"what": what, **more}) + b"\n")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    raise_files()
    assignment = Assignment(**orjson.loads(sys.stdin.buffer.readline()))
    worker = Worker(assignment)
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more: an end like any other
        try:
            worker.run()
        except (OSError, StatestreamError) as error:
            worker.fail(str(error))


if __name__ == "__main__":
    main()
