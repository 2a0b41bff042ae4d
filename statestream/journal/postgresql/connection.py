"""A connection to PostgreSQL, which is made when it is needed, and made again after it was lost.

Invariants: one statement at a time. Every wait has a bound. After an error of the driver, a timeout or a cancellation,
the connection is given up rather than reused: nothing is half done on the next one. Errors of the driver become
Unavailable, whose message names the error and nothing of the statement or the address, because clients see it. A
connection that was lost while it was idle is not an error: the next statement connects first.

Who waits for the connection while somebody tries in vain to make it is refused too, instead of trying once more: a wait
is bounded however many there are in front.

A connection is given up at once, before the driver asks the server to cancel its statement. Cancelling a commit that
waits for a synchronous standby would complete it without the standby, and others would see what a failover loses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final, TypeVar

from statestream.core.errors import StatestreamError, Unavailable
from statestream.journal.postgresql.connector import Connector

T = TypeVar("T")
STATEMENT_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0

Rows = list[Any]
Prepare = Callable[[Any], Awaitable[None]]


class Connection:
    """See the module. `prepare` is called with each connection of the driver that is made.

    A statement may take `seconds`, or STATEMENT_SECONDS. If it takes longer, or connecting takes too long, `silent` is
    called, with whether that was a statement and STATEMENT_SECONDS.
    """

    def __init__(
        self,
        connector: Connector,
        silent: Callable[[bool], None],
        prepare: Prepare | None = None,
        seconds: float | None = None,
    ) -> None:
        self._connector, self._silent, self._prepare, self._seconds = connector, silent, prepare, seconds
        self._driver: Any = None
        self._lock = asyncio.Lock()
        self._closed = False
        self._refused: tuple[float, Exception] | None = None
        """When and why it could not be made the last time."""
        self.pid: int | None = None
        """The process of the server that serves this connection. Behind a pooler, there is none."""

    async def connect(self) -> None:
        """Connects, or raises what the driver raises, for those who explain it better than Unavailable does."""
        self._closed = False
        async with self._lock:
            await self._connected()

    async def close(self) -> None:
        self._closed = True
        driver, self._driver = self._driver, None
        if driver is None:
            return
        if self._lock.locked():  # by a statement, whose outcome nobody waits for
            driver.terminate()
            return
        try:
            await driver.close(timeout=CLOSE_SECONDS)
        except driver_errors():
            driver.terminate()

    async def fetch(self, statement: str, *values: Any) -> Rows:
        """The rows that a statement returns. Raises Unavailable."""
        return await self.run(lambda driver: driver.fetch(statement, *values))

    async def fetch_one(self, statement: str, *values: Any) -> Any:
        """The first row, or None. Raises Unavailable."""
        return await self.run(lambda driver: driver.fetchrow(statement, *values))

    async def run(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """What `work` returns, given the driver's connection. Raises Unavailable, and errors of ours that it raises."""
        since, connected = monotonic(), False
        async with self._lock:
            try:
                if self._refused is not None and self._refused[0] > since:
                    raise translated(self._refused[1])
                driver = await self._connected()
                connected = True
                return await work(driver)
            except StatestreamError:
                raise
            except driver_errors() as error:
                self._give_up()
                if isinstance(error, TimeoutError):
                    self._silent(connected and self._seconds is None)
                raise translated(error) from error
            except BaseException:
                self._give_up()
                raise

    def doubt(self, *, in_use: bool = False) -> None:
        """Gives the connection up unless it is in use, because another one to the same server was silent.

        If the network has lost them all, the next statement must not wait to find out. `in_use`: nor must those who
        wait for the statement that is running, which fails now.
        """
        if in_use or not self._lock.locked():
            self._give_up()

    async def _connected(self) -> Any:
        self._check_open()
        if self._driver is None or self._driver.is_closed():
            try:
                self._driver, self.pid = await self._connector.connect(self._seconds or STATEMENT_SECONDS)
            except driver_errors() as error:
                self._refused = monotonic(), error
                raise
            self._check_open()
            if self._prepare is not None:
                await self._prepare(self._driver)
        return self._driver

    def _check_open(self) -> None:
        if self._closed:
            self._give_up()
            raise Unavailable("the journal is closed")

    def _give_up(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.terminate()


def driver_errors() -> tuple[type[Exception], ...]:
    """What the driver raises, and what the network raises through it."""
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


def translated(error: Exception) -> Unavailable:
    """The exception that replaces one of the driver's."""
    state = getattr(error, "sqlstate", None)
    name = f"{type(error).__name__} {state}" if state else type(error).__name__
    return Unavailable(f"the journal's database could not be used ({name}); try again with the same id")
