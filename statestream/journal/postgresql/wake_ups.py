"""How a node learns that others have written to a PostgreSQL journal: a notification wakes it, and polling heals.

A notification says nothing but that there may be something new. It may be lost: with the connection that listens, in a
failover, behind a pooler that gives each transaction another connection. So the head is read at least every
POLL_SECONDS in any case. Once a poll has found what no notification told of, the node polls every DEAF_SECONDS until it
hears one again: so a node behind such a pooler is slower by that much, and needs no setting.

Invariants: a notification is a reason to read, never news in itself. A connection that was lost is made again, and
listens before it reads, so nothing is missed in between. A node is not woken by its own writes. One caller at a time
waits; nothing here is a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from statestream.core.change import Position
from statestream.journal.postgresql import changes
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.connector import Connector
from statestream.journal.postgresql.statements import Statements

POLL_SECONDS: Final = 0.5
DEAF_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 2.0
"""How long a poll may take: it is small, so the network has lost a connection on which it takes longer."""


class WakeUps:
    """The connection that listens. `own` is the process of the server whose notifications are this node's own.

    `silent` is called if a poll is not answered.
    """

    def __init__(
        self,
        connector: Connector,
        statements: Statements,
        own: Callable[[], int | None],
        silent: Callable[[bool], None],
    ) -> None:
        self._statements, self._own = statements, own
        self._connection = Connection(connector, silent, self._listen, ANSWER_SECONDS)
        self._woken = asyncio.Event()
        self._news = False
        """Whether another node has written since the last wait."""
        self._hears = True
        self._next_poll = 0.0
        self.written: Position | None = None
        """The newest position that this node has written during the current wait: no notification told of it."""

    async def open(self) -> None:
        """Connects and listens. Raises what the driver raises."""
        await self._connection.connect()

    async def close(self) -> None:
        await self._connection.close()

    def doubt(self) -> None:
        """Listens on a new connection, because another one to the same server was silent."""
        self._connection.doubt()

    async def wait(self, after: Position) -> None:
        """Returns once there may be changes after a position, or the head is not where this node knows it.

        Another node's writes end the wait at once, those of this node at the next poll. A restored backup may bring
        the head back to `after` while this node knows of a later one. Raises Unavailable.
        """
        self.written = None
        while True:
            polled = await self._pause()
            if self._news:
                self._news = False
                self._woken.clear()
                return
            before = self.written or after
            head = await self._head()
            known = head in (before, self.written)  # this node may have written while it asked
            if polled and not known:
                self._hears = False
            if head != after or not known:
                return

    async def _pause(self) -> bool:
        """Returns once there is a reason to go on: an event, or, if true, because there was none for so long."""
        try:
            async with asyncio.timeout_at(self._next_poll):
                await self._woken.wait()
        except TimeoutError:
            return True
        return False

    async def _head(self) -> Position:
        self._woken.clear()
        self._next_poll = asyncio.get_running_loop().time() + (POLL_SECONDS if self._hears else DEAF_SECONDS)
        try:
            return await changes.head(self._connection, self._statements)
        except BaseException:
            self._woken.set()  # whoever waits next reads at once
            raise

    async def _listen(self, driver: Any) -> None:
        await driver.add_listener(self._statements.channel, self._heard)
        driver.add_termination_listener(self._lost)

    def _heard(self, _connection: Any, pid: int, _channel: str, _payload: object) -> None:
        self._hears = True
        if pid != self._own():
            self._news = True
            self._woken.set()

    def _lost(self, _connection: Any) -> None:
        self._woken.set()
