"""What a node does beside its replies, for as long as it runs: each of it is a task.

Invariants: whoever begins the chores ends them. One that fails is tried again; it ends neither the others nor the node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from statestream.chat.file_keeper import FileKeeper
from statestream.chat.mcp.server import ToolServer
from statestream.chat.nodes.asking_later import AskingLater
from statestream.chat.nodes.in_progress import Recovery
from statestream.chat.nodes.lease import Lease
from statestream.chat.nodes.presence import Presence
from statestream.chat.people import People
from statestream.core.errors import StatestreamError

log = logging.getLogger("statestream")

EXPIRY_SECONDS: Final = 0.5
"""How often a node looks for replies that have waited long enough."""
TIDY_SECONDS: Final = 3_600.0


class Chores:
    """The chores of the node `name`."""

    def __init__(
        self,
        name: str,
        lease: Lease,
        recovery: Recovery,
        presence: Presence,
        later: AskingLater,
        people: People,
        files: FileKeeper,
        servers: Sequence[ToolServer],
    ) -> None:
        self._name, self._lease, self._recovery, self._presence = name, lease, recovery, presence
        self._later, self._people, self._files, self._servers = later, people, files, servers
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        chores = [
            ("lease", self._lease.keep(self._recovery.recover)),
            ("presence", self._presence.run()),
            ("questions", self._later.run()),
            ("waits", self._expire()),
            ("tidying", self._tidy()),
            *((server.name, server.keep()) for server in self._servers),
        ]
        self._tasks = [asyncio.create_task(work, name=f"chat {self._name} {name}") for name, work in chores]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            await self._recovery.expire()

    async def _tidy(self) -> None:
        """Now, and again every hour: finishes deletions that were interrupted, and deletes files that nobody uses."""
        while True:
            try:
                await self._people.erase_deleted()
                await self._files.sweep()
            except StatestreamError as error:
                log.warning("what was deleted could not be erased, trying again in an hour: %s", error)
            await asyncio.sleep(TIDY_SECONDS)
