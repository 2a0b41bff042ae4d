"""Writers and readers that record what happens to them, on nodes that are killed, stopped and cut off meanwhile.

A writer sends one request after another. One whose outcome is unknown is sent again, to any node, or given up. A reader
follows a stream, and when that ends goes on with its cursor on any node. Both are tasks of one loop, on raw sockets:
what they cost must leave the machine to the servers.

Invariants: every request and every frame is recorded before anything else happens. Nobody waits longer than GIVE_UP for
an answer. Leaving `callers` ends all tasks and closes all sockets, whatever has failed.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import orjson

from tests.support.evidence import Answer, Evidence, History, Look, Request, mark
from tests.support.server import Server

GIVE_UP: Final = 10.0
"""Seconds after which a writer takes an answer for lost."""
REST: Final = 0.02
"""Between two tries: nothing tells a client when a node is back."""
TALLIES: Final = 20
COUNTED, ENDED, ADDED = "tally/counted", "tally/ended", "total/added"
REPEATED: Final = 0.02
"""The part of acknowledged requests that are sent again."""
LOOKED: Final = 0.05
"""The part of acknowledgements after which the state is asked for."""
IMPOSSIBLE: Final = 2**50
SELECTIONS: Final = ("*", "tally/*", "total,tally/3", "tally/1,tally/2,tally/7")
GONE: Final = (OSError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError)


class Wire:
    """A connection to one node, over which one request goes after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    def send(self, method: str, target: str, body: bytes = b"", headers: str = "", version: str = "1.1") -> None:
        """With version 1.0, the body of the answer ends with the connection."""
        head = f"{method} {target} HTTP/{version}\r\nHost: localhost\r\n{headers}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        fields = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in fields}

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        async with asyncio.timeout(GIVE_UP):
            status, headers = await self.head()
            return status, headers, orjson.loads(await self.reader.readexactly(int(headers["content-length"])))

    def close(self) -> None:
        self._writer.transport.abort()


class Callers:
    """The writers and readers of some nodes, and what they have recorded so far."""

    def __init__(self, nodes: Sequence[Server], seed: int) -> None:
        self.nodes, self.evidence = nodes, Evidence()
        self.following: dict[History, tuple[int, Wire]] = {}
        """Of each reader that has a stream open now, the node and the connection."""
        self.opened: Counter[History] = Counter()
        self.acknowledged: Counter[int] = Counter()
        self._chance = random.Random(seed)
        self._over = asyncio.Event()
        self._writers: list[asyncio.Task[None]] = []
        self._readers: list[asyncio.Task[None]] = []

    def start(self, writers: int, readers_of_each: int) -> None:
        for number in range(writers):
            chance = random.Random(self._chance.random())
            self._writers.append(asyncio.create_task(self._write(number, chance)))
        for node in range(len(self.nodes)):
            for number in range(readers_of_each):
                history = self.evidence.reader(SELECTIONS[(node + number) % len(SELECTIONS)])
                reading = self._read(history, node, random.Random(self._chance.random()))
                self._readers.append(asyncio.create_task(reading))

    async def end(self) -> None:
        for task in (*self._writers, *self._readers):
            task.cancel()
        await asyncio.gather(*self._writers, *self._readers, return_exceptions=True)

    # waiting

    async def until(self, done: Callable[[], bool], seconds: float = 90.0) -> None:
        """Polls until something holds that the records show. Raises the error of a task that has failed."""
        deadline = time.monotonic() + seconds
        while not done():
            for task in (*self._writers, *self._readers):
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.evidence.figures()}"
            await asyncio.sleep(0.005)

    async def more(self, requests: int, node: int | None = None) -> None:
        """Returns once so many more were acknowledged, all of them by one node if it is given."""
        count = self.acknowledged.total if node is None else lambda: self.acknowledged[node]
        enough = count() + requests
        await self.until(lambda: count() >= enough)

    async def refused(self, node: int) -> None:
        """Returns once a node has answered a few more requests with 503."""
        count = lambda: sum(1 for each, _ in self.evidence.unavailable if each == node)  # noqa: E731
        enough = count() + 5
        await self.until(lambda: count() >= enough)

    async def finish(self) -> None:
        """Ends the writers, and returns once every reader has everything."""
        self._over.set()
        await asyncio.gather(*self._writers)
        await self.current(await self.last())

    async def last(self) -> int:
        """The position after a request that changes everything, which is sent until it is acknowledged."""
        actions = (*((COUNTED, f"tally/{number}") for number in range(TALLIES)), (ADDED, "total"))
        request = Request(id=f"last-{len(self.evidence.requests)}", actions=actions, began=time.monotonic())
        self.evidence.requests[request.id] = request
        wires: dict[int, Wire] = {}
        try:
            await self._send(request, 0, wires, random.Random(0), patience=1.0)
        finally:
            close(wires)
        return max(self.evidence.newest.values())

    def streams_stayed_open(self) -> None:
        """Fails unless each reader has had one stream, which never began anew."""
        for history in self.evidence.histories:
            assert (self.opened[history], history.reasons) == (1, ["start"]), history.name

    async def current(self, seq: int) -> None:
        """Returns once every reader has a position."""
        await self.until(lambda: all(history.at >= seq for history in self.evidence.histories))

    # writers

    async def _write(self, number: int, chance: random.Random) -> None:
        wires: dict[int, Wire] = {}
        home, sent = number % len(self.nodes), 0
        try:
            while not self._over.is_set():
                request = _request(number, sent, chance)
                self.evidence.requests[request.id] = request
                await self._send(request, home, wires, chance)
                sent += 1
        finally:
            close(wires)

    async def _send(
        self, request: Request, node: int, wires: dict[int, Wire], chance: random.Random, patience: float = 0.9
    ) -> None:
        """Sends a request until its outcome is known, or nobody cares any more: to a node first, then to any."""
        known = False
        while True:
            try:
                wire = wires.get(node) or wires.setdefault(node, await Wire.to(self.nodes[node].port))
                known = await self._try(wire, node, request) or known
                if known and chance.random() < LOOKED:
                    await self._look(wire, node)
            except GONE:
                self.evidence.lost += node in wires
                close({node: wires.pop(node)} if node in wires else {})
            if request.refused or (known and chance.random() > REPEATED):
                return
            if not known:
                await asyncio.sleep(REST)
            node = chance.randrange(len(self.nodes))
            if (not known and chance.random() > patience) or (self._over.is_set() and patience < 1):
                return

    async def _try(self, wire: Wire, node: int, request: Request) -> bool:
        """Sends it once. Whether its outcome is known."""
        actions = [_action(*each, request.id) for each in request.actions]
        body: dict[str, Any] = {"actions": actions, "id": request.id}
        if request.impossible:
            body["expect"] = {request.actions[0][1]: IMPOSSIBLE}
        wire.send("POST", "/dispatch", orjson.dumps(body))
        status, headers, said = await wire.answer()
        if status == 503:
            self.evidence.unavailable.append((node, headers.get("retry-after")))
            return False
        if status != (409 if request.impossible else 200):
            self.evidence.failures.append(f"node {node} answered {request.id} with {status} {said['code']}")
            return False
        if request.impossible:
            request.refused = True
        else:
            self._acknowledge(request, node, said)
        return True

    def _acknowledge(self, request: Request, node: int, said: Any) -> None:
        evidence = self.evidence
        seq = evidence.sightings.position(said["position"])
        changes = tuple((each["slice"], each["version"]) for each in said["changes"])
        request.answers.append(
            Answer(at=time.monotonic(), position=said["position"], changes=changes, duplicate=said["duplicate"])
        )
        evidence.newest[node] = max(evidence.newest.get(node, 0), seq)
        self.acknowledged[node] += 1

    async def _look(self, wire: Wire, node: int) -> None:
        at_least = self.evidence.newest.get(node, 0)
        wire.send("GET", "/state?slices=*")
        status, _, state = await wire.answer()
        if status != 200:
            self.evidence.failures.append(f"node {node} answered GET /state with {status} {state['code']}")
            return
        for name, version in state["versions"].items():
            self.evidence.sightings.value(name, version, mark(state["slices"][name]))
        position = self.evidence.sightings.position(state["position"])
        self.evidence.looks.append(Look(node=node, at_least=at_least, position=position, versions=state["versions"]))

    # readers

    def cut(self) -> None:
        """Ends the connection of one of the readers."""
        if self.following:
            _, wire = self._chance.choice([*self.following.values()])
            wire.close()

    async def _read(self, history: History, node: int, chance: random.Random) -> None:
        while True:
            with suppress(*GONE):
                wire = await Wire.to(self.nodes[node].port)
                try:
                    await self._follow(wire, node, history)
                finally:
                    self.following.pop(history, None)
                    wire.close()
            await asyncio.sleep(REST)
            node = chance.randrange(len(self.nodes))

    async def _follow(self, wire: Wire, node: int, history: History) -> None:
        """Until the stream ends."""
        cursor = f"Last-Event-ID: {history.cursor}\r\n" if history.cursor else ""
        wire.send("GET", f"/stream/state?slices={history.selection}", headers=cursor, version="1.0")
        status, _ = await wire.head()
        assert status == 200, status
        self.opened[history] += 1
        while True:
            block = (await wire.reader.readuntil(b"\n\n"))[:-2]
            fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
            if b"id" not in fields:
                break
            history.frame(fields[b"event"].decode(), fields[b"id"].decode(), orjson.loads(fields[b"data"]))
            self.following[history] = node, wire


def close(wires: Mapping[int, Wire]) -> None:
    for wire in wires.values():
        wire.close()


def _request(writer: int, number: int, chance: random.Random) -> Request:
    """Mostly a count of the writer's own tally; some tallies are shared, and some requests are of several actions."""
    own = f"tally/{writer % TALLIES}"
    kind, other = chance.random(), f"tally/{chance.randrange(TALLIES)}"
    actions: tuple[tuple[str, str], ...] = ((COUNTED, own),)
    if kind < 0.05:
        actions = ((ADDED, "total"),)
    elif kind < 0.1:
        actions = ((COUNTED, own), (ADDED, "total"), (COUNTED, other))
    elif kind < 0.13:
        actions = ((ENDED, other),)
    elif kind < 0.25:
        actions = ((COUNTED, other),)
    impossible = chance.random() < 0.03
    return Request(id=f"w{writer}-{number}", actions=actions, began=time.monotonic(), impossible=impossible)


def _action(type: str, name: str, id: str) -> dict[str, Any]:
    _, keyed, key = name.partition("/")
    return {"type": type, "payload": {"id": id}, **({"key": key} if keyed else {})}


@asynccontextmanager
async def calling(nodes: Sequence[Server], *, writers: int, readers_of_each: int) -> AsyncIterator[Callers]:
    """Writers and readers on the nodes, until the end of the block."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    callers = Callers(nodes, seed)
    callers.start(writers, readers_of_each)
    try:
        yield callers
    finally:
        await callers.end()
