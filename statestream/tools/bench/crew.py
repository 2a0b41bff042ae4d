"""The worker processes, seen from the process that runs the measurement.

Invariants: each worker is a process that was started here and ends here, whatever happens; its lines are read by one
task. A worker that fails, or the last reader that goes, ends the measurement with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Self

import orjson
from msgspec.structs import asdict

from statestream.core.errors import Unavailable
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.tally import Tally
from statestream.tools.bench.worker import Assignment, Start

LINE: Final = 1 << 28
END_SECONDS: Final = 5.0


class Member:
    """One worker: its process, its last news, and what it has answered."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.news: dict[str, Any] = {"joined": 0, "alive": 0, "delivered": 0, "bytes": 0, "cursor": 0, "lost": {}}
        self.joined: dict[str, Any] | None = None
        self.tally: Tally | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "statestream.tools.bench.worker")
        self.process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=LINE)
        self.tell(asdict(self.assignment))

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process
        assert self.process.stdin
        self.process.stdin.write(orjson.dumps(message) + b"\n")

    async def lines(self) -> Any:
        assert self.process
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            yield orjson.loads(line)

    async def end(self) -> None:
        """It ends by itself once its input is closed; if not, it is ended."""
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


class Crew:
    """All workers. `follow` must run for the rest to go on; it raises what ends the measurement."""

    def __init__(self, assignments: Sequence[Assignment]) -> None:
        self._members = [Member(each) for each in assignments]
        self._stirred = asyncio.Event()
        self._started = False

    async def __aenter__(self) -> Self:
        try:
            for member in self._members:
                await member.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(member.end() for member in self._members))

    async def follow(self) -> None:
        """Reads what workers say until they have given their tallies. Raises Unavailable."""
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(self._follow(member))

    async def _follow(self, member: Member) -> None:
        async for message in member.lines():
            match message.pop("what"):
                case "news":
                    member.news = message
                    self._check_alive()
                case "joined":
                    member.joined = message
                case "failed":
                    raise Unavailable(
                        f"expected every reader to join, one could not: {message['why']} "
                        f"({self.joined:,} had joined by then)"
                    )
                case "tally":
                    member.tally = Tally.of(message)
            self._stirred.set()
            if member.tally is not None:
                return
        raise Unavailable("expected a worker of this benchmark to answer, its process has ended; see what it wrote")

    def _check_alive(self) -> None:
        if self._started and not self.alive:
            lost: Counter[str] = Counter()
            for member in self._members:
                lost.update(member.news["lost"])
            why = lost.most_common(1)[0][0]
            raise Unavailable(f"expected the server to stay, all {lost.total():,} readers lost their stream: {why}")

    def _sum(self, name: str) -> int:
        return sum(member.news[name] for member in self._members)

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
        """Up to which seq every reader that is left has everything."""
        return min((member.news["cursor"] for member in self._members if member.news["alive"]), default=0)

    async def stirred(self, seconds: float) -> None:
        """Until a worker has said something, or so long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stirred.wait(), seconds)
        self._stirred.clear()

    def joining(self) -> tuple[Histogram, float] | None:
        """How long each reader took to join, and all of them together in seconds, once all have."""
        done = [member.joined for member in self._members if member.joined is not None]
        if len(done) < len(self._members):
            return None
        latency = Histogram()
        for each in done:
            latency.include(Histogram.of(each["latency"]))
        return latency, (max(each["ended_ns"] for each in done) - min(each["began_ns"] for each in done)) / 1e9

    def start(self, start: Start) -> None:
        self._started = True
        for member in self._members:
            member.tell({"what": "start", **asdict(start)})

    def finish(self) -> None:
        for member in self._members:
            member.tell({"what": "finish"})

    def tally(self) -> Tally | None:
        """All of them together, once all have answered."""
        tallies = [member.tally for member in self._members if member.tally is not None]
        if len(tallies) < len(self._members):
            return None
        for other in tallies[1:]:
            tallies[0].include(other)
        return tallies[0]
