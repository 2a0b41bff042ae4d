"""The journal in a SQLite file: for one node, or several processes on one host.

Durability: once `append` has returned, the batch survives a process crash, a system crash and a power failure, because
SQLite flushes the write-ahead log (synchronous=FULL) first. The promise is as good as the disk's own promise about a
flush.

Invariants: every coroutine is one transaction, on the connection that writes or on the one that reads, so reading the
past never holds up a commit. A third connection checks whole checkpoints, which can take long. Only `save`, `trim`,
`tidy` and `erase` are several transactions, each of them short, because an append waits for the one that runs. The
other modules have the transactions, `schema.sql` the tables.

Damage is refused: every read is checked (`checksums.py`), `open` compares the end of the history with the file that
records it (`head_file.py`), and a batch is acknowledged only if the file is still the one at the path (`files.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from statestream.core.change import PAGE, Change, IdempotencyKey, IdempotencyRecord, Page, Position, SliceState
from statestream.core.clock import AgeClock
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Appended, Batch, Checkpoint, KeptRecord, Retention, SavedSlice
from statestream.journal.sqlite import changes, folding, noted_time, space
from statestream.journal.sqlite import checkpoints as keeping
from statestream.journal.sqlite.checksums import Checked, Ledger
from statestream.journal.sqlite.claims import Claims
from statestream.journal.sqlite.erasing import Erasing
from statestream.journal.sqlite.files import OpenFiles, check_foreign, has_room
from statestream.journal.sqlite.head_file import Acknowledged, HeadFile
from statestream.journal.sqlite.remembered import Remembered
from statestream.journal.sqlite.schema import Schema
from statestream.journal.sqlite.tidying import Tidying
from statestream.journal.sqlite.worker import SqliteWorker, transaction, translated

log = logging.getLogger("statestream")

POLL_SECONDS: Final = 0.1


class SqliteJournal:
    """The journal in the file at `path`, created if it is missing. Batches survive a crash after `append`."""

    def __init__(self, path: str | Path, retention: Retention | None = None) -> None:
        self.path = Path(path)
        self.retention = retention or Retention()
        self.clock = AgeClock()
        self._files, self._head = OpenFiles(self.path), HeadFile(self.path)
        self._writing = SqliteWorker(self.path, "IMMEDIATE", self._files.check_again)
        self._reading = SqliteWorker(self.path, "DEFERRED", self._files.check_again)
        self._checking = SqliteWorker(self.path, "DEFERRED", self._files.check_again)
        self._checked = Checked()
        self._claims = Claims()
        self._remembered = Remembered(self._writing, self._reading, self.retention.id_bytes)
        self._is_open = False
        self._erasing = Erasing(self._writing, self._reading)
        self._tidying = Tidying(self._writing, self._reading, self.clock, self._remembered)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The journal of `sqlite:///relative.db` or `sqlite:////absolute.db`. Raises ValueError for another form."""
        parts = urlsplit(url)
        if parts.netloc or len(parts.path) < 2 or parts.query:
            raise ValueError("expected a journal URL like sqlite:///path.db (sqlite:////path.db if it is absolute)")
        return cls(unquote(parts.path[1:]))

    @property
    def files_folder(self) -> Path:
        """Where files can be that the state names: beside the journal."""
        return self.path.with_name(f"{self.path.name}.files")

    async def open(self) -> None:
        try:
            check_foreign(self.path)
            await self._writing.open(self._prepare)
            await self._reading.open(lambda _: None)
            await self._checking.open(lambda _: None)
        except UnicodeDecodeError as error:
            await self.close()
            raise translated(error) from error
        except (sqlite3.Error, OSError, Unavailable) as error:
            await self.close()
            raise JournalUnusable(
                f"expected a statestream journal at {self.path} that can be read and written: {error}"
            ) from error
        except BaseException:
            await self.close()
            raise
        self._is_open = True
        try:
            await self._erasing.overwrite()
        except Unavailable as error:
            log.warning("what was erased before the last stop is still in the files, trying again later: %s", error)

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(Unavailable):  # the file cannot be written to: the last recorded time remains
                await self._tidying.note_time()
        await self._checking.close()
        await self._reading.close()
        await self._writing.close()
        self._head.close()

    async def head(self) -> Position:
        return await self._reading.run(changes.head)

    async def earliest(self) -> Position:
        return await self._reading.run(changes.earliest)

    async def append(self, batch: Batch) -> list[Appended]:
        return await self._remembered.append(batch, self.clock.now(), self._confirm)

    def _confirm(self, head: Position, ledger: Ledger) -> None:
        """Runs once a batch is durable. If it raises, nothing is announced."""
        self._files.check()
        self._head.write(Acknowledged(position=head, ledger=ledger))

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        return await self._reading.run(changes.lookup, list(keys), self.clock.now())

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        return await self._reading.run(changes.read, after, limit, selection, self._checked)

    async def wait(self, after: Position) -> None:
        """Polls: another process on the same file cannot wake this one."""
        await asyncio.sleep(POLL_SECONDS)
        while await self._reading.run(changes.head) == after:
            await asyncio.sleep(POLL_SECONDS)

    async def checkpoints(self) -> Sequence[Checkpoint]:
        return await self._reading.run(keeping.checkpoints)

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        found = await self._reading.run(keeping.saved, checkpoint, selection, self._checked)
        if found is None:
            found = await self._checking.run(keeping.saved_checked, checkpoint, selection, self._checked)
        return found

    async def index(self, checkpoint: Position, selection: Selection = EVERYTHING) -> dict[str, int]:
        return await self._reading.run(keeping.index, checkpoint, selection)

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        """In portions: a row in `checkpoints` claims the position first, and counts from its completion on.

        Raises CheckpointClaimed while another process makes a checkpoint.
        """
        claim = await self._writing.run(keeping.claim, position, self.clock.now(), self._claims)
        if claim is None:
            return
        saved = 0
        try:
            for rows in keeping.portions(position, slices):
                claim = await self._writing.run(keeping.save, position, claim, rows, self.clock.now())
                saved += sum(len(row[4] or b"") for row in rows)
            await self._writing.run(keeping.complete, position, claim, saved, self.clock.now())
        except BaseException:
            with contextlib.suppress(Unavailable):  # then the claim runs out by itself
                await self._writing.run(keeping.unclaim, position, claim)
            raise

    async def trim(self, until: Position) -> None:
        await self._writing.run(keeping.move_earliest, until)
        await self._tidying.forget(until)

    async def tidy(self) -> None:
        await self._tidying.tidy()
        await self._erasing.overwrite()

    async def erase(self, names: Collection[str], actor: str | None = None) -> Position | None:
        """Returns once the files do not contain what was erased either, see `erasing`."""
        return await self._erasing.erase(names, actor, self.clock.now(), self._confirm)

    async def rewrite(self, changes: Sequence[tuple[Change, Change]]) -> bool:
        return await self._writing.run(folding.rewrite, changes)

    async def folded_until(self) -> Position:
        return await self._reading.run(folding.folded_until)

    async def note_folded(self, position: Position) -> None:
        after = (await self.folded_until()).seq
        while after < position.seq:
            end, is_sparse = await self._reading.run(folding.sparse, after, position.seq)
            if is_sparse:
                await self._writing.run(folding.pack, after, end)
            after = end
        await self._writing.run(folding.note, position)

    async def records(self, after: IdempotencyKey | None = None) -> Sequence[KeptRecord]:
        return await self._reading.run(changes.records, after or ("", ""), self.clock.now())

    async def begin_at(self, position: Position, slices: Mapping[str, SliceState]) -> None:
        versions = {name: state.version for name, state in slices.items()}
        await self._writing.commit(
            lambda sql: changes.begin_at(sql, position, versions), lambda end: self._confirm(*end)
        )
        await self.save(position, slices)

    async def adopt(self, adopted: Sequence[Change], records: Sequence[KeptRecord]) -> None:
        await self._writing.commit(lambda sql: changes.adopt(sql, adopted, records), lambda end: self._confirm(*end))

    async def check_writable(self, *, by_writing: bool) -> None:
        """Raises Unavailable if the journal cannot be written to.

        Writes only the time, after a failed append or if the disk is nearly full, when an append may fail.
        """
        enough = await self._writing.run_outside(lambda _: self._check_files())
        if by_writing and not enough:
            raise Unavailable("the disk with the journal is full")
        if by_writing or not enough:
            await self._tidying.note_time()

    def _check_files(self) -> bool:
        """Whether their disk has room. Raises Unavailable if they are not at their paths."""
        self._files.check()
        return has_room(self.path)

    def _prepare(self, sql: sqlite3.Connection) -> None:
        """Everything that is checked and made before the journal is used. Raises JournalUnusable, sqlite3.Error."""
        known = self._head.newest()
        head, ledger = Schema(sql, self.path).prepare(known)
        if known is None and ledger.batch > 1:  # an upgraded journal has counted one
            log.warning("%s is missing; whether the newest changes are there cannot be checked", self._head.path)
        space.convert(sql)
        with transaction(sql, "IMMEDIATE"):
            noted_time.begin(sql, self.clock)
        self._files.remember()
        self._head.open(Acknowledged(position=head, ledger=ledger), self.path.stat().st_mode & 0o777)
