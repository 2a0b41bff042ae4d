"""The whole measurement, from the first look at the server to the report.

Invariants: it ends: every wait has a limit, every process and connection an owner. Whatever goes wrong is raised as one
StatestreamError, whose message is for the person at the terminal.
Latencies that were measured while all cores were busy say nothing about the server, so the report says how busy the
machine was.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from msgspec import Struct
from msgspec.structs import replace

from statestream.client.health import FAILED
from statestream.core.errors import StatestreamError, Unavailable
from statestream.tools.bench.counters import DeliveryCounters
from statestream.tools.bench.dispatcher import RESPONSE_SECONDS, DispatchCounters, Dispatcher
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.limits import changes_of, check_server, processes_for, raise_file_limit, sources_for
from statestream.tools.bench.messages import Assignment, Schedule
from statestream.tools.bench.progress import ProgressDisplay
from statestream.tools.bench.report import Conditions, ServerUsage, Window, make_report
from statestream.tools.bench.report_text import count, short
from statestream.tools.bench.server_process import ServerProcess, Unknown
from statestream.tools.bench.worker_pool import WorkerPool
from statestream.tools.target import Target, announced_heartbeat, probe
from statestream.tools.template import ActionTemplate

STAT: Final = Path("/proc/stat")


class CpuMeter:
    """Measures from its creation on."""

    def __init__(self) -> None:
        self._began, self._own, self._all = time.monotonic(), time.process_time(), _busy_seconds()

    def own_share(self) -> float:
        """The share of one core that this process used."""
        return (time.process_time() - self._own) / (time.monotonic() - self._began)

    def machine_percent(self) -> float | None:
        """The percentage of all cores that all processes used; None if the system does not report it."""
        busy, seconds = _busy_seconds(), time.monotonic() - self._began
        if busy is None or self._all is None:
            return None
        return min(100.0, (busy - self._all) / seconds / (os.cpu_count() or 1) * 100)


def _busy_seconds() -> float | None:
    if not STAT.exists():
        return None
    user, nice, system, _, _, *others = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")  # others: interrupts, stolen by a neighbour


T = TypeVar("T")
CONNECTING_AT_ONCE: Final = 200
SETTLE_SECONDS: Final = 0.5
"""After the last reader has joined, before the server's memory is read."""
LEAD_NS: Final = 200_000_000
"""From the start message to the first due time, so that every worker has received the schedule by then."""
MIN_SILENCE: Final = 5.0
"""A server under load may be late, so readers wait at least this long, even with a short heartbeat."""
COLLECT_SECONDS: Final = 30.0
JOIN_SILENCE: Final = 20.0
END_SILENCE: Final = 5.0
END_SECONDS: Final = 60.0
REFRESH_SECONDS: Final = 0.1


class Plan(Struct, frozen=True, kw_only=True):
    """What to measure. Without a template nothing is dispatched: readers only join and listen."""

    target: Target
    template: ActionTemplate | None
    readers: int
    rate: float
    seconds: float
    processes: int | None = None


async def measure(plan: Plan, display: ProgressDisplay) -> dict[str, Any]:
    """Returns the report. Raises StatestreamError."""
    try:
        return await _Measurement(plan, display).run()
    except ExceptionGroup as group:
        raise _first(group) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The error to report, if several tasks failed together: one of ours if there is one, because it is a sentence."""
    found: Exception = group.subgroup(StatestreamError) or group
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    return found


class _Measurement:
    def __init__(self, plan: Plan, display: ProgressDisplay) -> None:
        self._plan, self._display = plan, display
        self._run = f"bench-{secrets.token_hex(4)}-"
        self._processes = processes_for(plan.readers, plan.processes)
        self._changes = changes_of(plan.rate, plan.seconds) if plan.template else 0
        self._process: ServerProcess | None = None
        self._usage = ServerUsage()

    async def run(self) -> dict[str, Any]:
        plan, target = self._plan, self._plan.target
        if plan.template is not None:
            plan.template.body(self._run, 0)  # a template that cannot be filled fails here, before anything is opened
        raise_file_limit()
        timeout, connector = aiohttp.ClientTimeout(total=RESPONSE_SECONDS), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=target.headers, timeout=timeout, connector=connector) as session:
            family, address = await target.resolve()
            assignments = self._assignments(family, address)  # which fails before the server is asked
            heartbeat = announced_heartbeat(await probe(target, session))
            silence = max(MIN_SILENCE, FAILED * heartbeat)
            assignments = [replace(each, silence=silence) for each in assignments]
            self._inspect_server(address[0], address[1])
            async with WorkerPool(assignments) as pool, asyncio.TaskGroup() as group:
                group.create_task(pool.follow())
                joining, joined_seconds = await self._join(pool)
                window = await self._measure(pool, session)
        return make_report(self._conditions(), joining, joined_seconds, window, self._usage)

    def _conditions(self) -> Conditions:
        plan = self._plan
        return Conditions(
            url=str(plan.target.url),
            slices=plan.target.slices,
            readers=plan.readers,
            processes=self._processes,
            action=plan.template.type if plan.template else None,
            rate=plan.rate,
            seconds=plan.seconds,
        )

    def _assignments(self, family: int, address: Any) -> list[Assignment]:
        """Divides the readers among the workers. Raises TooLarge."""
        readers, url = self._plan.readers, self._plan.target.url
        whole = Assignment(
            family=family,
            address=list(address),
            tls=url.host if url.scheme == "https" else None,
            request=self._plan.target.stream_request(),
            readers=readers,
            at_once=max(1, CONNECTING_AT_ONCE // self._processes),
            sources=sources_for(readers, address[0]),
            run=self._run,
            silence=MIN_SILENCE,
        )
        less, more = divmod(readers, self._processes)
        return [replace(whole, readers=less + (at < more)) for at in range(self._processes)]

    # the server's process

    def _inspect_server(self, host: str, port: int) -> None:
        """Reads its memory before the readers come. Raises TooLarge if they do not fit."""
        try:
            self._process = ServerProcess.listening(host, port)
            check_server(self._process, self._plan.readers)
            name, rss = self._process.name, self._process.rss_bytes()
            self._usage = ServerUsage(pids=self._process.pids, name=name, rss_before=rss)
        except Unknown as why:
            self._process, self._usage = None, ServerUsage(unknown=str(why))

    def _of_server(self, figure: Callable[[ServerProcess], T]) -> T | None:
        """The figure; None if it is not known, or no longer."""
        if self._process is None:
            return None
        try:
            return figure(self._process)
        except Unknown as why:
            self._process, self._usage = None, replace(self._usage, unknown=str(why))
            return None

    # joining

    async def _join(self, pool: WorkerPool) -> tuple[Histogram, float]:
        """Returns how long each reader took to join, and the seconds until all had joined. Raises Unavailable."""
        progress_at, joined = time.monotonic(), 0
        self._display.phase(f"joining: {count(self._plan.readers, 'reader')}", self._plan.readers)
        while (times := pool.join_times()) is None:
            await pool.wait_for_news(REFRESH_SECONDS)
            if pool.joined > joined:
                joined, progress_at = pool.joined, time.monotonic()
            if time.monotonic() > progress_at + JOIN_SILENCE:
                raise Unavailable(
                    f"only {joined:,} of {self._plan.readers:,} readers could join; "
                    f"none joined within the last {JOIN_SILENCE:.0f} s"
                )
            self._display.at(joined)
        await asyncio.sleep(SETTLE_SECONDS)
        self._usage = replace(self._usage, rss_idle=self._of_server(ServerProcess.rss_bytes))
        return times

    # measuring

    async def _measure(self, pool: WorkerPool, session: aiohttp.ClientSession) -> Window:
        plan, changes = self._plan, self._changes
        first_ns = time.monotonic_ns() + LEAD_NS
        schedule = Schedule(first_ns=first_ns, apart_ns=round(1e9 / plan.rate), changes=changes)
        pool.start(schedule)
        meter, before = CpuMeter(), self._of_server(ServerProcess.cpu_seconds)
        if plan.template is None:
            dispatches = DispatchCounters()
            await self._listen(pool, schedule)
        else:
            dispatcher = Dispatcher(plan.target, plan.template, self._run, session)
            dispatches = dispatcher.counters
            await self._send(pool, dispatcher, schedule)
        own, machine = meter.own_share(), meter.machine_percent()
        used = self._of_server(ServerProcess.cpu_seconds)
        if before is not None and used is not None:
            self._usage = replace(self._usage, cpu_seconds=used - before)
        counters = await self._collect(pool)
        counters.busy = max(counters.busy, own)
        seconds = max(schedule.apart_ns * changes / 1e9, counters.ended_us / 1e6) if changes else plan.seconds
        return Window(dispatches=dispatches, counters=counters, seconds=seconds, machine_percent=machine)

    async def _collect(self, pool: WorkerPool) -> DeliveryCounters:
        pool.finish()
        try:
            async with asyncio.timeout(COLLECT_SECONDS):
                while (counters := pool.counters()) is None:
                    await pool.wait_for_news(REFRESH_SECONDS)
        except TimeoutError:
            raise Unavailable(
                f"a worker process of this measurement has not reported for {COLLECT_SECONDS:.0f} s"
            ) from None
        return counters

    async def _listen(self, pool: WorkerPool, schedule: Schedule) -> None:
        self._display.phase(f"listening: {short(self._plan.seconds)} s", self._plan.seconds)
        while (left := self._plan.seconds - (time.monotonic_ns() - schedule.first_ns) / 1e9) > 0:
            await asyncio.sleep(min(REFRESH_SECONDS, left))
            self._display.at(self._plan.seconds - left, count(pool.alive, "reader"))

    async def _send(self, pool: WorkerPool, dispatcher: Dispatcher, schedule: Schedule) -> None:
        """Sends everything, and waits until the readers have it, or until nothing more comes."""
        self._display.phase(f"sending: {count(schedule.changes, 'change')}", schedule.changes)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(dispatcher.run(schedule))
            while not sending.done():
                await asyncio.wait([sending], timeout=REFRESH_SECONDS)
                self._display.at(dispatcher.sent, f"{pool.delivered:,} delivered")
        await self._wait_for_deliveries(pool, max(dispatcher.counters.seqs.values(), default=0))

    async def _wait_for_deliveries(self, pool: WorkerPool, seq: int) -> None:
        began = progress_at = time.monotonic()
        delivered = pool.delivered
        while pool.cursor < seq and time.monotonic() < min(progress_at + END_SILENCE, began + END_SECONDS):
            await pool.wait_for_news(REFRESH_SECONDS)
            if pool.delivered > delivered:
                delivered, progress_at = pool.delivered, time.monotonic()
