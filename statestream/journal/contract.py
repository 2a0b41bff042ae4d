"""What a journal engine promises.

A journal keeps one history: changes numbered 1, 2, 3 … without a gap, each with the random tag of the batch that wrote
it. (seq, tag) is a Position. Two histories that share a position are the same up to that position. A journal also keeps
one idempotency record for each request that came with an id.

Guarantees, which `statestream.testing.JournalContract` verifies:

1. `append` is atomic. When it returns, the batch is as durable as the engine's docstring says. When it raises Forked,
   Expired, Duplicate or Conflict, nothing was written. When it raises anything else, the outcome is unknown, and the
   caller must `read` before it appends again.
2. `append` compares before it writes, in this order: the position that the writer has read is part of this history
   (else Forked) and not older than the earliest one (else Expired), no request of the batch has been recorded before
   (else Duplicate), and every slice that the batch writes or expects still has the version that the batch is based on
   (else Conflict).
3. `read` returns changes in order and without a gap, or raises: Forked if the position is not part of this history,
   Expired if it is older than the earliest position. The earliest position itself can be read from.
4. Idempotency records live for 24 hours by the journal's `clock`, whatever is trimmed and whatever the wall clock says.
   If they take more than `Retention.id_bytes`, the oldest are forgotten first.

An engine that also implements Checkpoints supports trimming, restarts that do not read the whole history, and time
travel at a bounded cost. `history.py` uses both protocols; engines know nothing of it.

Invariants: a journal knows nothing of handlers, subscribers or HTTP. Errors of a driver never leave an engine: they
become Unavailable while it runs and JournalUnusable in `open`. If an engine finds that stored data is damaged, it
raises JournalUnusable instead of returning it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from msgspec import Struct

from statestream.core.change import (
    PAGE,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Page,
    PendingChange,
    Position,
    SliceState,
)
from statestream.core.clock import AgeClock
from statestream.core.errors import StatestreamError, Unavailable
from statestream.core.selection import EVERYTHING, Selection

IDEMPOTENCY_MS: Final = 24 * 3600 * 1000
PAGE_BYTES: Final = 4 << 20
"""The limit of a page in bytes, which bounds what reading the past costs in memory."""


class Conflict(StatestreamError):
    """Another writer changed the same slices first. The store runs the request again; callers never see this."""

    retryable = True


class Duplicate(StatestreamError):
    """Some requests of the batch have been recorded before: `records` has their outcomes. Callers never see this."""

    def __init__(self, records: Mapping[IdempotencyKey, IdempotencyRecord]) -> None:
        self.records = dict(records)
        super().__init__(f"{len(self.records)} of the batch's requests have been recorded before")


class CheckpointClaimed(Unavailable):
    """Another process is making a checkpoint of this journal. That is no failure: the store tries again later."""

    def __init__(self) -> None:
        super().__init__("another process is making a checkpoint of this journal")


class Retention(Struct, frozen=True, kw_only=True):
    """How much history is kept, and how many ids of requests are remembered.

    The history is trimmed to the newest `changes`, to those of the last `age` seconds, and to `bytes`, in which the
    intermediate states of its checkpoints count too. 0 means no limit. Each limit applies independently: the one that
    is reached first counts. Resuming and time travel reach as far back as the history does. The newest state is always
    kept.

    To keep trimming cheap, a limit can be exceeded for a while: `changes` by the changes between two checkpoints; `age`
    by an eighth and a second; `bytes` by an eighth, or 64 KiB, or the size of the slices that have changed since the
    last checkpoint, whichever is largest.

    An id is remembered for 24 hours, and all of them take at most `id_bytes`: beyond that, the oldest are forgotten.

    A checkpoint is made at least every `checkpoint` changes, and a restart reads about that many at most. If `changes`
    is less than `checkpoint`, a checkpoint is made after every eighth of `changes`.

    Changes of gradual actions that follow each other are folded into one, `fold_after` seconds after the first
    checkpoint behind them; None: never. Readers resume as before. The states in between are lost.
    """

    changes: int = 0
    age: float = 7 * 24 * 3600.0
    bytes: int = 1 << 30
    id_bytes: int = 256 << 20
    checkpoint: int = 1_000
    fold_after: float | None = 600.0


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One request of a batch. `idempotency_key` is None if the caller gave no id; then no record is kept."""

    idempotency_key: IdempotencyKey | None
    digest: bytes
    changes: tuple[PendingChange, ...]
    at: int


class Batch(Struct, frozen=True, kw_only=True):
    """Requests to append together.

    `read` is how far the writer has read. `versions` has, for every slice that the batch writes or expects, the
    version that it is based on; 0 stands for a slice that does not exist.
    """

    read: Position
    versions: Mapping[str, int]
    entries: Sequence[Entry]


class Appended(Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of an entry: its changes, and the position to answer the request with."""

    position: Position
    changes: tuple[Change, ...]


class Journal(Protocol):
    """The primitives that every engine implements. The module's docstring lists the guarantees.

    One store uses a journal object at a time, unless the engine says otherwise.
    """

    retention: Retention
    clock: AgeClock
    """The clock by which this journal measures ages."""

    async def open(self) -> None:
        """Connects, and creates what is missing. Raises JournalUnusable."""

    async def close(self) -> None:
        """Releases everything. May be called twice."""

    async def head(self) -> Position:
        """The newest position."""

    async def earliest(self) -> Position:
        """The oldest position that can be read from."""

    async def append(self, batch: Batch) -> list[Appended]:
        """Writes the batch and numbers its changes. Raises Forked, Expired, Duplicate, Conflict, Unavailable."""

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        """The idempotency records that exist under these keys."""

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        """The selected ones of the next `limit` changes after a position.

        A page ends early rather than exceed PAGE_BYTES, but a page that is not at the head always moves on:
        `until == after` means that `after` is the newest position. Raises Forked, Expired, Unavailable.
        """

    async def wait(self, after: Position) -> None:
        """Returns once there may be changes after a position. May return too early, never too late."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A position at which the state is kept.

    `at` is when it was made, by the journal's clock. `bytes` is the space for it and the changes since the last one:
    the size of these changes, and of the slices that were saved.
    """

    position: Position
    at: int
    bytes: int


class SavedSlice(Struct, frozen=True, kw_only=True, gc=False):
    """A slice in a checkpoint: its name, the position of its last change, its value as JSON."""

    name: str
    position: Position
    data: bytes


@runtime_checkable
class Checkpoints(Protocol):
    """What an engine adds that can keep the state itself, beside the changes, and forget old changes."""

    async def checkpoints(self) -> Sequence[Checkpoint]:
        """The complete checkpoints that are kept, oldest first."""

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        """The selected slices as of a checkpoint. Raises Expired if it is not kept.

        Selected names cost what these slices hold, however many others there are. A store selects up to a few hundred
        at a time.
        """

    async def index(self, checkpoint: Position, selection: Selection = EVERYTHING) -> dict[str, int]:
        """The versions of the selected slices as of a checkpoint, by name. Raises Expired if it is not kept.

        It reads no values: a store begins with it, however much the slices hold.
        """

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        """Makes a checkpoint of what changed since the last one (None: the slice was removed).

        Does nothing if a checkpoint at `position` or later exists. Appends go on meanwhile. A checkpoint that was
        interrupted is never visible. Raises Forked, Unavailable, and CheckpointClaimed if another process is
        making one.
        """

    async def trim(self, until: Position) -> None:
        """Forgets the changes up to `until`, a checkpoint, which stays one and becomes the earliest position."""

    async def tidy(self) -> None:
        """Does work that is not urgent: forgets idempotency records that are too old or too many, returns unused space.

        A store calls it about once a minute. Appends continue in the meantime.
        """


@runtime_checkable
class Writable(Protocol):
    """What an engine adds that can tell whether the next append would succeed, without an append."""

    async def check_writable(self, *, by_writing: bool) -> None:
        """Raises Unavailable if the journal cannot be written to.

        A store calls it about once a second while somebody asks for its health, so it must be cheap and should write
        nothing. `by_writing`: the last append failed. Then it should write something that changes nothing, because
        nothing else proves that the journal has recovered.
        """


class KeptRecord(Struct, frozen=True, kw_only=True, gc=False):
    """An idempotency record with its key, and when it was made, by the journal's clock."""

    key: IdempotencyKey
    record: IdempotencyRecord
    at: int


@runtime_checkable
class Portable(Protocol):
    """What an engine adds whose content can be moved to and from another journal, with its positions and ids."""

    async def records(self, after: IdempotencyKey | None = None) -> Sequence[KeptRecord]:
        """The next idempotency records in the order of their keys, after a key. Empty if there are no more."""

    async def begin_at(self, position: Position, slices: Mapping[str, SliceState]) -> None:
        """Makes the history of an empty journal begin at a position, with a checkpoint of the state there.

        Raises Forked if the journal is not empty, Unavailable.
        """

    async def adopt(self, changes: Sequence[Change], records: Sequence[KeptRecord]) -> None:
        """Appends what another journal has numbered, as it is, with the same guarantees as `append`.

        The last change must be the last one of its batch. Raises Forked if the changes do not continue the history or
        the slices, Unavailable.
        """


@runtime_checkable
class Erasable(Protocol):
    """What an engine adds that can forget slices, whenever they changed."""

    async def erase(self, names: Collection[str], actor: str | None = None) -> Position | None:
        """Erases slices as they are now, on behalf of `actor`. `erasing.py` says what that means.

        Returns the position of the last erasure; None if nothing is kept of any of the slices, and nothing was written.
        All of it takes effect, or nothing, whenever the process ends. What an engine does afterwards to overwrite the
        space is finished by the next `open` if it was interrupted. No checkpoint from before has these slices, not even
        one that is being made. It runs beside appends, of the same store too. Raises Unavailable.
        """


@runtime_checkable
class Foldable(Protocol):
    """What an engine adds whose history can be folded. `folding.py` does it."""

    async def rewrite(self, changes: Sequence[tuple[Change, Change]]) -> bool:
        """Replaces changes of the past by others with the same position, slice and `from_version`.

        All of them, if each is as it was read, the first of its pair; otherwise none, and the answer is False. It holds
        up appends no longer than a batch does. Raises Unavailable.
        """

    async def folded_until(self) -> Position:
        """The last position that was noted; the start if there is none. It may be trimmed meanwhile."""

    async def note_folded(self, position: Position) -> None:
        """Notes up to where the history was looked through, unless a later position is noted. Raises Unavailable."""


@runtime_checkable
class Migratable(Protocol):
    """What an engine adds whose tables somebody with more rights than the server may have to create or migrate."""

    async def migrate(self) -> tuple[int, int]:
        """Creates or migrates the tables of a journal that is not open. Returns their versions before and after.

        The version before is 0 if there were none. Raises JournalUnusable.
        """


def number(batch: Batch, head: Position, tag: str) -> list[Appended]:
    """The batch's changes after `head`: each with its seq, its `from`, and the tag that all of them share."""
    seq, last = head.seq, head
    versions = dict(batch.versions)
    outcomes = []
    for entry in batch.entries:
        changes = []
        for pending in entry.changes:
            seq += 1
            last = Position(seq=seq, tag=tag)
            changes.append(
                Change(
                    position=last,
                    slice=pending.slice,
                    from_version=versions.get(pending.slice, 0),
                    kind=pending.kind,
                    data=pending.data,
                    cause=pending.cause,
                    at=entry.at,
                )
            )
            versions[pending.slice] = 0 if pending.kind == "removed" else seq
        outcomes.append(Appended(position=last, changes=tuple(changes)))
    return outcomes


def page_of(changes: Iterable[Change], until: Position) -> Page:
    """A page of the first changes, up to PAGE_BYTES but at least one. A complete page reaches `until`."""
    kept: list[Change] = []
    size = 0
    for change in changes:
        size += change.size
        if kept and size > PAGE_BYTES:
            return Page(changes=kept, until=kept[-1].position)
        kept.append(change)
    return Page(changes=kept, until=until)


def idempotency_record(entry: Entry, outcome: Appended) -> IdempotencyRecord:
    changes = tuple((change.slice, change.version) for change in outcome.changes)
    return IdempotencyRecord(digest=entry.digest, position=outcome.position, changes=changes)
