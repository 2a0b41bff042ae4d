"""What would happen if a store opened its journal now, without doing it.

Invariants: reads only. What the code would do is what `opening` plans; here it is counted for a report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import orjson
from msgspec import Struct

from statestream.core.change import Action, Change, Position, SliceState, new_id
from statestream.core.errors import JournalUnusable, StatestreamError
from statestream.core.slices import Slice
from statestream.journal.contract import Journal
from statestream.journal.history import RECENT, History
from statestream.store.loaded import LoadedSlices
from statestream.store.misfits import misfit
from statestream.store.opening import Opening, upgraded
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import NAME as NOTES
from statestream.store.schemas import Schemas


class Preview(Struct, frozen=True, kw_only=True):
    """`steps` are what the code would write when it opens the journal, with the number of values.

    `later` counts the instances of earlier versions, by slice: each is upgraded when it is first used. `unusable` has
    the values that cannot be upgraded, or do not fit the type of their slice, by name, and why. `undeclared` counts the
    values of slices that the code does not know. `refused` has the actions among recent ones that it would refuse: how
    many, and why.
    """

    position: Position
    steps: Mapping[str, int]
    later: Mapping[str, int]
    unusable: Mapping[str, str]
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
        later, unusable = _values(registry, schemas, snapshot.slices)
    finally:
        await journal.close()
    recent = snapshot.changes[-RECENT:]
    return Preview(
        position=snapshot.position,
        steps=steps,
        later=later,
        unusable=unusable,
        undeclared=counted,
        recent=len(recent),
        refused=_refused(registry, recent),
    )


def _values(
    registry: HandlerRegistry, schemas: Schemas, states: Mapping[str, SliceState]
) -> tuple[Counter[str], dict[str, str]]:
    """The instances that would be upgraded later, by slice, and the values that the code could not use, and why."""
    later, unusable = Counter[str](), dict[str, str]()
    for name, state in states.items():
        family, slash, _ = name.partition("/")
        declared = registry.slices.get(family)
        if declared is None:
            continue
        if not schemas.is_old(name, state.version):
            problem = misfit(declared, name, state)
        elif slash:
            later[family] += 1
            problem = _why_not_upgraded(declared, name, state, schemas)
        else:
            continue  # it is among the steps
        if problem is not None:
            unusable[name] = problem
    return later, unusable


def _why_not_upgraded(declared: Slice, name: str, state: SliceState, schemas: Schemas) -> str | None:
    """Why an instance cannot be upgraded; None if it can."""
    try:
        upgraded(declared, name, state, schemas.version_of(name, state.version))
    except JournalUnusable as error:
        return str(error)
    return None


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
