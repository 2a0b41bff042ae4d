"""How a journal erases slices, whatever the engine; `core/erasing.py` says what remains of their changes.

Nothing is left of the slices in checkpoints. An idempotency record stays, so that a repeat of its request has no
effect, but without the digest of the request and without the slices.

Invariants: pure. Erasing what is erased changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec.structs import replace

from statestream.core.change import ERASED, Cause, IdempotencyRecord, PendingChange, Position, new_id, now_ms
from statestream.core.erasing import NOTHING
from statestream.journal.contract import Batch, Entry


def erasure(head: Position, versions: Mapping[str, int], actor: str | None) -> Batch:
    """The batch that erases these slices, given the head and their versions."""
    cause = Cause(type=ERASED, id=new_id(), actor=actor, payload=NOTHING)
    changes = tuple(PendingChange(slice=name, kind="removed", data=b"", cause=cause) for name in versions)
    entry = Entry(idempotency_key=None, digest=b"", changes=changes, at=now_ms())
    return Batch(read=head, versions=versions, entries=[entry])


def names_erased(record: IdempotencyRecord, names: Collection[str]) -> bool:
    """Whether a record is about one of these slices."""
    return any(name in names for name, _ in record.changes)


def record_after(record: IdempotencyRecord, names: Collection[str]) -> IdempotencyRecord:
    """What remains of a record that is about one of these slices. Without a digest, every repeat is taken for one."""
    return replace(record, digest=b"", changes=tuple(pair for pair in record.changes if pair[0] not in names))
