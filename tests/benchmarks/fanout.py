"""Fan-out, a first figure: one server on core 0, this process with a thousand plain sockets on core 1.

Every change is a small patch to a slice of 2 kB, dispatched over HTTP by this process, which notes when the last
reader has read it. So the latencies contain this reader's own work, in Python, on a core that it has for itself:
they are an upper bound. The server's CPU time is the kernel's count and contains the dispatches. What other
processes did meanwhile stands in the table: where it is more than a few percent, believe no latency.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from statestream import Slice, Store
from tests.benchmarks.measure import TICKS, busy_seconds, median, percentile, short, table
from tests.support import Server

READERS: Final = 1_000
RATE: Final = 20
SECONDS: Final = 10
ROUNDS: Final = 5
PATIENCE: Final = 20.0

notice = Slice("notice", initial={"n": 0, "note": "", "filler": ["x" * 60] * 31})


@notice.action
def noted(state: Any, *, n: int) -> None:
    state["n"] = n
    state["note"] = f"note number {n}"


store = Store([notice])


class Reader:
    """A socket, what of a frame is not complete yet, and how many events of each kind it has got."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.sendall(b"GET /stream/state?slices=notice HTTP/1.1\r\nHost: x\r\n\r\n")
        self.begun = False
        self.updates = 0
        self.bytes = 0
        self._rest = b""

    def read(self) -> int:
        """Takes what has come; gives how many updates that completed."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("expected the stream to stay open")
        self.bytes += len(data)
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        self.begun = self.begun or any(b"event: state.initial" in frame for frame in frames)
        got = sum(b"event: state.update" in frame for frame in frames)
        self.updates += got
        return got


class Load:
    """All readers, one connection to dispatch on, and the times of every change."""

    def __init__(self, port: int, readers: int) -> None:
        self.selector = selectors.EpollSelector()
        self.readers = [Reader(port) for _ in range(readers)]
        for reader in self.readers:
            self.selector.register(reader.socket, selectors.EVENT_READ, reader)
        self.dispatcher = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.dispatcher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(self.dispatcher, selectors.EVENT_READ, None)
        self.sent: list[float] = []
        self.latencies: list[float] = []
        self._left: list[int] = []

    def dispatch(self) -> None:
        """The next change; `n` differs between loads of different sizes, so that every dispatch changes something."""
        number = len(self.readers) * 1_000_000 + len(self.sent)
        body = json.dumps({"type": "notice/noted", "payload": {"n": number}}).encode()
        head = b"POST /dispatch HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self.sent.append(time.perf_counter())
        self._left.append(len(self.readers))
        self.dispatcher.sendall(head % len(body) + body)

    def turn(self, timeout: float) -> None:
        """Reads from every socket that has something."""
        for key, _ in self.selector.select(timeout):
            if key.data is None:
                self._answer(self.dispatcher.recv(1 << 16))
            else:
                self._arrived(key.data, key.data.read())

    def _answer(self, data: bytes) -> None:
        if not data or (b"HTTP/1.1" in data and b"HTTP/1.1 200" not in data):
            raise RuntimeError(f"expected 200, got {data[:200]!r}")

    def _arrived(self, reader: Reader, got: int) -> None:
        for number in range(reader.updates - got, reader.updates):
            self._left[number] -= 1
            if not self._left[number]:
                self.latencies.append(time.perf_counter() - self.sent[number])

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.perf_counter() + PATIENCE
        while not done():
            if time.perf_counter() > deadline:
                raise TimeoutError("expected every reader to get every change")
            self.turn(0.05)

    def run(self) -> float:
        """Dispatches at the rate; gives the seconds until the last change was read by all."""
        start = time.perf_counter()
        for number in range(RATE * SECONDS):
            due = start + number / RATE
            while (left := due - time.perf_counter()) > 0:
                self.turn(left)
            self.dispatch()
        self.until(lambda: len(self.latencies) == len(self.sent))
        return time.perf_counter() - start

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


def cpu_seconds(pid: int) -> float:
    """What the process has used, in user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def warm_up(port: int) -> None:
    """One reader and one change, so that what is made once is not counted as a reader's."""
    load = Load(port, 1)
    load.dispatch()
    load.until(lambda: bool(load.latencies))
    load.close()


def one_round() -> dict[str, float]:
    target = f"{Path(__file__)}:store"
    with Server.serving(target, prefix=("taskset", "-c", "0")) as server:
        warm_up(server.port)
        empty = rss_kb(server.pid)
        load = Load(server.port, READERS)
        load.until(lambda: all(reader.begun for reader in load.readers))
        idle = rss_kb(server.pid)
        before = sum(reader.bytes for reader in load.readers)
        cpu, own, all_of_it = cpu_seconds(server.pid), time.process_time(), busy_seconds()
        wall = load.run()
        used, own = cpu_seconds(server.pid) - cpu, time.process_time() - own
        others = busy_seconds() - all_of_it - used - own
        events = len(load.sent) * READERS
        size = (sum(reader.bytes for reader in load.readers) - before) / events
        load.close()
    return {
        "delivered events a second": events / wall,
        "bytes an event": size,
        "p50 to the last reader, ms": percentile(load.latencies, 50) * 1e3,
        "p99 to the last reader, ms": percentile(load.latencies, 99) * 1e3,
        "server CPU, µs a delivered event": used / events * 1e6,
        "server CPU, % of its core": used / wall * 100,
        "load's CPU, % of its core": own / wall * 100,
        "other processes, % of a core": others / wall * 100,
        "RSS of an idle reader, kB": (idle - empty) / READERS,
    }


def pinned(core: int) -> set[int]:
    """Moves this process to the core; gives where it was."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    return before


def main() -> None:
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        print("needs Linux and two cores")
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * READERS + 1_000), most))
    before = pinned(1)
    try:
        rounds = [one_round() for _ in range(ROUNDS)]
    finally:
        os.sched_setaffinity(0, before)
    print(f"{READERS:,} readers, {RATE} changes a second for {SECONDS} s, a new server each round, {ROUNDS} rounds.\n")
    figures = {name: [each[name] for each in rounds] for name in rounds[0]}
    table(
        ["figure", "median", "least–most"],
        [[name, short(median(each)), f"{short(min(each))}–{short(max(each))}"] for name, each in figures.items()],
    )
