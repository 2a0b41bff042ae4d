"""The metrics of all processes that serve one port, so that a scrape of any of them shows all of them.

Each worker writes its metrics every few seconds into memory that all of them share, a file without a name for each
worker. Whoever answers a scrape adds what it finds there to its own. So a worker that is blocked shows its last figures
and holds up nobody.

Invariants: a text that is being written while it is read is recognized by its CRC, and read again. The label `worker`
keeps the series of the processes apart. Who answers a scrape also shares what it answers: if another worker answered
the next scrape with older figures, Prometheus would take the decrease of a counter for a restart.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec
from aiohttp import web

SHARE_SECONDS: Final = 5.0
ATTEMPTS: Final = 3
_HEADER: Final = Layout(">QI")
_START: Final = "# HELP "

Expositions = Callable[[], Awaitable[list[str]]]
"""The metrics of this process, a text for each store that it serves."""


class Siblings:
    """The processes of one port, of which this one has a `number`. `files` are descriptors, one for each number."""

    def __init__(self, number: int, files: Sequence[int]) -> None:
        self.number = number
        self._own = files[number - 1]
        self._others = [file for at, file in enumerate(files, 1) if at != number]

    def share_while_running(self, application: web.Application, expositions: Expositions) -> None:
        """From when everything in the application has started until it begins to stop."""
        tasks: list[asyncio.Task[None]] = []

        async def begin(_: web.Application) -> None:
            tasks.append(asyncio.create_task(self._share(expositions)))

        async def end(_: web.Application) -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        application.on_startup.append(begin)
        application.on_shutdown.append(end)

    async def _share(self, expositions: Expositions) -> None:
        while True:
            self.publish(await expositions())
            await asyncio.sleep(SHARE_SECONDS)

    def publish(self, texts: Sequence[str]) -> None:
        """Lets the others show the metrics of this process, a text for each store."""
        body = msgspec.json.encode(texts)
        os.pwrite(self._own, _HEADER.pack(len(body), crc32(body)) + body, 0)

    def with_others(self, own: str, store: int) -> str:
        """The metrics of a store in this process, and those of the same store in the others."""
        found = (_read(file) for file in self._others)
        return merged([own, *(texts[store] for texts in found if store < len(texts))])


def shared_files(count: int) -> list[int]:
    """A file in memory for each of so many processes; none on systems without such files."""
    if not hasattr(os, "memfd_create"):
        return []
    return [os.memfd_create(f"statestream-metrics-{number}") for number in range(1, count + 1)]


def clear(file: int) -> None:
    """Forgets the metrics of a process that has ended."""
    os.ftruncate(file, 0)


def _read(file: int) -> list[str]:
    """The texts in a file. None, if the process has ended or begins only now."""
    for _ in range(ATTEMPTS):
        header = os.pread(file, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            return []
        size, crc = _HEADER.unpack(header)
        body = os.pread(file, size, _HEADER.size)
        if crc32(body) == crc:
            return msgspec.json.decode(body, type=list[str])
    return []  # it is written again and again, or by a process that has just been killed


def merged(texts: Iterable[str]) -> str:
    """One text in the format of Prometheus: the samples of each metric stand together, below its help and type."""
    families: dict[str, list[str]] = {}
    for text in texts:
        for family in text.split(_START)[1:]:
            name, kind, samples = (*family.split("\n", 2), "")[:3]
            families.setdefault(f"{_START}{name}\n{kind}\n", []).append(samples)
    return "".join(head + "".join(samples) for head, samples in families.items())
