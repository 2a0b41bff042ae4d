"""Starts the workers of one port, replaces those that end, and restarts them one after the other.

The first worker starts alone: it creates the journal, and if the program is wrong, its error is shown once. A worker
that ends by itself is replaced, at once if it has worked for a while, else after a pause that doubles each time. During
a restart, the new worker accepts connections before the old one is asked to stop, and the next one follows when the old
one has ended. If a new worker does not start, the restart is given up, and the old ones go on.

Invariants: the supervisor imports nothing of the user's and serves nothing, so that it has no reason to fail. It keeps
the sockets open until it stops. It ends after all of its workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import typer

from statestream.server.binding import Share, close
from statestream.server.siblings import clear, shared_files
from statestream.tools.console.output import notice
from statestream.tools.console.systemd import notify
from statestream.tools.workers.served import Served
from statestream.tools.workers.worker_process import WorkerProcess

log = logging.getLogger("statestream")

STEADY_SECONDS: Final = 10.0
"""A worker that has worked for so long is replaced at once."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
ATTEMPTS: Final = 5
"""Failed starts in a row after which the supervisor gives up, if no worker is left."""


class Slot:
    """The place of one worker, by its number: who has it, and how often starting one has failed in a row."""

    def __init__(self, number: int) -> None:
        self.number, self.failures = number, 0
        self.worker: WorkerProcess | None = None
        self.since = 0.0
        self.changing = asyncio.Lock()

    def pause(self) -> float:
        """How long to wait before the next start."""
        return min(FIRST_PAUSE * 2 ** (self.failures - 1), LONGEST_PAUSE) if self.failures else 0.0


class Supervisor:
    """Serves on the shares, a worker for each of them. `announce` is called once all of them accept connections."""

    def __init__(self, served: Served, shares: Sequence[Share], announce: Callable[[], None]) -> None:
        self._served, self._shares, self._announce = served, shares, announce
        self._metrics = shared_files(len(shares))
        self._slots = [Slot(number) for number in range(1, len(shares) + 1)]
        self._processes: set[WorkerProcess] = set()
        """All that have been started and have not ended."""
        self._stop, self._restart = asyncio.Event(), asyncio.Event()
        self._code = self._failed_with = 0
        self._on_a_terminal = os.isatty(0)

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT, and returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._finish)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        try:
            if await self._begin():
                async with asyncio.TaskGroup() as tasks:
                    for slot in self._slots:
                        tasks.create_task(self._keep(slot))
                    tasks.create_task(self._restart_when_asked())
        finally:
            self._finish()
            await asyncio.gather(*(worker.stopped() for worker in self._processes))
        return self._code

    def _finish(self, code: int = 0) -> None:
        """Refuses new connections, and asks all workers to stop."""
        if not self._stop.is_set():
            self._code = code
            self._stop.set()
            self._restart.set()
            notify("STOPPING=1")
            close(list(self._shares))
        for worker in self._processes:
            worker.stop()

    def _hang_up(self) -> None:
        """SIGHUP asks for a restart. It also comes when the terminal of the supervisor is closed."""
        if self._on_a_terminal and not os.isatty(0):
            self._finish()
        else:
            self._restart.set()

    async def _begin(self) -> bool:
        """Starts the first worker, and then the others. False if one of them does not start."""
        first, *others = self._slots
        if not await self._fill(first) or not all(await asyncio.gather(*map(self._fill, others))):
            return False
        if not self._stop.is_set():
            self._announce()
            notify("READY=1")
        return True

    async def _fill(self, slot: Slot) -> bool:
        """Starts the first worker of a slot. If it ends at once, so does the supervisor, with its exit code."""
        slot.worker = await self._started(slot)
        if slot.worker is None:
            self._finish(self._failed_with)
        return slot.worker is not None

    async def _started(self, slot: Slot) -> WorkerProcess | None:
        """A new worker that accepts connections; None if it has ended before, or the supervisor stops."""
        if self._stop.is_set():
            return None
        try:
            worker = await WorkerProcess.start(self._served, slot.number, self._shares, self._metrics)
        except OSError as error:
            slot.failures, self._failed_with = slot.failures + 1, 1
            log.warning("worker %d cannot be started: %s", slot.number, error.strerror)
            return None
        self._processes.add(worker)
        if self._stop.is_set():
            worker.stop()
        if await worker.accepts():
            slot.failures, slot.since = 0, time.monotonic()
            return worker
        code = await self._ended(worker)
        slot.failures += 1
        if not self._stop.is_set():
            self._failed_with = max(code, 1)
            log.error("%s %s before it accepted connections", worker, _how(code))
        return None

    async def _ended(self, worker: WorkerProcess) -> int:
        code = await worker.ended()
        self._processes.discard(worker)
        return code

    async def _keep(self, slot: Slot) -> None:
        """Replaces the worker of a slot whenever it has ended, until the supervisor stops."""
        while not self._stop.is_set():
            worker = slot.worker
            if worker is not None:
                code = await self._ended(worker)
                if slot.worker is worker and not self._stop.is_set():
                    slot.worker = None
                    if self._metrics:
                        clear(self._metrics[slot.number - 1])
                    slot.failures = 0 if time.monotonic() - slot.since > STEADY_SECONDS else 1
                    log.warning("%s %s; another one takes its place", worker, _how(code))
                continue
            if not await self._pause(slot.pause()):
                async with slot.changing:
                    if slot.worker is None:
                        slot.worker = await self._started(slot)
                self._give_up_if_hopeless()

    async def _pause(self, seconds: float) -> bool:
        """Whether the supervisor has been asked to stop in the meantime."""
        try:
            async with asyncio.timeout(seconds):
                return await self._stop.wait()
        except TimeoutError:
            return False

    def _give_up_if_hopeless(self) -> None:
        if self._stop.is_set() or any(slot.worker is not None or slot.failures < ATTEMPTS for slot in self._slots):
            return
        notice(
            f"no worker can be started any more: each of them has ended {ATTEMPTS} times before it accepted "
            "connections; their messages say why"
        )
        self._finish(self._failed_with)

    async def _restart_when_asked(self) -> None:
        while True:
            await self._restart.wait()
            self._restart.clear()
            if self._stop.is_set():
                return
            notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
            if await self._restart_all():
                typer.echo(f"statestream has restarted its workers: {len(self._slots)}")
                sys.stdout.flush()
            notify("READY=1")

    async def _restart_all(self) -> bool:
        for slot in self._slots:
            async with slot.changing:
                new = await self._started(slot)
                old, slot.worker = slot.worker, new or slot.worker
            if new is None:
                if not self._stop.is_set():
                    log.error("the restart was given up; the other workers go on with what they have loaded")
                return False
            if old is not None:
                await old.stopped()
        return True


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
