"""A thousand writers of one slice over three nodes: how many actions per second, and how long the slowest one waits.

Each writer is a connection of its own, which sends the next action when the last one is acknowledged. All of them write
to the same slice, so the nodes contend for it: whoever loses reads what the others have written and runs again. At the
end, the count of the slice must be the number of acknowledged actions. The writers share one process, which shares the
machine with the nodes and the database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson

from tests.benchmarks.measure import percentile, run, short, table
from tests.support.callers import Wire
from tests.support.cluster import cluster
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer

WRITERS: Final = 1_000
SECONDS: Final = 8.0


class Load:
    """What the writers have seen: how long each acknowledgement took, and how many each of them got."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.counts: list[int] = []
        self.refused = 0


@contextmanager
def postgresql() -> Iterator[str]:
    with PostgreSQL(fsync="on", full_page_writes="on", shared_buffers="128MB") as server:
        yield server.url()


@contextmanager
def redis() -> Iterator[str]:
    with RedisServer(*DURABLE) as server:
        yield server.url


@contextmanager
def sqlite() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'journal.db'}"


JOURNALS: Final[dict[str, Callable[[], Any]]] = {"postgresql": postgresql, "redis": redis, "sqlite": sqlite}


class Writer:
    """One connection. Its actions have ids of their own."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire, self._number, self.acknowledged = wire, number, 0

    async def write(self) -> bool:
        """Whether the action was acknowledged."""
        id = f"w{self._number}-{self.acknowledged}"
        body = orjson.dumps({"type": "total/added", "payload": {"id": id}, "id": id})
        self._wire.send("POST", "/dispatch", body)
        status, headers = await self._wire.head()
        await self._wire.reader.readexactly(int(headers["content-length"]))
        self.acknowledged += status == 200
        return status == 200

    async def write_until(self, until: float, load: Load) -> None:
        before = self.acknowledged
        while (began := time.perf_counter()) < until:
            if await self.write():
                load.took.append(time.perf_counter() - began)
            else:
                load.refused += 1
        load.counts.append(self.acknowledged - before)
        self._wire.close()


async def measured(journal: str) -> Load:
    load = Load()
    with cluster(journal) as nodes:
        writers = [Writer(await Wire.to(nodes[each % len(nodes)].port), each) for each in range(WRITERS)]
        await asyncio.gather(*(writer.write() for writer in writers))  # all of them are connected
        until = time.perf_counter() + SECONDS
        await asyncio.gather(*(writer.write_until(until, load) for writer in writers))
        wire = await Wire.to(nodes[0].port)
        wire.send("GET", "/state?slices=total")
        _, _, state = await wire.answer()
        wire.close()
    count, acknowledged = state["slices"]["total"]["count"], sum(writer.acknowledged for writer in writers)
    assert count == acknowledged, f"{acknowledged} were acknowledged, the count is {count}"
    return load


def main() -> None:
    rows = []
    for name, started in JOURNALS.items():
        with started() as url:
            load = run(measured(url))
        waits = [1000 * percentile(load.took, each) for each in (50, 99)]
        slowest = 1000 * max(load.took)
        rows.append([
            name, short(len(load.took) / SECONDS), *map(short, waits), short(slowest),
            f"{min(load.counts)}–{max(load.counts)}", str(load.refused),
        ])  # fmt: skip
    print(f"{WRITERS:,} writers of one slice on 3 nodes, for {SECONDS:g} s.\n")
    table(["journal", "actions per second", "p50, ms", "p99, ms", "slowest, ms", "of each writer", "refused"], rows)
