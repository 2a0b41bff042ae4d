"""The journal that keeps nothing: for tests, demos, and state that may be lost.

Promise after a crash: none. A new MemoryJournal is another history, which readers notice by the tag.
One object may serve several stores in one process; they then are nodes of one cluster.

Invariants: every coroutine but `wait` runs without awaiting, so each is atomic on its event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from statestream.core.change import (
    START,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Position,
    SliceState,
    Snapshot,
    new_tag,
    now_ms,
    total_size,
)
from statestream.core.errors import Conflict, Duplicate, Expired, Forked
from statestream.journal.contract import (
    RECENT,
    REMEMBERED_MS,
    Appended,
    Batch,
    Retention,
    everything,
    number,
    page_of,
    record,
    replayed,
    trim_to,
)


class MemoryJournal:
    """A journal that keeps nothing over a restart.

    `retention` bounds the history: by default at most 64 MiB beyond 10,000 changes.
    """

    def __init__(self, retention: Retention | None = None) -> None:
        self.retention = retention or Retention(bytes=64 << 20)
        self._changes: list[Change] = []
        self._earliest = START
        self._versions: dict[str, int] = {}
        self._records: dict[IdempotencyKey, tuple[int, IdempotencyRecord]] = {}
        self._checkpoints: list[tuple[Position, int, int]] = []
        self._kept: dict[str, list[tuple[int, SliceState | None]]] = {}
        self._kept_at = START
        self._waiting: set[asyncio.Future[None]] = set()

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to release: the history lives as long as the object."""

    @property
    def _head(self) -> Position:
        return self._changes[-1].position if self._changes else self._earliest

    async def load(self, at: Position | None = None, wanted: Callable[[str], bool] = everything) -> Snapshot:
        position = at or self._head
        self._verify(position)
        points = [self._earliest.seq, *(point.seq for point, _, _ in self._checkpoints)]
        checkpoint = max(seq for seq in points if seq <= position.seq)
        since = checkpoint if at else max(self._earliest.seq, min(checkpoint, position.seq - RECENT))
        held: dict[str, tuple[Any, Position]] = {}
        for name, versions in self._kept.items():
            state = next((state for seq, state in reversed(versions) if seq <= checkpoint), None)
            if state is not None and wanted(name):
                held[name] = (orjson.loads(state.encoded()), state.position)
        behind = self._changes[since - self._earliest.seq : position.seq - self._earliest.seq]
        changes = tuple(change for change in behind if wanted(change.slice))
        return Snapshot(
            position=position,
            slices=replayed(held, (change for change in changes if change.version > checkpoint)),
            checkpoint=checkpoint,
            since=self._earliest
            if since == self._earliest.seq
            else self._changes[since - self._earliest.seq - 1].position,
            changes=changes,
        )

    async def earliest(self) -> Position:
        return self._earliest

    async def append(self, batch: Batch) -> list[Appended]:
        self._verify(batch.read)
        ids = [entry.idempotency_key for entry in batch.entries if entry.idempotency_key]
        if ids and (done := await self.lookup(ids)):
            raise Duplicate(done)
        moved = [name for name, version in batch.versions.items() if self._versions.get(name, 0) != version]
        if moved:
            raise Conflict(f"expected to be first to change {', '.join(moved)}; read what came before")
        outcomes = number(batch, self._head, new_tag())
        for entry, outcome in zip(batch.entries, outcomes, strict=True):
            for change in outcome.changes:
                self._changes.append(change)
                if change.kind == "removed":
                    self._versions.pop(change.slice, None)
                else:
                    self._versions[change.slice] = change.version
            if entry.idempotency_key:
                self._records.pop(entry.idempotency_key, None)  # in the order of age
                self._records[entry.idempotency_key] = (entry.at, record(entry, outcome))
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        return outcomes

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        horizon = now_ms() - REMEMBERED_MS
        while self._records and (oldest := next(iter(self._records.items())))[1][0] < horizon:
            del self._records[oldest[0]]
        found = {key: self._records[key] for key in keys if key in self._records}
        return {key: kept for key, (at, kept) in found.items() if at >= horizon}

    def _verify(self, position: Position) -> None:
        """Raises Forked or Expired unless `position` is part of this history and changes behind it are kept."""
        index = position.seq - self._earliest.seq - 1
        if index < -1:
            raise Expired(f"expected a position from {self._earliest} on, got one that is no longer kept")
        known = self._earliest if index == -1 else self._changes[index].position if index < len(self._changes) else None
        if known != position:
            raise Forked("expected a position of this history, got one of another; read the state anew")

    async def read(self, after: Position, limit: int) -> list[Change]:
        self._verify(after)
        start = after.seq - self._earliest.seq
        return page_of(self._changes[start : start + limit])

    async def wait(self, after: Position) -> None:
        while self._head == after:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    async def checkpoint(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        if position.seq <= self._kept_at.seq:
            return
        covered = self._changes[self._kept_at.seq - self._earliest.seq : position.seq - self._earliest.seq]
        for name, state in slices.items():
            self._kept.setdefault(name, []).append((position.seq, state))
        now = now_ms()
        self._kept_at = position
        self._checkpoints.append((position, now, total_size(covered)))
        target = trim_to(self._checkpoints, self._head, self.retention, now)
        if target is not None:
            del self._changes[: target.seq - self._earliest.seq]
            self._checkpoints = [point for point in self._checkpoints if point[0].seq > target.seq]
            self._earliest = target
            self._forget()

    def _forget(self) -> None:
        """Drops what only positions below the floor needed."""
        for name, versions in tuple(self._kept.items()):
            at_floor = [entry for entry in versions if entry[0] <= self._earliest.seq][-1:]
            kept = [entry for entry in at_floor if entry[1] is not None]
            kept += [entry for entry in versions if entry[0] > self._earliest.seq]
            if kept:
                self._kept[name] = kept
            else:
                del self._kept[name]
