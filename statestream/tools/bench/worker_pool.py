"""The worker processes, seen from the process that runs the measurement.

Invariants: each process is started and ended here, whatever happens; one task reads its lines. A worker that fails, or
the loss of the last reader, ends the measurement with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Self

import orjson
from msgspec.structs import asdict

from statestream.core.errors import Unavailable
from statestream.tools.bench.counters import DeliveryCounters
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.messages import Assignment, Schedule

MAX_LINE: Final = 1 << 28
END_SECONDS: Final = 5.0


class WorkerProcess:
    """One worker: its process, its last status, and its results."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.status: dict[str, Any] = {"joined": 0, "alive": 0, "delivered": 0, "bytes": 0, "cursor": 0, "lost": {}}
        self.joined: dict[str, Any] | None = None
        self.counters: DeliveryCounters | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "statestream.tools.bench.worker")
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=MAX_LINE)
        self.send(asdict(self.assignment))

    def send(self, message: dict[str, Any]) -> None:
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(orjson.dumps(message) + b"\n")

    async def messages(self) -> AsyncIterator[Any]:
        assert self.process
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            yield orjson.loads(line)

    async def end(self) -> None:
        """It ends by itself when its input is closed; if it does not, it is killed."""
        if self.process is None:
            return
        assert self.process.stdin
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), END_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()


class WorkerPool:
    """All workers. `follow` must run meanwhile; it raises what ends the measurement."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        self._workers = [WorkerProcess(each) for each in assignments]
        self._news = asyncio.Event()
        self._started = False

    async def __aenter__(self) -> Self:
        try:
            for worker in self._workers:
                await worker.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(worker.end() for worker in self._workers))

    async def follow(self) -> None:
        """Reads what the workers report until each has reported its counters. Raises Unavailable."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._follow(worker))

    async def _follow(self, worker: WorkerProcess) -> None:
        async for message in worker.messages():
            match message.pop("what"):
                case "status":
                    worker.status = message
                    self._check_alive()
                case "joined":
                    worker.joined = message
                case "failed":
                    raise Unavailable(f"a reader could not join: {message['why']} ({self.joined:,} had joined before)")
                case "counters":
                    worker.counters = DeliveryCounters.of(message)
            self._news.set()
            if worker.counters is not None:
                return
        raise Unavailable("a worker process of this measurement has ended too early; its own output says why")

    def _check_alive(self) -> None:
        if self._started and not self.alive:
            lost: Counter[str] = Counter()
            for worker in self._workers:
                lost.update(worker.status["lost"])
            why = lost.most_common(1)[0][0]
            raise Unavailable(f"the server is gone: all {lost.total():,} readers lost their stream: {why}")

    def _sum(self, name: str) -> int:
        return sum(worker.status[name] for worker in self._workers)

    @property
    def joined(self) -> int:
        return self._sum("joined")

    @property
    def alive(self) -> int:
        return self._sum("alive")

    @property
    def delivered(self) -> int:
        return self._sum("delivered")

    @property
    def bytes(self) -> int:
        return self._sum("bytes")

    @property
    def cursor(self) -> int:
        """The seq up to which every remaining reader has received everything."""
        return min((worker.status["cursor"] for worker in self._workers if worker.status["alive"]), default=0)

    async def wait_for_news(self, seconds: float) -> None:
        """Returns when a worker has reported something, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        self._news.clear()

    def join_times(self) -> tuple[Histogram, float] | None:
        """How long each reader took to join, and the seconds until all had joined; None until then."""
        done = [worker.joined for worker in self._workers if worker.joined is not None]
        if len(done) < len(self._workers):
            return None
        latency = Histogram()
        for each in done:
            latency.include(Histogram.of(each["latency"]))
        return latency, (max(each["ended_ns"] for each in done) - min(each["began_ns"] for each in done)) / 1e9

    def start(self, schedule: Schedule) -> None:
        self._started = True
        for worker in self._workers:
            worker.send({"what": "start", **asdict(schedule)})

    def finish(self) -> None:
        for worker in self._workers:
            worker.send({"what": "finish"})

    def counters(self) -> DeliveryCounters | None:
        """The sum of all workers' counters; None until all have reported."""
        found = [worker.counters for worker in self._workers if worker.counters is not None]
        if len(found) < len(self._workers):
            return None
        for other in found[1:]:
            found[0].include(other)
        return found[0]
