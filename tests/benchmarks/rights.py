"""What rights cost: joins and deliveries with roles and views against none, a rule that depends on the state, and the
time from a revocation to the last byte.

The CPU time is that of the server's process. Readers are sockets that are drained after each change.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.benchmarks.measure import TICKS, percentile, table
from tests.support import ROOT, Server

APP: Final = f"{ROOT / 'tests/apps/audience.py'}:app"
READERS: Final = 1_000
CHANGES: Final = 200
ROUNDS: Final = 3
FIRST: Final = 200
JOINS: Final = 3_000
JOIN_ROUNDS: Final = 9
"""A join is short, and differs much from round to round: so there are more of them, after the first have warmed it up.
"""
STATEFUL: Final = (100, 1_000, 10_000)
REVOCATIONS: Final = 20
QUERY: Final = "slices=news,people"


class Crowd:
    """Readers of one server, who read whatever comes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.sockets: list[socket.socket] = []
        self.selector = selectors.DefaultSelector()
        self.control = socket.create_connection(("127.0.0.1", server.port))

    def join(self, token: str | None, query: str = QUERY) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        head = f"Authorization: Bearer {token}\r\n" if token else ""
        connection.sendall(f"GET /stream/state?{query} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
        connection.setblocking(False)
        self.sockets.append(connection)
        self.selector.register(connection, selectors.EVENT_READ)
        return connection

    def drain(self, quiet: float = 0.05) -> None:
        """Reads until nothing has come for a moment."""
        while ready := self.selector.select(quiet):
            for key, _ in ready:
                connection: socket.socket = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                connection.recv(1 << 16)

    def post(self, path: str, body: object, token: str | None) -> float:
        """Returns the seconds until the answer."""
        data = json.dumps(body).encode()
        head = f"Authorization: Bearer {token}\r\n" if token else ""
        began = time.perf_counter()
        self.control.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{head}"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        answer = self.control.recv(1 << 16)
        assert b" 200 " in answer[:20] or b" 204 " in answer[:20], answer
        return time.perf_counter() - began

    def close(self) -> None:
        for connection in (*self.sockets, self.control):
            connection.close()


def cpu(server: Server) -> float:
    """The CPU seconds that the server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


SELECTIONS: Final = [
    f"slices=news,people{more}{cause}"
    for more in ("", ",team", ",room", ",team,room", ",room,team,news")
    for cause in ("", "&cause=full")
]
VARIANTS: Final[dict[str, tuple[str, Callable[[int], str | None], Callable[[int], str]]]] = {
    "no rights": ("open", lambda _: None, lambda _: QUERY),
    "no rights, 10 subscriptions": ("open", lambda _: None, lambda n: SELECTIONS[n % 10]),
    "1,000 identities with equal rights": ("guarded", lambda n: f"p{n}:plain:1", lambda _: QUERY),
    "10 roles, a view for each": ("guarded", lambda n: f"p{n}:r{n % 10}:1", lambda _: QUERY),
}
"""How the server is set up, who its readers are, and what they ask for."""


def joined(crowd: Crowd, variant: str, readers: int) -> float:
    """Lets readers join. Returns the CPU seconds that the server has used by then."""
    _, token, query = VARIANTS[variant]
    for number in range(readers):
        crowd.join(token(number), query(number))
        if number % 100 == 0:
            crowd.drain(0.01)
    crowd.drain(0.5)
    return cpu(crowd.server)


def joins(variant: str) -> float:
    """The server's CPU time for a join, in µs."""
    with Server("serve", APP, env={"AUDIENCE": VARIANTS[variant][0]}) as server:
        crowd = Crowd(server)
        before = joined(crowd, variant, FIRST)
        after = joined(crowd, variant, JOINS)
        crowd.close()
    return (after - before) / JOINS * 1e6


def deliveries(variant: str) -> float:
    """The server's CPU time for a delivery, in µs."""
    audience, token, _ = VARIANTS[variant]
    with Server("serve", APP, env={"AUDIENCE": audience}) as server:
        crowd = Crowd(server)
        before = joined(crowd, variant, READERS)
        for number in range(CHANGES):
            if number % 2:
                crowd.post("/dispatch", {"type": "news/counted", "payload": {"n": number}}, token(0))
            else:
                payload = {"who": f"p{number % 20}", "name": f"n{number}"}
                crowd.post("/dispatch", {"type": "people/renamed", "payload": payload}, token(0))
            crowd.drain(0.005)
        after = cpu(server)
        crowd.close()
    return (after - before) / (READERS * CHANGES) * 1e6


def a_rule_that_depends_on_the_state(readers: int) -> list[float]:
    """The seconds from a change on which the rights of all readers depend to its answer."""
    with Server("serve", APP, env={"AUDIENCE": "guarded"}) as server:
        crowd = Crowd(server)
        for number in range(readers):
            crowd.join(f"p{number}:plain:1", "slices=*")
            if number % 100 == 0:
                crowd.drain(0.01)
        crowd.drain(0.5)
        seconds = []
        for number in range(20):
            body = {"type": "team/joined", "payload": {"name": f"somebody{number}"}}
            seconds.append(crowd.post("/dispatch", body, "p0:plain:1"))
            crowd.drain(0.01)
        crowd.close()
    return seconds


def revocations() -> list[float]:
    """The seconds from a revocation in one process to the end of a stream of another."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        env = {"AUDIENCE": "guarded", "JOURNAL": f"sqlite:///{folder}/rights.db"}
        with Server("serve", APP, env=env) as one, Server("serve", APP, env=env) as other:
            here, there = Crowd(one), Crowd(other)
            for number in range(REVOCATIONS):
                stream = there.join(f"p{number}:plain:1")
                there.drain(0.2)
                stream.setblocking(True)
                began = time.perf_counter()
                here.post(f"/revoke/p{number}", {}, "boss:plain:1")
                while stream.recv(1 << 16):
                    pass
                seconds.append(time.perf_counter() - began)
                there.selector.unregister(stream)
            here.close()
            there.close()
    return seconds


def _rounds(measure: Callable[[str], float], rounds: int) -> dict[str, tuple[str, str]]:
    """The median of each variant in interleaved rounds, and that of its ratios to the first one."""
    found: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant in VARIANTS:
            found[variant].append(measure(variant))
    base = next(iter(found.values()))
    return {
        variant: (
            f"{statistics.median(each):.3g}",
            f"x{statistics.median(mine / theirs for mine, theirs in zip(each, base, strict=True)):.2f}",
        )
        for variant, each in found.items()
    }


def main() -> None:
    measured = {what: _rounds(what, rounds) for what, rounds in ((joins, JOIN_ROUNDS), (deliveries, ROUNDS))}
    rows = [[variant, *(figure for each in measured.values() for figure in each[variant])] for variant in VARIANTS]
    print(f"Joins: {JOINS:,}, medians of {JOIN_ROUNDS} interleaved rounds.", end=" ")
    print(f"Deliveries: {READERS:,} readers, {CHANGES} changes, medians of {ROUNDS} interleaved rounds.\n")
    table(["readers", "µs a join", "relative", "µs a delivery", "relative"], rows)
    print("\nA change on which the rights of every reader depend, and that changes none of them:\n")
    found = {readers: a_rule_that_depends_on_the_state(readers) for readers in STATEFUL}
    table(
        ["readers", "median until the answer, ms", "µs a reader"],
        [
            [
                f"{readers:,}",
                f"{statistics.median(seconds) * 1e3:.1f}",
                f"{statistics.median(seconds) / readers * 1e6:.2f}",
            ]
            for readers, seconds in found.items()
        ],
    )
    ended = revocations()
    print(
        f"\nFrom a revocation to the last byte in another process: median {statistics.median(ended) * 1e3:.0f} ms, ",
        end="",
    )
    print(f"p95 {percentile(sorted(ended), 95) * 1e3:.0f} ms.")


if __name__ == "__main__":
    main()
