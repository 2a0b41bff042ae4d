"""What would happen if a store opened its journal now, without doing it.

Invariants: reads only. What the code would do is what `opening` plans; here it is counted for a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import orjson
from msgspec import Struct

from statestream.core.change import Action, Change, Position, new_id
from statestream.core.errors import StatestreamError
from statestream.journal.contract import Journal
from statestream.journal.history import RECENT, History
from statestream.store.loaded import LoadedSlices
from statestream.store.opening import Opening
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import NAME as NOTES
from statestream.store.schemas import Schemas


class Preview(Struct, frozen=True, kw_only=True):
    """`steps` are what the code would write, with the number of values. `undeclared` counts the values of slices that
    it does not know. `refused` has the actions among recent ones that it would refuse: how many, and why.
    """

    position: Position
    steps: Mapping[str, int]
    undeclared: Mapping[str, int]
    recent: int
    refused: Mapping[str, tuple[int, str]]


async def preview(registry: HandlerRegistry, journal: Journal) -> Preview:
    """Raises JournalUnusable if the code could not open the journal, and Unavailable."""
    await journal.open()
    try:
        snapshot = await History(journal).load()
        schemas = Schemas(registry.slices)
        slices = LoadedSlices()
        slices.replace({name: state.version for name, state in snapshot.slices.items()}, snapshot.slices)
        schemas.load(slices.instances.get(NOTES, {}))
        opening = Opening(registry, slices, schemas, new_id())
        steps = Counter(each.what for each in opening.plan(most=None))
        undeclared = set(opening.undeclared())
        counted = Counter(family for name in snapshot.slices if (family := name.partition("/")[0]) in undeclared)
    finally:
        await journal.close()
    recent = snapshot.changes[-RECENT:]
    return Preview(
        position=snapshot.position,
        steps=steps,
        undeclared=counted,
        recent=len(recent),
        refused=_refused(registry, recent),
    )


def _refused(registry: HandlerRegistry, changes: Sequence[Change]) -> dict[str, tuple[int, str]]:
    refused: dict[str, tuple[int, str]] = {}
    for change in changes:
        kind = change.cause.type
        unknown = kind.startswith("statestream/") or kind in registry.gradual  # of which no payload is kept
        if unknown or (why := _why_not(registry, change)) is None:
            continue
        refused[kind] = (refused.get(kind, (0, ""))[0] + 1, why)
    return refused


def _why_not(registry: HandlerRegistry, change: Change) -> str | None:
    """Why the action of a change would be refused, before any handler runs; None if it would not be."""
    family, _, key = change.slice.partition("/")
    own = change.cause.type.partition("/")[0] == family
    action = Action(type=change.cause.type, payload=orjson.loads(change.cause.payload), key=key or None)
    try:
        for handler in registry.handlers(action) if own else ():
            handler.signature.load(change.cause.payload)
    except StatestreamError as error:
        return str(error)
    return None
