"""One process of readers: `python -m statestream.tools.bench.worker`, controlled over its standard input.

A thread, a selector and non-blocking sockets. It opens its readers, a bounded number at a time, reports when all have
the state, and counts from `start` until `finish`, or until its input is closed.

Invariants: JSON lines in and out: an `Assignment` first, then messages with the member `what`. A failure is reported in
one line, never raised.
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

from statestream.core.errors import StatestreamError
from statestream.tools.bench.counters import DeliveryCounters, StreamCounters
from statestream.tools.bench.frame_summary import SummaryCache
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.limits import raise_file_limit
from statestream.tools.bench.messages import Assignment, Schedule
from statestream.tools.bench.reader import Reader

READ_BYTES: Final = 1 << 16
STATUS_SECONDS: Final = 0.2
TLS_SECONDS: Final = 10.0
JOIN_SECONDS: Final = 15.0
"""How long a reader may receive nothing before it has the state."""
IP_BIND_ADDRESS_NO_PORT: Final = 24
"""Linux then picks a port when both ends are known, so that each source address can have a port many times."""


class ReaderSocket:
    """A socket and its reader; `began_ns` is when it started to connect, `heard_ns` when something last happened."""

    __slots__ = ("asked", "began_ns", "heard_ns", "reader", "socket")

    def __init__(self, sock: socket.socket, reader: Reader) -> None:
        self.socket, self.reader = sock, reader
        self.asked = False
        self.began_ns = self.heard_ns = time.monotonic_ns()


class Worker:
    """`run` returns after `finish`, when its input is closed, or when a reader cannot join."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._tls = ssl.create_default_context() if assignment.tls else None
        self._selector = selectors.DefaultSelector()
        self._stream_counters = StreamCounters()
        self._cache = SummaryCache(assignment.run)
        self._counters = DeliveryCounters.empty(0)
        self._schedule: Schedule | None = None
        self._opened = self._joined = 0
        self._began_ns = time.monotonic_ns()
        self._join_times = Histogram()
        self._alive: set[ReaderSocket] = set()
        self._input = b""
        self._done = False
        self._status_at = 0.0
        self._cpu = 0.0
        self._wall = 0.0

    def run(self) -> None:
        assignment = self._assignment
        os.set_blocking(sys.stdin.fileno(), False)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        while not self._done:
            while self._opened < assignment.readers and len(self._alive) - self._joined < assignment.at_once:
                self._open()
            for key, _ in self._selector.select(STATUS_SECONDS):
                if key.data is None:
                    self._read_messages()
                elif key.data.asked:
                    self._read(key.data)
                else:
                    self._ask(key.data)
            if time.monotonic() >= self._status_at:
                self._lose_silent()
                self._report_status()

    def close(self) -> None:
        """Closes what is left open."""
        self._selector.close()
        for opened in self._alive:
            opened.socket.close()

    # joining

    def _open(self) -> None:
        assignment = self._assignment
        sock = socket.socket(assignment.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if assignment.sources:
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((assignment.sources[self._opened % len(assignment.sources)], 0))
        opened = ReaderSocket(sock, Reader(self._cache, self._stream_counters))
        self._opened += 1
        error = sock.connect_ex(tuple(assignment.address))
        if error not in (0, errno.EINPROGRESS):  # errors that come later are seen when the socket is writable
            raise OSError(error, os.strerror(error))
        self._alive.add(opened)
        self._selector.register(sock, selectors.EVENT_WRITE, opened)

    def _ask(self, opened: ReaderSocket) -> None:
        error = opened.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lost(opened, os.strerror(error))
            return
        self._selector.unregister(opened.socket)
        if self._tls:
            opened.socket.settimeout(TLS_SECONDS)
            opened.socket = self._tls.wrap_socket(opened.socket, server_hostname=self._assignment.tls)
            opened.socket.setblocking(False)
        opened.socket.send(self._assignment.request.encode())  # an empty send buffer accepts all of it
        opened.asked = True
        self._selector.register(opened.socket, selectors.EVENT_READ, opened)

    def _has_joined(self, opened: ReaderSocket) -> None:
        self._joined += 1
        self._join_times.add((time.monotonic_ns() - opened.began_ns) // 1_000)
        if self._joined == self._assignment.readers:
            self._send(
                "joined", latency=self._join_times.pairs(), began_ns=self._began_ns, ended_ns=time.monotonic_ns()
            )

    # reading

    def _read(self, opened: ReaderSocket) -> None:
        try:
            data = opened.socket.recv(READ_BYTES)
            while data:
                self._received(opened, data)
                # Bytes that TLS has decrypted already do not make the socket readable again.
                if not self._tls or not opened.socket.pending():  # type: ignore[attr-defined]
                    return
                data = opened.socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except (OSError, StatestreamError) as error:
            self._lost(opened, str(error))
            return
        self._lost(opened, "the connection was closed")

    def _received(self, opened: ReaderSocket, data: bytes) -> None:
        now, reader, joined = time.monotonic_ns(), opened.reader, opened.reader.joined
        opened.heard_ns = now
        numbers = reader.feed(data)
        self._counters.bytes += len(data)
        if numbers and self._schedule is not None:
            for number in numbers:
                self._counters.arrived(number, (now - self._schedule.due(number)) // 1_000)
            self._counters.ended_us = (now - self._schedule.first_ns) // 1_000
        if reader.joined and not joined:
            self._has_joined(opened)
        if reader.end is not None:
            self._lost(opened, f"the server ended the stream: {reader.end}")

    def _lose_silent(self) -> None:
        """Runs after everything readable has been read: a worker that stalled has not lost its readers."""
        now, silence = time.monotonic_ns(), self._assignment.silence
        for opened in list(self._alive):
            limit = silence if opened.reader.joined else JOIN_SECONDS
            if now > opened.heard_ns + limit * 1e9:
                self._lost(opened, f"nothing was received for {limit:g} s")

    def _lost(self, opened: ReaderSocket, why: str) -> None:
        if opened not in self._alive:
            return
        self._alive.discard(opened)
        self._selector.unregister(opened.socket)
        opened.socket.close()
        self._counters.lost[why] += 1
        self._counters.left[opened.reader.cursor] += 1
        if self._joined < self._assignment.readers:
            self.fail(why)
        elif not self._alive:
            self._report_status()

    def fail(self, why: str) -> None:
        self._send("failed", why=why, joined=self._joined)
        self._done = True

    # messages

    def _read_messages(self) -> None:
        data = os.read(sys.stdin.fileno(), READ_BYTES)
        if not data:
            self._done = True
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if message.pop("what") == "start":
                self._start(Schedule(**message))
            else:
                self._finish()

    def _start(self, schedule: Schedule) -> None:
        """Resets the counters: what came while the readers joined does not count."""
        self._schedule = schedule
        lost, left, self._counters = self._counters.lost, self._counters.left, DeliveryCounters.empty(schedule.changes)
        self._counters.lost, self._counters.left = lost, left
        fresh = StreamCounters()
        for name in fresh.__struct_fields__:  # in place, because every reader has this object
            setattr(self._stream_counters, name, getattr(fresh, name))
        self._counters.stream = self._stream_counters
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def _finish(self) -> None:
        self._counters.busy = (time.process_time() - self._cpu) / max(1e-9, time.monotonic() - self._wall)
        for opened in self._alive:
            self._counters.behind[opened.reader.cursor] += 1
        self._send("counters", **self._counters.message())
        self._done = True

    def _report_status(self) -> None:
        self._status_at = time.monotonic() + STATUS_SECONDS
        cursor = min((opened.reader.cursor for opened in self._alive), default=0)
        self._send(
            "status",
            joined=self._joined,
            alive=len(self._alive),
            delivered=self._counters.latency.count,
            bytes=self._counters.bytes,
            cursor=cursor,
            lost=dict(self._counters.lost),
        )

    def _send(self, what: str, **more: Any) -> None:
        data = memoryview(orjson.dumps({"what": what, **more}) + b"\n")
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent receives it, and ends this process
    raise_file_limit()
    assignment = Assignment(**orjson.loads(sys.stdin.buffer.readline()))
    worker = Worker(assignment)
    with contextlib.suppress(BrokenPipeError):  # the parent has ended, and needs no report
        try:
            worker.run()
        except (OSError, StatestreamError) as error:
            worker.fail(str(error))
        finally:
            worker.close()


if __name__ == "__main__":
    main()
