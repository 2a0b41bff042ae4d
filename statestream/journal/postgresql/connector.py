"""How a connection to PostgreSQL is made, directly or through a pooler, which takes more care.

A pooler may run each transaction on another connection to the server. What was prepared on one of them is unknown on
the next, where the same name may even stand for a statement of another client. So statements are prepared once per
connection if the server is reached directly, and otherwise anew each time they run, which costs a round trip.

A pooler is recognized without a setting: it tells its clients of another process than the one that answers them.

Invariants: whether there is a pooler is looked at on each connection, since an address may lead elsewhere from one day
to the next. A connection that was prepared for the other case is never used.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from statestream.journal.postgresql.address import Address

CONNECT_SECONDS: Final = 5.0
PREPARED: Final = 100
"""How many statements are kept prepared on a direct connection."""


class Connector:
    """Makes the connections to an address. The first one finds out whether there is a pooler."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._direct = False
        """Whether the last connection was a direct one. What is safe behind a pooler is safe without one."""

    async def connect(self, seconds: float) -> tuple[Any, int | None]:
        """A connection of the driver, whose statements may take so long, and the process of the server that serves it.

        Behind a pooler, which may change it, there is none. Raises what the driver raises.
        """
        async with asyncio.timeout(CONNECT_SECONDS):
            expected = self._direct
            driver = await self._open(seconds, direct=expected)
            try:
                direct = self._direct = await _is_direct(driver)
                if direct != expected:
                    await driver.close()
                    driver = await self._open(seconds, direct=direct)
            except BaseException:
                driver.terminate()
                raise
            return driver, driver.get_server_pid() if direct else None

    async def _open(self, seconds: float, *, direct: bool) -> Any:
        import asyncpg

        return await asyncpg.connect(
            self._address.dsn,
            timeout=CONNECT_SECONDS,
            command_timeout=seconds,
            statement_cache_size=PREPARED if direct else 0,
            target_session_attrs="primary" if self._address.primary else None,
        )


async def _is_direct(driver: Any) -> bool:
    """Whether the process that serves is the one that the client was told of."""
    import asyncpg

    unprepared = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)
    try:
        serving = await driver.fetchval("SELECT pg_backend_pid()")
    except unprepared:  # since the last connection, a pooler has come
        return False
    return bool(serving == driver.get_server_pid())
