"""A command that runs, for tests that read what it says meanwhile.

Invariants: it has the members of `asyncio.subprocess.Process` that tests use, with the same meaning. A command that
nobody has any more is killed.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, Self

from tests.support.nursery import Grown, plant

LONGEST_LINE: Final = 1 << 24


class Running:
    """`await Running.started("watch", url)`, with pipes as its stdout and stderr. It reads nothing."""

    def __init__(self, grown: Grown, stdout: Piped, stderr: Piped) -> None:
        self._grown, self._stdout = grown, stdout
        self.pid, self.send_signal, self.terminate, self.kill = (
            grown.pid,
            grown.send_signal,
            grown.terminate,
            grown.kill,
        )
        self.stdout, self.stderr = stdout.reader, stderr.reader

    @classmethod
    async def started(cls, *arguments: str, **environment: str) -> Self:
        stdout, stderr = await Piped.opened(), await Piped.opened()
        with Path(os.devnull).open() as nothing:
            connection = plant(arguments, os.environ | environment, (nothing.fileno(), stdout.writing, stderr.writing))
        for each in (stdout, stderr):
            os.close(each.writing)
        return cls(Grown(connection), stdout, stderr)

    @property
    def returncode(self) -> int | None:
        return self._grown.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """The rest of what it writes, when it has ended."""
        out, err = await asyncio.gather(self.stdout.read(), self.stderr.read())
        await self._grown.ended()
        return out, err

    def close_stdout(self) -> None:
        """Nobody reads it from now on."""
        self._stdout.close()


class Piped:
    """A pipe. Its other end is for a process."""

    def __init__(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport, writing: int) -> None:
        self.reader, self.writing, self._transport = reader, writing, transport

    @classmethod
    async def opened(cls) -> Self:
        reading, writing = os.pipe()
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = os.fdopen(reading, "rb", buffering=0)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        return cls(reader, transport, writing)

    def close(self) -> None:
        self._transport.close()
