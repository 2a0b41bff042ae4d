"""What remains of the changes of a slice that was erased.

An erasure is a change of its slice, so that every node and every reader learns of it in order. Each earlier change of
the slice becomes a tombstone: it keeps its position, its slice and its `from_version`, so that the history stays
without a gap and a client can still resume from before it. What the change held is gone, and so is its cause. An action
may have changed other slices as well: their changes stay, without the payload of that action.

Invariants: pure. Erasing what is erased changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from msgspec.structs import replace

from statestream.core.change import ERASED, Cause, Change

NOTHING: Final = b"{}"
"""The payload that remains."""
_GONE: Final = Cause(type=ERASED, id="", actor=None, payload=NOTHING)


def tombstone(change: Change) -> Change:
    """What remains of a change of an erased slice."""
    return change if change.is_erased else replace(change, kind="removed", data=b"", cause=_GONE)


def without_erased(changes: Iterable[Change], names: Collection[str]) -> dict[int, Change]:
    """What is to replace changes of the history, by seq. `changes` are in order, and whole requests.

    These are the changes of erased slices, and those that came of the same actions.
    """
    kept = tuple(changes)
    gone = {_action_of(change) for change in kept if change.slice in names and not change.is_erased}
    replaced = {}
    for change in kept if gone else ():
        after = change
        if change.slice in names:
            after = tombstone(change)
        elif _action_of(change) in gone and change.cause.payload != NOTHING:
            after = replace(change, cause=replace(change.cause, payload=NOTHING))
        if after is not change:
            replaced[change.version] = after
    return replaced


def _action_of(change: Change) -> tuple[str, str, str, bytes]:
    """What changes of the same action have in common."""
    return change.position.tag, change.cause.id, change.cause.type, change.cause.payload


def scrubbed(changes: list[Change]) -> list[Change]:
    """Changes in order, some of which may have been read before an erasure that is among them."""
    last = {change.slice: change.version for change in changes if change.is_erasure}
    if not last:
        return changes
    return [tombstone(change) if change.version < last.get(change.slice, 0) else change for change in changes]
