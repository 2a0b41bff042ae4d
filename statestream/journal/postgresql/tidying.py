"""The periodic work of a PostgreSQL journal beside its appends: it forgets what lies before the earliest position and
idempotency records that are too old or too many, and notes the time.

Invariants: the earliest position moves first; after that, nobody reads the rows that are deleted. Changes are deleted
last, so an interrupted trim is recognized by them and can be repeated. Each statement deletes a portion, and none of
them holds up an append. The noted time never goes back.
"""

from __future__ import annotations

import sys
from typing import Final

from statestream.core.change import Position
from statestream.core.clock import AgeClock
from statestream.journal.contract import IDEMPOTENCY_MS
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements

PORTION_ROWS: Final = 5_000
NOTE_MS: Final = 10 * 60 * 1000


class Tidying:
    """The work on one schema. `limit` is what idempotency records may take in bytes, if it is not 0."""

    def __init__(self, statements: Statements, clock: AgeClock, limit: int) -> None:
        self._statements, self._clock, self._limit = statements, clock, limit
        self._noted: int | None = None
        self._bytes = 0
        """What the records take. This node counts those that it adds; a recount finds those of others too."""

    async def begin(self, sql: Connection) -> None:
        """Continues from the noted time."""
        row = await sql.fetch_one(self._statements["noted_time"])
        if row is not None:
            self._clock.continue_from(row["at"])
        await self.note_time(sql)

    async def note_time(self, sql: Connection) -> None:
        """Notes the time for the next start, and adopts a later one that another node has noted."""
        row = await sql.fetch_one(self._statements["note_time"], self._clock.now())
        self._clock.advance_to(row["at"])

    async def tidy(self, sql: Connection) -> None:
        """Everything that is due."""
        if self._noted is None or self._clock.now() >= self._noted + NOTE_MS:
            await self.note_time(sql)
            self._bytes = (await sql.fetch_one(self._statements["count_requests"]))["bytes"]
            self._noted = self._clock.now()
        interrupted = await sql.fetch_one(self._statements["left_behind"])
        if interrupted is not None:
            await self._forget(sql, interrupted["floor_seq"])
        while await self._forget_records(sql) == PORTION_ROWS:
            pass

    async def recorded(self, sql: Connection, size: int) -> None:
        """Idempotency records of that size have been added. Forgets the oldest if all take too much."""
        self._bytes += size
        while self._excess > 0 and await self._forget_records(sql):
            pass

    @property
    def _excess(self) -> int:
        return self._bytes - self._limit if self._limit else -sys.maxsize

    async def _forget_records(self, sql: Connection) -> int:
        """Forgets a portion of the records that are too old or too many, and returns how many."""
        oldest = self._clock.now() - IDEMPOTENCY_MS
        row = await sql.fetch_one(self._statements["forget_requests"], oldest, max(0, self._excess), PORTION_ROWS)
        self._bytes -= row["bytes"]
        if row["records"] == 0:
            self._bytes = min(self._bytes, self._limit or self._bytes)  # other nodes have forgotten them
        records: int = row["records"]
        return records

    async def trim(self, sql: Connection, until: Position) -> None:
        await sql.fetch(self._statements["move_floor"], until.seq, until.tag)
        await self._forget(sql, until.seq)

    async def _forget(self, sql: Connection, until: int) -> None:
        """Deletes what lies before the earliest position."""
        for row in await sql.fetch(self._statements["superseded"], until):
            await sql.fetch(self._statements["forget_saved"], row["checkpoint"])
        while await self._forget_changes(sql, until):
            pass

    async def _forget_changes(self, sql: Connection, until: int) -> bool:
        """Whether there may be more."""
        status: str = await sql.run(
            lambda driver: driver.execute(self._statements["forget_changes"], until, PORTION_ROWS)
        )
        return status == f"DELETE {PORTION_ROWS}"
