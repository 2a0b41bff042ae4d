"""The connection behind `watch`: frames into a replica, until the server refuses for good or somebody ends it.

Invariants: the way there is the client's; here is only whom it tells, and what ends it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from statestream.client.connection import Connection
from statestream.client.health import Health, Pulse
from statestream.client.replica import Replica, Update
from statestream.core.errors import StatestreamError
from statestream.protocol.sse import Event
from statestream.tools.bench.target import Target, probe
from statestream.tools.commands.asking import CONNECT_SECONDS, no_driver_errors, reach

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Heard = Callable[[Event, Sequence[Update]], None]


class Watching:
    """A connection that is kept. `over` is set when a signal has come, or the server has refused for good."""

    def __init__(self, target: Target, tell: Callable[[Health], None] | None = None) -> None:
        self.replica, self.pulse, self.over = Replica(), Pulse(tell), asyncio.Event()
        self.refusal: StatestreamError | None = None
        self._target = target
        self._query = {} if target.slices is None else {"slices": target.slices}
        self.connection: Connection

    @asynccontextmanager
    async def open(self, heard: Heard) -> AsyncIterator[None]:
        """Raises StreamRefused, Unavailable if the server does not let anybody in now, or no longer."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        await reach(self._target)
        async with aiohttp.ClientSession(headers=dict(self._target.headers), timeout=timeout) as http:
            async with no_driver_errors(self._target):
                await probe(self._target, http)
            url = str(self._target.url).rstrip("/")
            self.connection = Connection(url, self._query, self.replica, self.pulse, heard)
            task = asyncio.create_task(self._run(http))
            self._on_signals()
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.pulse.stop()
        if self.refusal is not None:
            raise self.refusal

    def _on_signals(self) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self.over.set)

    async def _run(self, http: aiohttp.ClientSession) -> None:
        try:
            self.refusal = await self.connection.run(http)
        finally:
            self.over.set()
