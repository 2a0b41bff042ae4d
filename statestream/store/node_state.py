"""What this node knows to be committed: the slices, as of a position of the journal.

Invariants: the state moves only by what the journal has, in the journal's order. `append` and `catch_up` apply and
announce in one step, without an await in between; `load` replaces everything and announces a reset. Whoever calls these
three holds `lock`. After an append with an unknown outcome the state is stale: the journal must be read
before the next append. `upkeep` is notified of all applied changes. A change of another node to an instance that is
away moves its version, and leaves its value away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, TypeVar

from statestream.core.change import PAGE, START, Change, SliceState, new_id, now_ms
from statestream.core.errors import Expired, Forked, Unavailable
from statestream.journal.contract import Appended, Batch, Conflict, Duplicate, Entry, Journal
from statestream.journal.history import History
from statestream.store import tracing
from statestream.store.bus import Bus, ResetReason
from statestream.store.fetching import Fetching
from statestream.store.loaded import LoadedSlices, NotLoaded
from statestream.store.misfits import Misfits
from statestream.store.opening import Opening
from statestream.store.registry import HandlerRegistry
from statestream.store.schemas import NAME as NOTES
from statestream.store.schemas import PREFIX, Schemas
from statestream.store.tracing import Span
from statestream.store.transaction import value_after
from statestream.store.unloading import Unloading
from statestream.store.upgrading import Upgrading
from statestream.store.upkeep import Upkeep
from statestream.store.vitals import Vitals

log = logging.getLogger("statestream")

BEGIN_ATTEMPTS: Final = 100
LOAD_ATTEMPTS: Final = 5
AWAY: Final = object()
T = TypeVar("T")


class NodeState:
    """`slices` stays the same object. Values that are away are fetched with `fetch`.

    `lock` is held while the state moves. `locked=True` says that the caller holds it: to fetch a value may be to
    upgrade it, which moves the state.

    `forget_shown` is called with the names of slices that were erased, before that is announced.
    Instances are unloaded that were not used for `idle` seconds; None: never, and all are loaded at the start.
    """

    def __init__(
        self,
        registry: HandlerRegistry,
        journal: Journal,
        bus: Bus,
        forget_shown: Callable[[Collection[str]], None],
        idle: float | None = None,
    ) -> None:
        self.bus, self._registry, self._idle = bus, registry, idle
        self._forget_shown = forget_shown
        self.lock = asyncio.Lock()
        self.slices = LoadedSlices()
        self.schemas = Schemas(registry.slices)
        self.position = START
        self.stale = False
        self._begun = False
        """Whether the history that was loaded has what the code has to write before it serves."""
        self.vitals = Vitals(journal)
        self.upkeep = Upkeep(self.slices, journal, self.vitals.troubles, lambda: registry.gradual)
        self.unloading = Unloading(self.slices, self.upkeep.is_dirty)
        self._misfits = Misfits(registry)
        self._fetching = Fetching(self.slices, bus, lambda: self.position, self._misfits)
        self._upgrading = Upgrading(registry, self.slices, self.schemas)
        self.use(journal)

    def use(self, journal: Journal) -> None:
        """Sets the journal, until the state is first loaded."""
        self.journal, self.history = journal, History(journal)
        self.slices.whole = self._idle is None or not self.history.keeps
        self._fetching.use(self.history)
        self.upkeep.use(journal)
        self.vitals.use(journal)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """What is to run while the node works."""
        idle = None if self.slices.whole else self._idle
        return [self.upkeep.run(), *([] if idle is None else [self.unloading.run(idle)])]

    async def fetch(self, names: Iterable[str], *, locked: bool = False) -> None:
        """Returns once the values of those that exist are in memory. Raises Unavailable, JournalUnusable."""
        wanted = frozenset(names)
        while missing := self.slices.missing(wanted):
            if old := self._upgrading.old(missing):
                await self._upgrade(old, locked=locked)
            else:
                await self._fetching.fetch(missing)

    async def _upgrade(self, names: Collection[str], *, locked: bool) -> None:
        """Upgrades those that are still as they are read now. Raises Unavailable, JournalUnusable."""
        states = await self._fetching.written(names)
        async with contextlib.nullcontext() if locked else self.lock:
            if self.stale:
                await self.catch_up()
            entry, versions = self._upgrading.plan(states)
            if not entry.changes:
                return
            try:
                await self.append([entry], versions, lambda change: change.value, ())
            except Conflict:  # another node was first, or newer code
                await self.catch_up()
            except Forked:
                await self.load("forked")
                await self.catch_up()
            except Expired:
                await self.load("expired")

    async def complete(self, pure: Callable[[], T], *, locked: bool = False) -> T:
        """The result of a synchronous function, which may be called several times until no value that it needs is away.

        Raises what it raises, and Unavailable, JournalUnusable.
        """
        try:
            return pure()
        except NotLoaded as away:
            names = away.names
        with self.slices.holding() as held:
            while True:
                self.slices.hold(new := names - held)
                held |= new
                await self.fetch(names, locked=locked)
                try:
                    return pure()
                except NotLoaded as away:
                    names = away.names

    async def load(self, reason: ResetReason = "forked") -> None:
        """Replaces the state with the journal's and announces a reset. Raises Unavailable, JournalUnusable."""
        for _ in range(LOAD_ATTEMPTS):  # what is held may change meanwhile
            snapshot = await self.history.newest(wanted := self.slices.wanted)
            if self.slices.wanted == wanted:
                break
        if reason == "forked":
            self._begun = False
        self.slices.replace(snapshot.versions, snapshot.slices)
        self.schemas.load(self.slices.instances.get(NOTES, {}))
        self._look_at(snapshot.slices)
        self.position, self.stale = snapshot.position, False
        self.upkeep.loaded(snapshot)
        self.bus.reset(snapshot.since, snapshot.changes, reason)

    def _look_at(self, states: Mapping[str, SliceState]) -> None:
        """Leaves instances of earlier versions away until they are upgraded, and tells of values that do not fit."""
        for name, state in states.items():
            if not self.schemas.is_old(name, state.version):
                self._misfits.look(name, state)
            elif "/" in name and not self.slices.whole:
                self.slices.unload(name)

    async def begin(self) -> None:
        """Appends what the code that is declared has to write before it serves. Raises JournalUnusable, Unavailable."""
        conflicts = 0
        opening = Opening(self._registry, self.slices, self.schemas, new_id())
        while plan := await self.complete(opening.plan, locked=True):
            entry = Entry(idempotency_key=None, digest=b"", changes=tuple(each.change for each in plan), at=now_ms())
            versions = {name: version for each in plan for name, version in each.based_on.items()}
            try:
                await self.journal.append(Batch(read=self.position, versions=versions, entries=[entry]))
            except Conflict:
                log.info("another node has opened the same journal first")
                conflicts += 1
            if conflicts > BEGIN_ATTEMPTS:
                raise Unavailable("other nodes were always first to write what this one begins with; try again")
            await self.catch_up(beginning=True)
        self._begun = True
        if undeclared := Opening(self._registry, self.slices, self.schemas, "").undeclared():
            log.warning(
                "the journal has slices that the code does not declare: %s; keep it or remove it with "
                "Store(…, removed=[…])",
                ", ".join(undeclared),
            )

    async def append(
        self,
        entries: Sequence[Entry],
        versions: Mapping[str, int],
        value_of: Callable[[Change], Any],
        traced: Sequence[Span],
    ) -> list[Appended]:
        """Appends, applies what others wrote in between, then applies this. `value_of` is what a change leads to.

        `traced` are the spans of requests among the entries.
        Raises Forked, Duplicate, Conflict: nothing was written. After any other error the state is stale.
        """
        try:
            batch = Batch(read=self.position, versions=versions, entries=entries)
            outcomes = await self._appended(batch, traced)
            changes = [change for outcome in outcomes for change in outcome.changes]
            if changes and changes[0].version > self.position.seq + 1:
                await self.catch_up(before=changes[0].version)
            if changes and changes[0].version == self.position.seq + 1:  # else catching up has loaded these as well
                self._apply_parts(changes, value_of, traced)
            elif not changes and outcomes and outcomes[-1].position.seq > self.position.seq:
                await self.catch_up()  # what is acknowledged is at the head: nobody may find this node behind it
        except (Forked, Expired, Duplicate, Conflict):
            raise
        except BaseException:
            self.stale = True
            raise
        finally:
            self.vitals.announcing = ()
        return outcomes

    async def _appended(self, batch: Batch, traced: Sequence[Span]) -> list[Appended]:
        """What the journal has made of a batch; how long that took, or that it failed, is noted."""
        began, at = perf_counter(), tracing.now()
        try:
            outcomes = await self.journal.append(batch)
        except (Forked, Expired, Duplicate, Conflict):
            raise
        except Exception as error:
            self.vitals.append_failed(error)
            raise
        self.vitals.appended(perf_counter() - began)
        for span in traced:
            span.part("statestream.append", at, tracing.now())
        return outcomes

    async def catch_up(self, before: int | None = None, *, beginning: bool = False) -> None:
        """Applies what others wrote, and what this node wrote without knowing, up to the head or up to `before`.

        How long that took to arrive here is measured, unless the node is only `beginning`.
        """
        try:
            while before is None or self.position.seq < before - 1:
                limit = PAGE if before is None else min(PAGE, before - 1 - self.position.seq)
                page = await self.journal.read(self.position, limit)
                if page.changes and not beginning:
                    self.vitals.follow.observe(max(0, now_ms() - page.changes[0].at) / 1000)
                if any(change.is_folded for change in page.changes):
                    raise Expired("this node is so far behind that what it has missed was folded")
                for change in page.changes:
                    self._apply([change], self._value_after)
                if not page.changes:
                    break
        except Expired:
            await self.load("expired")
        except Forked:
            await self.load("forked")
        self.stale = False
        if not self._begun and not beginning:  # the history is another one, which may even be empty
            await self.begin()

    def _value_after(self, change: Change) -> Any:
        """The value after a change that another node made; AWAY if that takes a value that is away."""
        held = self.slices.peek(change.slice)
        if change.kind == "value":
            stays = held is not None or "/" not in change.slice or self._stays(change)
            return change.value if stays else AWAY
        return AWAY if held is None else value_after(held.value, change)

    def _stays(self, change: Change) -> bool:
        """Whether an instance that is away is to be in memory from this change on."""
        held = self.slices.is_held(change.slice)
        return held and (self.slices.whole or not self.schemas.is_old(change.slice, change.version))

    def _own_value_after(self, change: Change) -> Any:
        """The same after a change of this node, which has the value in memory unless it was unloaded meanwhile."""
        return change.value if change.kind == "value" else self._value_after(change)

    def _apply_parts(
        self, changes: Sequence[Change], value_of: Callable[[Change], Any], traced: Sequence[Span]
    ) -> None:
        """Applies what this node has appended. `value_of` knows only what all of it leads to."""
        for part in self.bus.parts(changes):
            if part[-1] is changes[-1]:
                self.vitals.announcing = traced
            self._apply(part, value_of if len(part) == len(changes) else self._own_value_after)

    def _apply(self, changes: Sequence[Change], value_of: Callable[[Change], Any]) -> None:
        """Swaps the state and announces the changes."""
        erased: list[str] = []
        for change in changes:
            if change.kind == "removed":
                self.slices.remove(change.slice)
                if change.is_erasure:
                    erased.append(change.slice)
                continue
            self._set(change, value_of(change))
            if change.from_version == 0 and change.slice.startswith(PREFIX):
                self.schemas.note(change.slice, change.version)
                self._note_outdated()
        self.position = changes[-1].position
        self.upkeep.applied(changes)
        if erased:
            self._erased(frozenset(erased))
        self.bus.announce(changes)

    def _erased(self, names: Collection[str]) -> None:
        """Leaves nothing in memory of what these slices were."""
        self.bus.erase(names)
        self.upkeep.erased(names)
        self._forget_shown(names)

    def _set(self, change: Change, value: Any) -> None:
        before = self.slices.peek(change.slice)
        if value is AWAY:
            self.slices.moved(change.slice, change.version)
        elif change.kind == "patches" and before is not None:
            self.slices.put(change.slice, before.patched(value, change))
        else:
            encoded = change.data if change.kind == "value" else None
            self.slices.put(change.slice, SliceState(value, change.position, encoded))

    def _note_outdated(self) -> None:
        """Newer code may have taken over a slice: this node goes on showing it."""
        if self.schemas.outdated():
            self.vitals.troubles.begin("outdated")
