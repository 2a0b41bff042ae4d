"""What a journal returns while an erasure is not finished: nothing of what it erases, whatever the server still has.

A script that reads also returns the unfinished erasures, as of the same moment. What they erase is taken out here, by
the same functions that then produce what takes its place in the journal.

Invariants: pure. What was written to a slice after its erasure stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from statestream.core.change import Change
from statestream.core.erasing import without_erased
from statestream.journal.redis.packing import record_without

Erasures = Mapping[str, int]
"""Slices, and the seqs of their erasures."""


def erasures_of(pairs: Sequence[bytes]) -> Erasures:
    """Of names and seqs in turn."""
    return {name.decode(): int(seq) for name, seq in zip(pairs[::2], pairs[1::2], strict=True)}


def changes_left(changes: Sequence[Change], erasures: Erasures) -> list[Change]:
    """What remains of changes in order, which are those of whole batches."""
    left = list(changes)
    for seq in sorted(set(erasures.values())):
        names = {name for name, at in erasures.items() if at == seq}
        replaced = without_erased((change for change in left if change.version < seq), names)
        if replaced:
            left = [replaced.get(change.version, change) for change in left]
    return left


def records_left(values: Sequence[bytes | None], erasures: Erasures) -> Sequence[bytes | None]:
    """What remains of idempotency records."""
    if not erasures:
        return values
    return [value if value is None else record_without(value, erasures) for value in values]
