"""The whole measurement, from the first look at the server to the figures.

Invariants: it ends: every wait has a bound, every process and connection an owner. What goes wrong is raised as one
StatestreamError, whose message is for the person at the terminal.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import aiohttp
from msgspec import Struct
from msgspec.structs import replace

from statestream.core.errors import StatestreamError, Unavailable
from statestream.tools.bench.crew import Crew
from statestream.tools.bench.dispatcher import ANSWER_SECONDS, Answers, Dispatcher, Template
from statestream.tools.bench.figures import Server, Setting, Window, figures
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.limits import changes_of, check_server, processes_for, raise_files, sources_for
from statestream.tools.bench.machine import Meter
from statestream.tools.bench.report import count, short
from statestream.tools.bench.server_process import ServerProcess, Unknown
from statestream.tools.bench.tally import Tally
from statestream.tools.bench.target import Target, probe
from statestream.tools.bench.worker import Assignment, Start

T = TypeVar("T")
AT_ONCE: Final = 200
SETTLE_SECONDS: Final = 0.5
HEAD_START_NS: Final = 200_000_000
JOIN_SILENCE: Final = 15.0
END_SILENCE: Final = 5.0
END_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure. Without a template nothing is dispatched: readers only join and listen."""

    target: Target
    template: Template | None
    readers: int
    rate: float
    seconds: float
    processes: int | None = None


class Show(Protocol):
    """Who watches."""

    def phase(self, name: str, total: float) -> None:
        """Something begins that will have come to `total`."""

    def at(self, done: float, note: str = "") -> None:
        """It has come so far."""


async def bench(plan: Plan, show: Show) -> dict[str, Any]:
    """The figures. Raises StatestreamError."""
    try:
        return await _Bench(plan, show).run()
    except ExceptionGroup as group:
        raise _first(group) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """What went wrong, of several things that went wrong together: the one with a sentence."""
    found: Exception = group.subgroup(StatestreamError) or group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found


class _Bench:
    def __init__(self, plan: Plan, show: Show) -> None:
        self._plan, self._show = plan, show
        self._run = f"bench-{secrets.token_hex(4)}-"
        self._processes = processes_for(plan.readers, plan.processes)
        self._changes = changes_of(plan.rate, plan.seconds) if plan.template else 0
        self._process: ServerProcess | None = None
        self._server = Server()

    async def run(self) -> dict[str, Any]:
        plan, target = self._plan, self._plan.target
        if plan.template is not None:
            plan.template.body(self._run, 0)
        raise_files()
        timeout, connector = aiohttp.ClientTimeout(total=ANSWER_SECONDS), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=target.headers, timeout=timeout, connector=connector) as session:
            family, address = await target.address()
            assignments = self._assignments(family, address)
            await probe(target, session)
            self._look(address[0], address[1])
            async with Crew(assignments) as crew, asyncio.TaskGroup() as group:
                group.create_task(crew.follow())
                joining, joined_seconds = await self._join(crew)
                window = await self._measure(crew, session)
        return figures(self._setting(), joining, joined_seconds, window, self._server)

    def _setting(self) -> Setting:
        plan = self._plan
        return Setting(
            url=str(plan.target.url),
            slices=plan.target.slices,
            readers=plan.readers,
            processes=self._processes,
            action=plan.template.type if plan.template else None,
            rate=plan.rate,
            seconds=plan.seconds,
        )

    def _assignments(self, family: int, address: Any) -> list[Assignment]:
        """What each worker does. Raises TooLarge."""
        readers, url = self._plan.readers, self._plan.target.url
        whole = Assignment(
            family=family,
            address=list(address),
            tls=url.host if url.scheme == "https" else None,
            request=self._plan.target.request(),
            readers=readers,
            at_once=max(1, AT_ONCE // self._processes),
            sources=sources_for(readers, address[0]),
            run=self._run,
        )
        less, more = divmod(readers, self._processes)
        return [replace(whole, readers=less + (at < more)) for at in range(self._processes)]

    # the server's process

    def _look(self, host: str, port: int) -> None:
        """Its memory before the readers. Raises TooLarge where they do not fit."""
        try:
            self._process = ServerProcess.listening(host, port)
            check_server(self._process, self._plan.readers)
            name, rss = self._process.name, self._process.rss_bytes()
            self._server = Server(pids=self._process.pids, name=name, rss_before=rss)
        except Unknown as why:
            self._process, self._server = None, Server(unknown=str(why))

    def _of_server(self, figure: Callable[[ServerProcess], T]) -> T | None:
        """The figure, or None where it is not known, or no longer."""
        if self._process is None:
            return None
        try:
            return figure(self._process)
        except Unknown as why:
            self._process, self._server = None, replace(self._server, unknown=str(why))
            return None

    # joining

    async def _join(self, crew: Crew) -> tuple[Histogram, float]:
        """How long each took, and all together."""
        news, joined = time.monotonic(), 0
        self._show.phase(f"joining: {count(self._plan.readers, 'reader')}", self._plan.readers)
        while (joining := crew.joining()) is None:
            await crew.stirred(LOOK_SECONDS)
            if crew.joined > joined:
                joined, news = crew.joined, time.monotonic()
            if time.monotonic() > news + JOIN_SILENCE:
                raise Unavailable(
                    f"expected {self._plan.readers:,} readers to join, {joined:,} have "
                    f"and no other for {JOIN_SILENCE:.0f} s"
                )
            self._show.at(joined)
        await asyncio.sleep(SETTLE_SECONDS)
        self._server = replace(self._server, rss_idle=self._of_server(ServerProcess.rss_bytes))
        return joining

    # what counts

    async def _measure(self, crew: Crew, session: aiohttp.ClientSession) -> Window:
        plan, changes = self._plan, self._changes
        start = Start(first_ns=time.monotonic_ns() + HEAD_START_NS, apart_ns=round(1e9 / plan.rate), changes=changes)
        crew.start(start)
        meter, before = Meter(), self._of_server(ServerProcess.cpu_seconds)
        if plan.template is None:
            answers = Answers()
            await self._listen(crew, start)
        else:
            dispatcher = Dispatcher(plan.target, plan.template, self._run, session)
            answers = dispatcher.answers
            await self._send(crew, dispatcher, start)
        own, machine = meter.own_share(), meter.machine_percent()
        used = self._of_server(ServerProcess.cpu_seconds)
        if before is not None and used is not None:
            self._server = replace(self._server, cpu_seconds=used - before)
        tally = await self._tally(crew)
        tally.busy = max(tally.busy, own)
        seconds = max(start.apart_ns * changes / 1e9, tally.ended_us / 1e6) if changes else plan.seconds
        return Window(answers=answers, tally=tally, seconds=seconds, machine_percent=machine)

    async def _tally(self, crew: Crew) -> Tally:
        crew.finish()
        while (tally := crew.tally()) is None:
            await crew.stirred(LOOK_SECONDS)
        return tally

    async def _listen(self, crew: Crew, start: Start) -> None:
        self._show.phase(f"listening: {short(self._plan.seconds)} s", self._plan.seconds)
        while (left := self._plan.seconds - (time.monotonic_ns() - start.first_ns) / 1e9) > 0:
            await asyncio.sleep(min(LOOK_SECONDS, left))
            self._show.at(self._plan.seconds - left, count(crew.alive, "reader"))

    async def _send(self, crew: Crew, dispatcher: Dispatcher, start: Start) -> None:
        """Sends everything, and waits until the readers have it, or for as long as it still comes."""
        self._show.phase(f"sending: {count(start.changes, 'change')}", start.changes)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(dispatcher.run(start))
            while not sending.done():
                await asyncio.wait([sending], timeout=LOOK_SECONDS)
                self._show.at(dispatcher.sent, f"{crew.delivered:,} delivered")
        await self._settled(crew, max(dispatcher.answers.seqs.values(), default=0))

    async def _settled(self, crew: Crew, seq: int) -> None:
        began = news = time.monotonic()
        delivered = crew.delivered
        while crew.cursor < seq and time.monotonic() < min(news + END_SILENCE, began + END_SECONDS):
            await crew.stirred(LOOK_SECONDS)
            if crew.delivered > delivered:
                delivered, news = crew.delivered, time.monotonic()
