"""Looks at a journal as a whole: what it holds, and whether all of it fits.

Invariants: nothing is written. It uses the contract only, so any engine can be inspected, also while a server writes to
it: what comes after the head at the beginning is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence

import orjson
from msgspec import Struct

from statestream.core.change import START, IdempotencyKey, Position
from statestream.core.errors import Expired, JournalUnusable
from statestream.core.folding import Merged
from statestream.core.values import same
from statestream.journal.contract import Checkpoint, Checkpoints, Journal, Portable
from statestream.journal.exporting import pages
from statestream.journal.history import Held, History, advance


class FamilySize(Struct, kw_only=True):
    """The size of a plain slice, or of all instances of a keyed one: their values, and the changes that are kept."""

    instances: int = 0
    state_bytes: int = 0
    changes: int = 0
    history_bytes: int = 0


class Overview(Struct, frozen=True, kw_only=True):
    """What a journal holds. `began` and `ended` are the times of the first and the last change that are kept.

    `records` is how many requests are remembered; None if the engine cannot say.
    """

    earliest: Position
    head: Position
    began: int | None
    ended: int | None
    families: Mapping[str, FamilySize]
    checkpoints: Sequence[Checkpoint]
    records: int | None


class Verified(Struct, frozen=True, kw_only=True):
    """What was read and found to be right."""

    earliest: Position
    head: Position
    changes: int
    checkpoints: int
    records: int | None


async def overview(journal: Journal) -> Overview:
    """Raises Expired if the history is trimmed meanwhile, JournalUnusable, Unavailable."""
    earliest, head = await journal.earliest(), await journal.head()
    families: dict[str, FamilySize] = defaultdict(FamilySize)
    began = ended = None
    async for changes in pages(journal, earliest, head):
        for change in changes:
            family = families[_family(change.slice)]
            family.changes += 1
            family.history_bytes += change.size
            began, ended = began or change.at, change.at
    snapshot = await History(journal).load()
    for name, state in snapshot.slices.items():
        family = families[_family(name)]
        family.instances += 1
        family.state_bytes += state.measured
    points = await journal.checkpoints() if isinstance(journal, Checkpoints) else ()
    return Overview(
        earliest=earliest,
        head=head,
        began=began,
        ended=ended,
        families=dict(sorted(families.items())),
        checkpoints=points,
        records=await _count_records(journal),
    )


def _family(name: str) -> str:
    family, slash, _ = name.partition("/")
    return f"{family}/*" if slash else family


async def verify(journal: Journal) -> Verified:
    """Reads everything that the journal keeps, which checks its checksums, and runs the history from its beginning.

    At each checkpoint, the state must be the one that the changes lead to. Raises JournalUnusable if something does not
    fit, Expired if the history is trimmed meanwhile, Unavailable.
    """
    earliest, head = await journal.earliest(), await journal.head()
    held: Held = {}
    if earliest != START:
        snapshot = await History(journal).load(earliest)
        held = {name: (state.value, state.position) for name, state in snapshot.slices.items()}
    points = await journal.checkpoints() if isinstance(journal, Checkpoints) else ()
    waiting = {point.position.seq: point.position for point in points}
    changes = checkpoints = 0
    merged = Merged()
    if earliest.seq in waiting:
        checkpoints += await _compare(journal, waiting[earliest.seq], held, ())
    async for page in pages(journal, earliest, head):
        for change in page:
            advance(held, merged([change]))
            changes += 1
            if change.version in waiting:
                checkpoints += await _compare(journal, waiting[change.version], held, merged.open)
    records = await _count_records(journal)
    return Verified(earliest=earliest, head=head, changes=changes, checkpoints=checkpoints, records=records)


async def _compare(journal: Journal, point: Position, held: Held, unknown: Container[str]) -> int:
    """Compares a checkpoint with the state there. 0 if it has been trimmed meanwhile.

    What slices were in the middle of a folded run is `unknown`.
    """
    assert isinstance(journal, Checkpoints)
    try:
        saved = await journal.saved(point)
    except Expired:
        return 0
    if len(saved) != len(held):
        raise JournalUnusable(
            f"the checkpoint at {point} does not have the slices to which the changes lead; restore a backup"
        )
    for each in saved:
        value, position = held.get(each.name, (None, START))
        if each.name in unknown and each.name in held:
            continue
        if position != each.position or not same(value, orjson.loads(each.data)):
            raise JournalUnusable(
                f"a slice in the checkpoint at {point} is not the one to which the changes lead; restore a backup"
            )
    return 1


async def _count_records(journal: Journal) -> int | None:
    """How many requests are remembered. Reading them checks them, and none may name a change that does not exist."""
    if not isinstance(journal, Portable):
        return None
    count, after = 0, None
    while found := await journal.records(after):
        head = await journal.head()
        if any(each.record.position.seq > head.seq for each in found):
            raise JournalUnusable("the record of a request names a change that does not exist; restore a backup")
        count += len(found)
        last: IdempotencyKey = found[-1].key
        after = last
    return count
