"""What a reader costs under an ASGI server, and under our own: memory while it is idle, processor time per delivery.

A server in a process of its own, with readers on plain sockets. Each change is a small update for all of them. The
processor time is that of the whole server process. The rounds of the servers are interleaved.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import aiohttp

from tests.benchmarks.measure import interleaved, median, ratio, run, short, table
from tests.support import MODES, Server, dispatch

READERS: Final = 500
CHANGES: Final = 40
ROUNDS: Final = 3
TICKS: Final = os.sysconf("SC_CLK_TCK")
SERVERS: Final = {
    "statestream, handed off": ("statestream", MODES[0]),
    "statestream, on transports": ("statestream", MODES[1]),
    "uvicorn": ("uvicorn", MODES[1]),
    "hypercorn": ("hypercorn", MODES[1]),
}


def cpu_seconds(pid: int) -> float:
    """What a process has used (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Reader:
    """A reader that counts the updates that it has received."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(b"GET /stream/state?slices=counter HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await self._reader.readuntil(b"state.initial")

    async def read(self, updates: int) -> None:
        for _ in range(updates):
            await self._reader.readuntil(b"event: state.update")

    def close(self) -> None:
        self._writer.close()


def server_of(name: str) -> Server:
    server = Server.serving()
    server.front, server.mode = SERVERS[name]
    return server


async def measured(name: str, kilobytes: dict[str, list[float]]) -> float:
    """Microseconds of processor time per delivery; kilobytes per idle reader are added to the others."""
    with server_of(name) as server:
        async with aiohttp.ClientSession() as http:
            warm = [Reader(server.port) for _ in range(20)]
            await asyncio.gather(*(reader.open() for reader in warm))
            await dispatch(http, server.url, "board/counted")
            before = server.resident()
            readers = [Reader(server.port) for _ in range(READERS)]
            for at in range(0, READERS, 50):
                await asyncio.gather(*(reader.open() for reader in readers[at : at + 50]))
            kilobytes.setdefault(name, []).append((server.resident() - before) / READERS / 1024)
            reading = [asyncio.create_task(reader.read(CHANGES)) for reader in readers]
            used = cpu_seconds(server.pid)
            for _ in range(CHANGES):
                await dispatch(http, server.url, "board/counted")
            await asyncio.gather(*reading)
            used = cpu_seconds(server.pid) - used
        for reader in warm + readers:
            reader.close()
    return used / (CHANGES * (READERS + len(warm))) * 1e6


def main() -> None:
    kilobytes: dict[str, list[float]] = {}
    rounds = interleaved({name: lambda n=name: run(measured(n, kilobytes)) for name in SERVERS}, ROUNDS)
    first = rounds[next(iter(SERVERS))]
    print(f"{READERS} readers, medians of {ROUNDS} interleaved rounds.\n")
    rows = [
        [name, short(median(kilobytes[name])), short(median(found)), f"x{short(ratio(found, first))}"]
        for name, found in rounds.items()
    ]
    table(["server", "kB per idle reader", "CPU µs per delivery", "relative to the first"], rows)
