"""The journal in a PostgreSQL database: for any number of nodes on any number of machines.

    address       the URL
    connection    a connection that is made again after it was lost
    connector     how one is made, also through a pooler
    statements    the SQL, of which `sql` has one file per statement
    schema        the tables, their versions, and the rights that a role needs
    changes       appends, reads, idempotency records
    adopting      taking over what another journal has numbered
    checkpoints   saved slices
    erasing       erased slices
    folding       folded changes
    checksums     the proof that a row is as it was written
    wake_ups      how a node learns what others have written
    tidying       trimming, forgetting, the age clock

Durability: once `append` has returned, the batch is committed, as durably as the database's `synchronous_commit` makes
it. With `on` it survives a crash of the server; whether it survives a failover depends on synchronous standbys.

Every node appends through one function in the database, in one round trip: it locks the head, compares, and writes. So
sequence numbers are given out in the order of the commits, and a node that was frozen cannot write at a wrong place:
its position, its ids and its versions are compared when it comes back.

Invariants: nothing is kept in memory that the database must agree with. A restored backup, or a failover that lost its
tail, shows by the tags of the positions. The driver is imported when a journal is made, because it is an extra.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Self

from statestream.core.change import PAGE, Change, IdempotencyKey, IdempotencyRecord, Page, Position, SliceState
from statestream.core.clock import AgeClock
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Appended, Batch, Checkpoint, KeptRecord, Retention, SavedSlice
from statestream.journal.postgresql import adopting, changes, erasing, folding, schema
from statestream.journal.postgresql import checkpoints as keeping
from statestream.journal.postgresql.address import Address
from statestream.journal.postgresql.connection import Connection, driver_errors
from statestream.journal.postgresql.connector import Connector
from statestream.journal.postgresql.statements import RECORD_BYTES, Statements
from statestream.journal.postgresql.tidying import Tidying
from statestream.journal.postgresql.wake_ups import WakeUps

_MISSING: Final = (
    "asyncpg is not installed; it comes with the extra postgresql: pip install '.[postgresql]' in the checkout"
)


class PostgresqlJournal:
    """The journal in the database at `url`: any number of nodes may use it. It needs the extra `postgresql`.

    `url` is a connection URI of PostgreSQL, `postgresql://user@host/database`, with two parameters of ours: `schema` is
    where the tables are, so that several stores can share a database, and `migrate=off` leaves creating and migrating
    them to `statestream migrate`. Raises ValueError, and ImportError without asyncpg.
    """

    def __init__(self, url: str, retention: Retention | None = None) -> None:
        self._address = Address.parse(url)
        if importlib.util.find_spec("asyncpg") is None:
            raise ImportError(_MISSING, name="asyncpg")
        self.retention = retention or Retention()
        self.clock = AgeClock()
        self._statements = Statements(self._address.schema)
        connector = Connector(self._address)
        self._writing, self._reading, self._upkeep = (Connection(connector, self._doubt) for _ in range(3))
        """The last one is for checkpoints and trimming, during which the others stay free."""
        self._wake_ups = WakeUps(connector, self._statements, lambda: self._writing.pid, self._doubt)
        self._tidying = Tidying(self._statements, self.clock, self.retention.id_bytes)
        self._is_open = False

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The journal of a URL. Raises ValueError."""
        try:
            return cls(url)
        except ImportError as error:
            raise ValueError(str(error)) from None

    async def open(self) -> None:
        try:
            await self._prepare(migrate=self._address.migrate)
            await self._writing.connect()
            await self._reading.connect()
            await self._wake_ups.open()
            await self._tidying.begin(self._writing)
        except _failures() as error:
            await self.close()
            raise _unusable(error) from error
        except BaseException:
            await self.close()
            raise
        self._is_open = True

    async def migrate(self) -> tuple[int, int]:
        """Creates or migrates the tables, whatever the URL says. Returns the versions before and after."""
        try:
            return await self._prepare(migrate=True)
        except _failures() as error:
            raise _unusable(error) from error
        finally:
            await self._upkeep.close()

    async def _prepare(self, *, migrate: bool) -> tuple[int, int]:
        await self._upkeep.connect()
        return await self._upkeep.run(lambda driver: schema.prepare(driver, self._statements, migrate=migrate))

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(Unavailable):  # then the last noted time remains
                await self._tidying.note_time(self._writing)
        for connection in (self._wake_ups, self._upkeep, self._reading, self._writing):
            await connection.close()

    def _doubt(self, long: bool) -> None:
        """One of the connections was silent: the network may have lost the others with it.

        If it was for as `long` as any statement may take, others do not go on waiting on those that dispatches need.
        """
        for connection in (self._writing, self._reading):
            connection.doubt(in_use=long)
        for each in (self._wake_ups, self._upkeep):
            each.doubt()

    async def head(self) -> Position:
        return await changes.head(self._reading, self._statements)

    async def earliest(self) -> Position:
        return await changes.earliest(self._reading, self._statements)

    async def append(self, batch: Batch) -> list[Appended]:
        outcomes = await changes.append(self._writing, self._statements, batch, self.clock.now())
        if outcomes:
            self._wake_ups.written = outcomes[-1].position
        size = changes.record_bytes(batch, RECORD_BYTES)
        if size:
            with contextlib.suppress(Unavailable):  # the batch is durable; what is too much is forgotten later
                await self._tidying.recorded(self._writing, size)
        return outcomes

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        return await changes.lookup(self._reading, self._statements, keys, self.clock.now())

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        return await changes.read(self._reading, self._statements, after, limit, selection)

    async def wait(self, after: Position) -> None:
        await self._wake_ups.wait(after)

    async def checkpoints(self) -> Sequence[Checkpoint]:
        return await keeping.checkpoints(self._reading, self._statements)

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        return await keeping.saved(self._reading, self._statements, checkpoint, selection)

    async def index(self, checkpoint: Position, selection: Selection = EVERYTHING) -> dict[str, int]:
        return await keeping.index(self._reading, self._statements, checkpoint, selection)

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        await keeping.save(self._upkeep, self._statements, position, slices, self.clock.now())

    async def trim(self, until: Position) -> None:
        await self._tidying.trim(self._upkeep, until)

    async def tidy(self) -> None:
        await self._tidying.tidy(self._upkeep)

    async def records(self, after: IdempotencyKey | None = None) -> Sequence[KeptRecord]:
        return await adopting.records(self._reading, self._statements, after or ("", ""), self.clock.now())

    async def begin_at(self, position: Position, slices: Mapping[str, SliceState]) -> None:
        versions = {name: state.version for name, state in slices.items()}
        await adopting.begin_at(self._writing, self._statements, position, versions)
        await self.save(position, slices)

    async def adopt(self, adopted: Sequence[Change], records: Sequence[KeptRecord]) -> None:
        self._wake_ups.written = await adopting.adopt(self._writing, self._statements, adopted, records)

    async def erase(self, names: Collection[str], actor: str | None = None) -> Position | None:
        """Replaces the rows. The database keeps dead ones until a VACUUM; see `erasing`."""
        erased = await erasing.erase(self._upkeep, self._statements, names, actor, self.clock.now())
        if erased is not None:
            self._wake_ups.written = erased
        return erased

    async def rewrite(self, changes: Sequence[tuple[Change, Change]]) -> bool:
        return await folding.rewrite(self._upkeep, self._statements, changes)

    async def folded_until(self) -> Position:
        return await folding.folded_until(self._upkeep, self._statements)

    async def note_folded(self, position: Position) -> None:
        await folding.note(self._upkeep, self._statements, position)

    async def check_writable(self, *, by_writing: bool) -> None:
        """Raises Unavailable if the database is away or accepts no writes. Writes the time after a failed append."""
        if by_writing:
            await self._tidying.note_time(self._writing)
        elif (await self._reading.fetch_one(self._statements["writable"]))["read_only"]:
            raise Unavailable("the journal's database accepts no writes")


def _failures() -> tuple[type[Exception], ...]:
    return (Unavailable, *driver_errors())


def _unusable(error: Exception) -> JournalUnusable:
    """The driver's own message says what is wrong. It contains the address and the role at most, never a password."""
    cause: Any = error.__cause__ if isinstance(error, Unavailable) and error.__cause__ is not None else error
    message = str(cause).partition("\n")[0] or type(cause).__name__
    return JournalUnusable(f"the journal's database cannot be used: {message}")
