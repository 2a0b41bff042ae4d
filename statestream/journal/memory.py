"""The journal in memory: for tests, demos, and state that may be lost.

Durability: none. A new MemoryJournal is another history; clients notice by the tags. One object may serve several
stores in one process, which then are nodes of one cluster.

Invariants: every coroutine but `wait` runs without awaiting, so each is atomic on its event loop.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from statestream.core.change import (
    PAGE,
    START,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    Position,
    SliceState,
    new_tag,
    total_size,
)
from statestream.core.clock import AgeClock
from statestream.core.erasing import without_erased
from statestream.core.errors import Expired, Forked
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import (
    IDEMPOTENCY_MS,
    Appended,
    Batch,
    Checkpoint,
    Conflict,
    Duplicate,
    Retention,
    SavedSlice,
    idempotency_record,
    number,
    page_of,
)
from statestream.journal.erasing import erasure, names_erased, record_after

CHANGE_BYTES: Final = 250
"""Approximate memory of the objects of a change, beyond its `size`."""
RECORD_BYTES: Final = 600
PAIR_BYTES: Final = 150
"""Approximate memory of an idempotency record, and of each change that it names."""


class MemoryJournal:
    """A journal that keeps nothing over a restart.

    `retention` bounds the history and the ids of requests; by default each takes at most 64 MiB.
    """

    def __init__(self, retention: Retention | None = None) -> None:
        self.retention = retention or Retention(bytes=64 << 20, id_bytes=64 << 20)
        self.clock = AgeClock()
        self._changes: list[Change] = []
        self._earliest = START
        self._versions: dict[str, int] = {}
        self._records = IdempotencyRecords(self.retention.id_bytes)
        self._checkpoints: list[Checkpoint] = []
        self._saved: dict[str, list[tuple[int, SliceState | None]]] = {}
        self._outdated: set[str] = set()
        """The slices in `_saved` of which a trim may remove something. A trim looks at no others."""
        self._erased: dict[str, int] = {}
        """Where slices were erased, for checkpoints before that are made later."""
        self._folded_until = START
        self._waiting: set[asyncio.Future[None]] = set()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The journal of `memory:`. Raises ValueError if the URL says more."""
        if url not in ("memory:", "memory://"):
            raise ValueError("expected a journal URL like memory:, without anything behind it")
        return cls()

    @cached_property
    def files_folder(self) -> Path:
        """Where files can be that the state names. It is removed with this object, or when the process ends."""
        folder = Path(tempfile.gettempdir(), f"statestream-{secrets.token_hex(16)}")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release: the history lives as long as the object."""

    async def head(self) -> Position:
        return self._head

    @property
    def _head(self) -> Position:
        return self._changes[-1].position if self._changes else self._earliest

    async def earliest(self) -> Position:
        return self._earliest

    async def append(self, batch: Batch) -> list[Appended]:
        self._verify(batch.read)
        now = self.clock.now()
        keys = [entry.idempotency_key for entry in batch.entries if entry.idempotency_key]
        if keys and (records := self._records.find(keys, now)):
            raise Duplicate(records)
        moved = [name for name, version in batch.versions.items() if self._versions.get(name, 0) != version]
        if moved:
            raise Conflict(f"{', '.join(moved)} changed since it was read; reload and retry")
        outcomes = number(batch, self._head, new_tag())
        for entry, outcome in zip(batch.entries, outcomes, strict=True):
            for change in outcome.changes:
                self._changes.append(change)
                if change.kind == "removed":
                    self._versions.pop(change.slice, None)
                else:
                    self._versions[change.slice] = change.version
            if entry.idempotency_key:
                self._records.add(entry.idempotency_key, idempotency_record(entry, outcome), now)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        return outcomes

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        return self._records.find(keys, self.clock.now())

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        self._verify(after)
        start = after.seq - self._earliest.seq
        changes = self._changes[start : start + limit]
        return page_of(selection.among(changes), changes[-1].position if changes else after)

    def _verify(self, position: Position) -> None:
        """Raises Forked or Expired unless `position` is part of this history and changes after it are kept."""
        index = position.seq - self._earliest.seq - 1
        if index < -1:
            raise Expired(f"the journal goes back to {self._earliest} only; start without a position")
        known = self._changes[index].position if 0 <= index < len(self._changes) else self._earliest
        if known != position:
            raise Forked("the position is not part of this history; start without a position")

    async def wait(self, after: Position) -> None:
        while self._head == after:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    # checkpoints

    async def checkpoints(self) -> Sequence[Checkpoint]:
        return tuple(self._checkpoints)

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        return [
            SavedSlice(name=name, position=state.position, data=state.encoded())
            for name, state in self._kept_at(checkpoint, selection)
        ]

    async def index(self, checkpoint: Position, selection: Selection = EVERYTHING) -> dict[str, int]:
        return {name: state.version for name, state in self._kept_at(checkpoint, selection)}

    def _kept_at(self, checkpoint: Position, selection: Selection) -> Iterator[tuple[str, SliceState]]:
        """The selected slices that exist at a checkpoint."""
        if all(point.position != checkpoint for point in self._checkpoints):
            raise Expired("the checkpoint is not kept any more; read the checkpoints again")
        few = not (selection.everything or selection.families)
        for name in selection.names if few else self._saved:
            versions = self._saved.get(name, ())
            state = next((state for seq, state in reversed(versions) if seq <= checkpoint.seq), None)
            if state is not None and selection.matches(name):
                yield name, state

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        self._verify(position)
        newest = self._checkpoints[-1].position.seq if self._checkpoints else self._earliest.seq
        if position.seq <= newest:
            return
        kept = {name: state for name, state in slices.items() if self._erased.get(name, 0) <= position.seq}
        for name, state in kept.items():
            versions = self._saved.setdefault(name, [])
            versions.append((position.seq, state))
            if len(versions) > 1 or state is None:
                self._outdated.add(name)
        covered = self._changes[newest - self._earliest.seq : position.seq - self._earliest.seq]
        size = (
            total_size(covered)
            + CHANGE_BYTES * len(covered)
            + sum(state.measured for state in kept.values() if state is not None)
        )
        self._checkpoints.append(Checkpoint(position=position, at=self.clock.now(), bytes=size))

    async def trim(self, until: Position) -> None:
        del self._changes[: until.seq - self._earliest.seq]
        self._checkpoints = [point for point in self._checkpoints if point.position.seq >= until.seq]
        self._earliest = until
        self._erased = {name: seq for name, seq in self._erased.items() if seq > until.seq}
        for name in tuple(self._outdated):
            versions = self._saved[name]
            before = [entry for entry in versions if entry[0] <= until.seq][-1:]
            kept = [entry for entry in before if entry[1] is not None]
            kept += [entry for entry in versions if entry[0] > until.seq]
            if kept:
                self._saved[name] = kept
            else:
                del self._saved[name]
            if len(kept) <= 1 and all(state is not None for _, state in kept):
                self._outdated.discard(name)

    async def tidy(self) -> None:
        self._records.forget(self.clock.now())

    # erasing

    async def erase(self, names: Collection[str], actor: str | None = None) -> Position | None:
        gone = frozenset(names)
        replaced = without_erased(self._changes, gone)
        if not (replaced or gone & self._versions.keys() or self._has_saved(gone) or self._records.name_any(gone)):
            return None
        versions = {name: self._versions.get(name, 0) for name in sorted(gone)}
        [outcome] = await self.append(erasure(self._head, versions, actor))
        self._changes = [replaced.get(change.version, change) for change in self._changes]
        for name in gone:
            self._saved.pop(name, None)
            self._outdated.discard(name)
            self._erased[name] = outcome.position.seq
        self._records.erase(gone)
        return outcome.position

    # folding

    async def rewrite(self, changes: Sequence[tuple[Change, Change]]) -> bool:
        places = [before.version - self._earliest.seq - 1 for before, _ in changes]
        if any(
            not 0 <= place < len(self._changes) or self._changes[place] != before
            for place, (before, _) in zip(places, changes, strict=True)
        ):
            return False
        for place, (before, after) in zip(places, changes, strict=True):
            self._changes[place] = after
            self._shrink(before.version, before.size - after.size)
        return True

    def _shrink(self, seq: int, by: int) -> None:
        """A change takes fewer bytes now, and so does the checkpoint that covers it."""
        for at, point in enumerate(self._checkpoints):
            if point.position.seq >= seq:
                self._checkpoints[at] = replace(point, bytes=point.bytes - by)
                return

    async def folded_until(self) -> Position:
        return self._folded_until

    async def note_folded(self, position: Position) -> None:
        if position.seq > self._folded_until.seq:
            self._folded_until = position

    def _has_saved(self, names: Collection[str]) -> bool:
        return any(state is not None for name in names for _, state in self._saved.get(name, ()))


class IdempotencyRecords:
    """The records, oldest first, and the bytes that they take: at most `limit`, if it is not 0."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit or math.inf, 0
        self._records: dict[IdempotencyKey, tuple[int, int, IdempotencyRecord]] = {}

    def add(self, key: IdempotencyKey, record: IdempotencyRecord, now: int) -> None:
        size = RECORD_BYTES + len(key[0]) + len(key[1]) + sum(PAIR_BYTES + len(name) for name, _ in record.changes)
        self._records[key] = (now, size, record)
        self._bytes += size
        self.forget(now)

    def find(self, keys: Iterable[IdempotencyKey], now: int) -> dict[IdempotencyKey, IdempotencyRecord]:
        self.forget(now)
        return {key: self._records[key][2] for key in keys if key in self._records}

    def name_any(self, names: Collection[str]) -> bool:
        """Whether a record is about one of these slices."""
        return any(names_erased(record, names) for _, _, record in self._records.values())

    def erase(self, names: Collection[str]) -> None:
        """Leaves nothing in the records of what is erased. They take less, which is not counted."""
        for key, (at, size, record) in self._records.items():
            if names_erased(record, names):
                self._records[key] = (at, size, record_after(record, names))

    def forget(self, now: int) -> None:
        """Forgets the records that are too old, and the oldest of those beyond the limit."""
        while self._records:
            key, (at, size, _) = next(iter(self._records.items()))
            if at >= now - IDEMPOTENCY_MS and self._bytes <= self._limit:
                break
            del self._records[key]
            self._bytes -= size
