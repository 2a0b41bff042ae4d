"""A SQLite connection on a thread of its own, which runs jobs one after the other, each in a transaction.

Invariants: nothing here knows tables. A job that raises leaves nothing behind. Every sqlite3 error becomes Unavailable,
or JournalUnusable if SQLite says that the file is damaged. Cancelling a caller does not stop its job: the job has been
handed over and may take effect.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

from statestream.core.errors import StatestreamError, Unavailable
from statestream.journal.sqlite.checksums import damaged

P = ParamSpec("P")
T = TypeVar("T")
BUSY_SECONDS: Final = 2.0

Job = Callable[Concatenate[sqlite3.Connection, P], T]

SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What sqlite3 raises. The second one is for an error whose message quotes damaged bytes of the file."""


class SqliteWorker:
    """See the module. `mode` is how transactions begin: IMMEDIATE for writing, DEFERRED for reading.

    `guard` is called before each job, on the thread of the connection. If it raises, the job raises the same.
    """

    def __init__(self, path: Path, mode: Literal["IMMEDIATE", "DEFERRED"], guard: Callable[[], None]) -> None:
        self._path, self._mode, self._guard = path, mode, guard
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        """Connects and runs `prepare` on the connection. Raises what `prepare` raises, and sqlite3.Error."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="statestream-sqlite")
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect, prepare)

    def _connect(self, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        prepare(self._connection)

    async def run(self, job: Job[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The job's result, once its transaction is committed. Raises Unavailable, and what the job raises."""
        return await self._hand_over(lambda: self._transact(lambda sql: job(sql, *arguments, **named)))

    async def run_outside(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """The result of a job that must not be in a transaction. Raises Unavailable."""
        return await self._hand_over(lambda: self._without_transaction(job))

    async def commit(self, job: Callable[[sqlite3.Connection], T], confirm: Callable[[T], None]) -> T:
        """The same. `confirm` is called on the connection's thread once the transaction is durable, and may raise."""

        def call() -> T:
            result = self._transact(job)
            confirm(result)
            return result

        return await self._hand_over(call)

    async def _hand_over(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            raise Unavailable("the journal is closed")
        future = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            del future  # it has what the job raised, whose traceback has this frame

    def _transact(self, job: Callable[[sqlite3.Connection], T]) -> T:
        self._guard()
        with transaction(self._connection, self._mode) as sql:
            return job(sql)

    def _without_transaction(self, job: Callable[[sqlite3.Connection], T]) -> T:
        self._guard()
        if self._connection is None:
            raise Unavailable("the journal is closed")
        try:
            return job(self._connection)
        except SQLITE_ERRORS as error:
            raise translated(error) from error

    async def close(self) -> None:
        """Waits for the jobs that were handed over. May be called twice."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(thread, self._disconnect)
        thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def transaction(sql: sqlite3.Connection | None, mode: str) -> Iterator[sqlite3.Connection]:
    """All or nothing. Rolls back on any error, and turns those of sqlite3 into Unavailable or JournalUnusable.

    The message names no path: callers from outside see it.
    """
    if sql is None:
        raise Unavailable("the journal is closed")
    try:
        sql.execute(f"BEGIN {mode}")
        try:
            yield sql
            sql.execute("COMMIT")
        except BaseException:
            if sql.in_transaction:
                sql.execute("ROLLBACK")
            raise
    except SQLITE_ERRORS as error:
        raise translated(error) from error


def translated(error: Exception) -> StatestreamError:
    """The exception that replaces one of SQLITE_ERRORS. It must not contain the text of a damaged column."""
    if isinstance(error, UnicodeDecodeError):
        return damaged("the journal's file")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "Could not decode" in str(error):
        return damaged("the journal's file")
    return Unavailable(f"the journal could not be used: {error}; try again with the same id")
