"""What remains of a slice that was erased, whatever the engine.

An erasure is a change of its slice, so that every node and every reader learns of it in order. In the same step, each
earlier change of the slice becomes a tombstone: it keeps its position, its slice and its `from_version`, so that the
history stays without a gap and a client can still resume from before it. What the change held is gone, and so is its
cause. An action may have changed other slices as well: their changes stay, without the payload of that action. Nothing
is left of the slice in checkpoints. An idempotency record stays, so that a repeat of its request has no effect, but
without the digest of the request and without the slice.

Invariants: pure. Erasing what is erased changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from statestream.core.change import ERASED, Cause, Change, IdempotencyRecord, PendingChange, Position, new_id, now_ms
from statestream.journal.contract import Batch, Entry

NOTHING: Final = b"{}"
"""The payload that remains."""
_GONE: Final = Cause(type=ERASED, id="", actor=None, payload=NOTHING)


def erasure(read: Position, versions: Mapping[str, int], actor: str | None) -> Batch:
    """The batch that erases these slices, given the head and their versions."""
    cause = Cause(type=ERASED, id=new_id(), actor=actor, payload=NOTHING)
    changes = tuple(PendingChange(slice=name, kind="removed", data=b"", cause=cause) for name in versions)
    entry = Entry(idempotency_key=None, digest=b"", changes=changes, at=now_ms())
    return Batch(read=read, versions=versions, entries=[entry])


def tombstone(change: Change) -> Change:
    """What remains of a change of an erased slice."""
    return change if change.is_erased else replace(change, kind="removed", data=b"", cause=_GONE)


def without_erased(changes: Iterable[Change], names: Collection[str]) -> dict[int, Change]:
    """What is to replace changes of the history, by seq. `changes` are in order, and whole batches.

    These are the changes of erased slices, and those that came of the same actions.
    """
    kept = tuple(changes)
    gone = {_action_of(change) for change in kept if change.slice in names and not change.is_erased}
    replaced = {}
    for change in kept:
        after = change
        if change.slice in names:
            after = tombstone(change)
        elif gone and _action_of(change) in gone:
            after = replace(change, cause=replace(change.cause, payload=NOTHING))
        if after is not change:
            replaced[change.version] = after
    return replaced


def _action_of(change: Change) -> tuple[str, str, str, bytes]:
    """What changes of the same action have in common."""
    return change.position.tag, change.cause.id, change.cause.type, change.cause.payload


def names_erased(record: IdempotencyRecord, names: Collection[str]) -> bool:
    """Whether a record is about one of these slices."""
    return any(name in names for name, _ in record.changes)


def record_after(record: IdempotencyRecord, names: Collection[str]) -> IdempotencyRecord:
    """What remains of a record that is about one of these slices. Without a digest, every repeat is taken for one."""
    return replace(record, digest=b"", changes=tuple(pair for pair in record.changes if pair[0] not in names))


def scrubbed(changes: Sequence[Change]) -> Sequence[Change]:
    """Changes in order, some of which may have been read before an erasure that is among them."""
    last = {change.slice: change.version for change in changes if change.is_erased}
    if not last:
        return changes
    return [tombstone(change) if change.version < last.get(change.slice, 0) else change for change in changes]
