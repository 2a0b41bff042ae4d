"""Hundreds of readers that only follow how far they are, and go to another node when they lose theirs.

Invariants: a reader reconnects at once, with its cursor: what is measured is the server, not how long a client waits.
Leaving the block closes all connections.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Final, Self

from tests.support.server import Server

AGAIN: Final = 0.05
"""Seconds between two tries to connect to nodes that may be away."""


class Reader(asyncio.Protocol):
    """One reader. `at` is the number of the last change that it was shown."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self.at, self.cursor, self._rest = -1, "", b""
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self._rest = transport, b""
        cursor = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        transport.write(f"GET /stream/state?slices=total HTTP/1.0\r\nHost: localhost\r\n{cursor}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Takes the id of the last frame that is complete."""
        whole, end, rest = (self._rest + data).rpartition(b"\n\n")
        self._rest = rest
        _, found, after = whole.rpartition(b"\nid: ")
        if end and found:
            self.cursor = after.partition(b"\n")[0].decode()
            self.at = int(self.cursor.partition(".")[0])
            self._crowd.moved.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self._crowd.lost(self)


class Crowd:
    """`async with Crowd(nodes, each=300) as crowd:` has so many readers on each node when it begins."""

    def __init__(self, nodes: Sequence[Server], each: int) -> None:
        self._nodes, self._each = nodes, each
        self.moved = asyncio.Event()
        self.readers: list[Reader] = []
        self.reconnects = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False

    async def __aenter__(self) -> Self:
        for node in self._nodes:
            for _ in range(self._each):
                self.readers.append(Reader(self))
                await self._connect(self.readers[-1], node)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self.readers:
            if reader.transport is not None:
                reader.transport.abort()  # type: ignore[attr-defined]
        await asyncio.sleep(0)  # the transports close in the loop

    def lost(self, reader: Reader) -> None:
        if not self._over:
            self.reconnects += 1
            task = asyncio.create_task(self._connect(reader, random.choice(self._nodes)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, reader: Reader, node: Server) -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_connection(lambda: reader, "127.0.0.1", node.port)
            except OSError:
                await asyncio.sleep(AGAIN)
                node = random.choice(self._nodes)
            else:
                return

    async def current(self, seq: int, seconds: float = 120.0) -> float:
        """Returns once all readers have a position: how long that took."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while any(reader.at < seq for reader in self.readers):
                self.moved.clear()
                await self.moved.wait()
        return time.monotonic() - began
