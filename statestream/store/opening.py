"""What a store writes when it opens a journal: versions, upgrades, new names, removals, and initial values.

Instances of an earlier version are upgraded when they are first used (`upgrading.py`), because there may be many. If
all values are in memory anyway, they are upgraded here.

Invariants: pure. A plan is made of the state that is loaded, and made again after it was written, until it is empty: so
a plan may be a part of what is to do, and another node may do some of it. A change of a plan depends on the slice being
as it was when the plan was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from msgspec import Struct

from statestream.core.change import Cause, PendingChange, SliceState
from statestream.core.errors import HandlerFailed, InvalidValue, JournalUnusable
from statestream.core.selection import EVERYTHING, Selection
from statestream.core.slices import Slice
from statestream.core.values import encode
from statestream.store.loaded import LoadedSlices, NotLoaded
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import Schemas, note_of

AT_ONCE: Final = 500
"""Changes in one plan, beside versions: they are written as one batch, which everybody else waits for."""


class Planned(Struct, frozen=True, kw_only=True):
    """A change to be written, and the versions on which it depends. `what` says it in a report."""

    change: PendingChange
    based_on: Mapping[str, int]
    what: str


class Opening:
    """What code that declares these slices has to do with a state."""

    def __init__(self, registry: HandlerRegistry, slices: LoadedSlices, schemas: Schemas, request_id: str) -> None:
        self._registry, self._slices, self._schemas = registry, slices, schemas
        self._cause = Cause(type="statestream/opened", id=request_id, actor=None, payload=b"{}")
        self._upgrade = upgrade_cause(request_id)
        self._away: set[str] = set()

    def plan(self, most: int | None = AT_ONCE) -> list[Planned]:
        """The next changes; all of them if `most` is None. Empty if there is nothing to do.

        Raises JournalUnusable, and NotLoaded for all values at once that it needs.
        """
        self._schemas.check()
        self._away.clear()
        planned = [*self._notes(), *islice(self._changes(), most)]
        if self._away:
            raise NotLoaded(self._away)
        return planned

    def _changes(self) -> Iterator[Planned]:
        yield from self._renamed()
        yield from self._upgraded()
        yield from self._removed()
        yield from self._initial()

    def undeclared(self) -> list[str]:
        """The slices in the state that the code neither declares nor removes nor renames."""
        known = {*self._registry.slices, *self._registry.removed, *self._registry.renamed}
        families = {name.partition("/")[0] for name in self._slices.versions(EVERYTHING)}
        return sorted(families - known)

    def _of(self, name: str) -> dict[str, int]:
        """The versions of a slice, or of its instances."""
        return self._slices.versions(Selection(names=frozenset((name,)), families=frozenset((name,))))

    def _data(self, declared: Slice, name: str, version: int) -> bytes:
        """The encoded value of a slice or instance in the current version. Notes if it is away."""
        try:
            state = self._slices.get(name)
        except NotLoaded:
            self._away.add(name)
            return b""
        return b"" if state is None else upgraded(declared, name, state, version)

    def _notes(self) -> Iterator[Planned]:
        for each in self._registry.slices.values():
            for version in range(self._schemas.known(each.name) + 1, each.upgrades.version + 1):
                name = note_of(each.name, version)
                yield self._planned(name, b"{}", {name: 0}, f"version {version} of {each.name} is noted")

    def _upgraded(self) -> Iterator[Planned]:
        """Values of earlier versions, of slices that have any."""
        for declared in self._registry.slices.values():
            if declared.upgrades.version == 1 or (declared.keyed and not self._slices.whole):
                continue
            for name, seq in self._of(declared.name).items():
                if self._schemas.is_old(name, seq):
                    data = self._data(declared, name, self._schemas.version_of(name, seq))
                    change = PendingChange(slice=name, kind="value", data=data, cause=self._upgrade)
                    yield Planned(change=change, based_on={name: seq}, what=f"{declared.name} is upgraded")

    def _renamed(self) -> Iterator[Planned]:
        for before, declared in self._registry.renamed.items():
            for name, seq in self._of(before).items():
                _, slash, key = name.partition("/")
                if bool(slash) != declared.keyed:
                    continue
                now = f"{declared.name}{slash}{key}"
                if now not in self._slices:
                    data = self._data(declared, name, self._schemas.version_of(name, seq))
                    yield self._planned(now, data, {now: 0, name: seq}, f"{before} is now {declared.name}")
                gone = PendingChange(slice=name, kind="removed", data=b"", cause=self._cause)
                yield Planned(change=gone, based_on={name: seq}, what=f"the old name {before} is removed")

    def _removed(self) -> Iterator[Planned]:
        for family in sorted(self._registry.removed):
            for name, seq in self._of(family).items():
                gone = PendingChange(slice=name, kind="removed", data=b"", cause=self._cause)
                yield Planned(change=gone, based_on={name: seq}, what=f"{family} is removed")

    def _initial(self) -> Iterator[Planned]:
        """The initial values of plain slices that do not exist, so that no state depends on code alone."""
        renamed = {each.name for before, each in self._registry.renamed.items() if before in self._slices}
        for each in self._registry.slices.values():
            if not each.keyed and each.name not in self._slices and each.name not in renamed:
                yield self._planned(
                    each.name, encode(each.initial), {each.name: 0}, f"{each.name} gets its initial value"
                )

    def _planned(self, name: str, data: bytes, based_on: Mapping[str, int], what: str) -> Planned:
        change = PendingChange(slice=name, kind="value", data=data, cause=self._cause)
        return Planned(change=change, based_on=based_on, what=what)


def upgrade_cause(request_id: str) -> Cause:
    """The cause of a change that upgrades a value."""
    return Cause(type="statestream/upgraded", id=request_id, actor=None, payload=b"{}")


def upgraded(declared: Slice, name: str, state: SliceState, version: int) -> bytes:
    """The encoded value of a slice or instance in the current version. Raises JournalUnusable."""
    if version >= declared.upgrades.version:
        return state.encoded()
    try:
        data = encode(declared.upgrades.run(state.value, version))
        if declared.type is not None and declared.checked:
            declared.type.check(data)
    except (HandlerFailed, InvalidValue) as error:
        raise JournalUnusable(f"{name} of the journal cannot be upgraded: {error}; it stays as it was") from error
    return data
