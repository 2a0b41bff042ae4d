"""One process that serves, as its supervisor sees it.

A worker is a new Python process, not a fork: it imports everything again, the user's program as well as statestream. A
socket connects the two. The supervisor sends what to serve. The worker sends one line once it accepts connections, and
stops when the other end is closed, so that no worker outlives a supervisor that was killed.

Invariants: the supervisor keeps the listening sockets. A worker has copies, so nothing is lost when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Final, Self

import msgspec
from msgspec import Struct

from statestream.server.binding import Share
from statestream.tools.workers.served import Served

log = logging.getLogger("statestream")

PROGRAM: Final = "statestream.tools.workers.worker"
READY: Final = b"ready\n"
STOP_SECONDS: Final = 30.0
"""How long a worker may take to stop. One that is blocked would never end."""


class Order(Struct, frozen=True, kw_only=True):
    """What a worker is sent. `workers` is how many there are.

    `own` and `others` are descriptors that it listens on, `metrics` those through which workers share their metrics.
    """

    served: Served
    number: int
    workers: int
    own: list[int]
    others: list[int]
    metrics: list[int]


class WorkerProcess:
    """Made by `start`. It has a number, and a process id."""

    def __init__(
        self, number: int, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number, self.pid = number, process.pid
        self._process, self._reader, self._writer = process, reader, writer

    @classmethod
    async def start(cls, served: Served, number: int, shares: Sequence[Share], metrics: Sequence[int]) -> Self:
        """Starts worker `number`, which listens on its own share and helps with the others. Raises OSError."""
        own = [each.fileno() for each in shares[number - 1]]
        others = [each.fileno() for share in shares for each in share if share is not shares[number - 1]]
        order = Order(served=served, number=number, workers=len(shares), own=own, others=others, metrics=list(metrics))
        ours, theirs = socket.socketpair()
        try:
            process = await _run(served.target, theirs.fileno(), (*own, *others, *metrics))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(msgspec.json.encode(order) + b"\n")
        return cls(number, process, reader, writer)

    async def accepts(self) -> bool:
        """Returns once the worker accepts connections: True. False if it ended before."""
        try:
            return await self._reader.readline() == READY
        except ConnectionError:
            return False

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    def stop(self) -> None:
        """Asks it to stop: it accepts no more connections, answers those it has, and ends."""
        if self.alive:
            self._process.terminate()

    async def ended(self) -> int:
        """Its exit code, once it has ended; negative if a signal has ended it."""
        code = await self._process.wait()
        self._writer.close()
        return code

    async def stopped(self) -> None:
        """Asks it to stop, and returns once it has. A worker that does not end is killed."""
        self.stop()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.ended()
        except TimeoutError:
            log.warning("%s did not stop within %d s and is killed", self, STOP_SECONDS)
            self._process.kill()
            await self.ended()

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.pid})"


async def _run(target: str, channel: int, inherited: Sequence[int]) -> Process:
    """Starts the program. Ctrl-C in a terminal is for the supervisor alone, so it has a process group of its own."""
    return await asyncio.create_subprocess_exec(
        *_python(),
        "-m",
        PROGRAM,
        str(channel),
        target,
        stdin=subprocess.DEVNULL,
        process_group=0,
        pass_fds=(channel, *inherited),
    )


def _python() -> list[str]:
    """The interpreter, with the options that this process was started with, such as -W and -X."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001  # as multiprocessing does
    return [sys.executable, *options]
