"""The connection behind `watch`: frames into a replica, until the server refuses for good or a signal ends it.

Invariants: the client's connection does the work; here is only who receives the frames, and what ends it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from statestream.client.connection import Connection
from statestream.client.health import Health, HeartbeatMonitor
from statestream.client.replica import Replica, Update
from statestream.client.token import Token
from statestream.core.errors import StatestreamError
from statestream.protocol.sse import Event
from statestream.tools.console.requests import CONNECT_SECONDS, driver_errors_explained, reach
from statestream.tools.target import Target, probe

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OnEvent = Callable[[Event, Sequence[Update]], None]


class WatchedServer:
    """`over` is set after a signal, or when the server has refused for good."""

    def __init__(self, target: Target, on_health: Callable[[Health], None] | None = None) -> None:
        self.replica, self.monitor, self.over = Replica(), HeartbeatMonitor(on_health), asyncio.Event()
        self.refusal: StatestreamError | None = None
        self._target = target
        self._query = {} if target.slices is None else {"slices": target.slices}
        self.connection: Connection

    @asynccontextmanager
    async def follow(self, on_event: OnEvent) -> AsyncIterator[None]:
        """Raises StreamRefused or Unavailable if the server accepts no stream now, or no longer."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        await reach(self._target)
        async with aiohttp.ClientSession(headers=dict(self._target.headers), timeout=timeout) as http:
            async with driver_errors_explained(self._target):
                await probe(self._target, http)
            url = str(self._target.url).rstrip("/")
            self.connection = Connection(url, self._query, self.replica, self.monitor, on_event, Token(None))
            task = asyncio.create_task(self._run(http))
            self._handle_signals()
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                self.monitor.stop()
        if self.refusal is not None:
            raise self.refusal

    def _handle_signals(self) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self.over.set)

    async def _run(self, http: aiohttp.ClientSession) -> None:
        try:
            self.refusal = await self.connection.run(http)
        finally:
            self.over.set()
