"""How long a new node takes until it serves, and what it holds, on journals with much in them.

The `million` journals have a million changes of 10,000 instances, none of them trimmed, with a checkpoint after each
thousand changes. The `instances` journals have 100,000 instances of 2 kB. The server is `statestream serve` in a new
process, so its start includes Python's; `nothing` is the same server on an empty memory journal.

The seconds count from the start of the process: until it says that it is ready, then until the first `/state` of an
instance is answered and until the first frame of a stream of another one has arrived. The memory is what the process
holds then, and with 300 streams of different instances.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Final

import aiohttp
from msgspec import Struct

from statestream.journal import from_url
from tests.benchmarks.measure import median, run, short, table
from tests.support import ROOT, Server
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import DURABLE, RedisServer
from tests.support.shelves import filled

ROUNDS: Final = 3
OPEN: Final = 300
KINDS: Final = {"million": (10_000, 100, 100), "instances": (100_000, 2_000, 1)}
"""How many instances, of how many bytes, each written how many times."""
APP: Final = f"{ROOT / 'tests/apps/shelves.py'}:store"
FRESH: Final = ("env",)
"""Starts the server in a new process, and not in a fork of one that has imported it already."""


class Started(Struct, frozen=True, kw_only=True):
    """What one start has taken: seconds and MiB."""

    ready: float
    state: float
    frame: float
    memory: float
    with_open: float


async def started(url: str | None, count: int) -> Started:
    began = time.perf_counter()
    with Server.serving(APP, url, prefix=FRESH) as server:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as http, AsyncExitStack() as streams:
            async with http.get(f"{server.url}/health/ready") as response:
                assert response.status == 200, await response.text()
            ready = time.perf_counter() - began
            async with http.get(f"{server.url}/state", params={"slices": named(1, count)}) as response:
                assert response.status == 200, await response.text()
                await response.read()
            state = time.perf_counter() - began

            async def opened(number: int) -> None:
                query = {"slices": named(number, count)}
                stream = await streams.enter_async_context(http.get(f"{server.url}/stream/state", params=query))
                assert b"state.initial" in await stream.content.readuntil(b"\n\n")

            await opened(2)
            frame = time.perf_counter() - began
            memory = server.resident()
            await asyncio.gather(*(opened(number) for number in range(3, OPEN + 2)))
            with_open = server.resident()
    return Started(ready=ready, state=state, frame=frame, memory=memory / 2**20, with_open=with_open / 2**20)


def named(number: int, count: int) -> str:
    """One of the instances; without any, the plain slice."""
    return f"shelf/{number * 97 % count}" if count else "catalogue"


@contextmanager
def journals() -> Iterator[dict[str, Callable[[str], str]]]:
    """By engine, what makes the URL of a new journal of a name. The servers flush to the disk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(PostgreSQL(fsync="on", full_page_writes="on", shared_buffers="128MB"))
        redis = stack.enter_context(RedisServer(*DURABLE))
        yield {
            "sqlite": lambda name: f"sqlite:///{folder / name}.db",
            "postgresql": lambda name: database.url(name),
            "redis": lambda name: f"{redis.url}?namespace={name}",
        }


def main() -> None:
    figures: dict[str, list[Started]] = {"nothing": [run(started(None, 0)) for _ in range(ROUNDS)]}
    with journals() as engines:
        for (kind, (count, size, times)), engine in itertools.product(KINDS.items(), engines):
            url = engines[engine](kind)
            run(filled(from_url(url), count, size, times=times))
            figures[f"{kind}, {engine}"] = [run(started(url, count)) for _ in range(ROUNDS)]
    print(f"Medians of {ROUNDS} starts.\n")
    table(
        ["journal", "ready, s", "first /state, s", "first frame, s", "memory, MiB", f"with {OPEN} open, MiB"],
        [[name, *medians(each)] for name, each in figures.items()],
    )


def medians(starts: list[Started]) -> list[str]:
    return [short(median([getattr(each, field) for each in starts])) for field in Started.__struct_fields__]
