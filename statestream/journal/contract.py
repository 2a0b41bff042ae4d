"""What a journal promises: the only thing between an accepted action and its loss.

A journal keeps one history: changes numbered 1, 2, 3 … without a hole, each with the random tag of
the batch that it was written in. (seq, tag) is a Position; two histories that share a position are
the same up to there. It also keeps how each remembered request ended, and checkpoints: the state of
every slice as of some position.

Guarantees that every journal gives, and that the contract test holds it to:

1. `append` is atomic. When it returns, the batch is as durable as the journal's docstring says. When
   it raises Forked, Duplicate or Conflict, nothing was written. When it raises anything else, the
   outcome is unknown: the caller must `read` before it appends again.
2. `append` compares before it writes, in this order: the position that the writer has read up to is
   part of this history (Forked), no remembered request of the batch is done already (Duplicate), every
   slice that it writes or expects still has the version it was based on (Conflict).
3. `read` gives the changes behind a position in order without a hole, or raises: Forked if the position
   is not part of this history, Expired if it lies below what is kept. The last trimmed position is kept.
4. Requests are remembered for 24 hours by their own clock, whatever is trimmed.
5. Trimming goes oldest first, stops at a checkpoint, and never takes the newest `Retention.changes`.

Invariants: a journal knows nothing of handlers, readers or HTTP. Errors of its driver never pass: they are
Unavailable while running, JournalUnusable at `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from msgspec import Struct

from statestream.core.change import (
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    PendingChange,
    Position,
    SliceState,
    Snapshot,
)
from statestream.core.patch import replay

REMEMBERED_MS: Final = 24 * 3600 * 1000
RECENT: Final = 1_000
PAGE: Final = 1_000
"""How many changes are read at a time."""
PAGE_BYTES: Final = 4 << 20
"""Of the changes that are read at a time, however many were asked for: what a reader of the past costs in memory."""


class Retention(Struct, frozen=True, kw_only=True):
    """How much history is kept behind the newest checkpoint: resumes and time travel reach as far back.

    Trimmed is what is older than `age` seconds or beyond `bytes`, but never the newest `changes`. A
    checkpoint is made every `checkpoint` changes: a restart replays at most as many.
    """

    changes: int = 10_000
    age: float = 7 * 24 * 3600.0
    bytes: int = 1 << 30
    checkpoint: int = 1_000


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One request of a batch. `remember` is None where the caller gave no id: then no record is kept."""

    idempotency_key: IdempotencyKey | None
    digest: bytes
    effects: tuple[PendingChange, ...]
    at: int


class Batch(Struct, frozen=True, kw_only=True):
    """`read`: how far its writer has read. `versions`: what every slice that it writes or expects must still have."""

    read: Position
    versions: Mapping[str, int]
    entries: Sequence[Entry]


class Appended(Struct, frozen=True, kw_only=True, gc=False):
    """An entry's outcome: its changes, and the position that answers it."""

    position: Position
    changes: tuple[Change, ...]


def everything(_: str) -> bool:
    """Every slice is wanted."""
    return True


class Journal(Protocol):
    """What every journal has; the module's text says what it guarantees.

    One store uses a journal object at a time, unless it says otherwise.
    """

    retention: Retention

    async def open(self) -> None:
        """Makes it ready, creating what is missing. Raises JournalUnusable."""

    async def close(self) -> None:
        """Releases everything; may be called twice."""

    async def load(self, at: Position | None = None, wanted: Callable[[str], bool] = everything) -> Snapshot:
        """The state at `at` (None: the newest position) of the `wanted` slices. Values are fresh.

        It tells the changes since the checkpoint before; of the newest state, further back where there are
        fewer than RECENT. Raises Forked, Expired, Unavailable.
        """

    async def earliest(self) -> Position:
        """The oldest position that is kept: `load` and `read` go back as far."""

    async def append(self, batch: Batch) -> list[Appended]:
        """Writes the batch and numbers its changes. Raises Forked, Duplicate, Conflict, Unavailable."""

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        """How these requests ended, as far as they are remembered."""

    async def read(self, after: Position, limit: int) -> list[Change]:
        """The changes behind `after`: at most `limit`, fewer where they are more than PAGE_BYTES, one at least.

        None if `after` is the newest position. Raises Forked, Expired, Unavailable.
        """

    async def wait(self, after: Position) -> None:
        """Returns when there may be changes behind `after`. May return for nothing, but never sleeps through."""

    async def checkpoint(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        """Keeps the state at `position`, given what changed since the last one (None: removed), and trims."""


def number(batch: Batch, head: Position, tag: str) -> list[Appended]:
    """The batch's changes with their places behind `head`: seq, `from`, and the tag that all of them share."""
    seq, last = head.seq, head
    versions = dict(batch.versions)
    outcomes = []
    for entry in batch.entries:
        changes = []
        for effect in entry.effects:
            seq += 1
            last = Position(seq=seq, tag=tag)
            changes.append(
                Change(
                    position=last,
                    slice=effect.slice,
                    from_version=versions.get(effect.slice, 0),
                    kind=effect.kind,
                    data=effect.data,
                    cause=effect.cause,
                    at=entry.at,
                )
            )
            versions[effect.slice] = 0 if effect.kind == "removed" else seq
        outcomes.append(Appended(position=last, changes=tuple(changes)))
    return outcomes


def page_of(changes: Iterable[Change]) -> list[Change]:
    """The first of them, up to PAGE_BYTES; the first in any case."""
    page: list[Change] = []
    size = 0
    for change in changes:
        size += change.size
        if page and size > PAGE_BYTES:
            break
        page.append(change)
    return page


def record(entry: Entry, outcome: Appended) -> IdempotencyRecord:
    changes = tuple((change.slice, change.version) for change in outcome.changes)
    return IdempotencyRecord(digest=entry.digest, position=outcome.position, changes=changes)


def replayed(slices: dict[str, tuple[Any, Position]], changes: Iterable[Change]) -> dict[str, SliceState]:
    """The slices after the changes. Values of `slices` are used up: they are changed in place."""
    for change in changes:
        if change.kind == "removed":
            slices.pop(change.slice, None)
        elif change.kind == "value":
            slices[change.slice] = (orjson.loads(change.data), change.position)
        else:
            slices[change.slice] = (replay(slices[change.slice][0], change.patches), change.position)
    return {name: SliceState(value, position) for name, (value, position) in slices.items()}


def trim_to(
    checkpoints: Sequence[tuple[Position, int, int]], head: Position, retention: Retention, now: int
) -> Position | None:
    """The checkpoint to trim to, of (position, Unix ms, bytes of the changes before it back to the one before).

    `checkpoints` are in order; None: nothing to trim.
    """
    target = None
    behind = sum(size for _, _, size in checkpoints)
    for position, at, size in checkpoints:
        behind -= size
        if position.seq > head.seq - retention.changes:
            break
        if at >= now - retention.age * 1000 and behind + size <= retention.bytes:
            break
        target = position
    return target
