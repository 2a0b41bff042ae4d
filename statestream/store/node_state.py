"""What this node knows to be committed: the slices, as of a position of the journal.

Invariants: the state moves only by what the journal has, in the journal's order. `append` and `catch_up` apply and
announce in one step, without an await in between; `load` replaces everything and announces a reset. Whoever calls these
three holds the writer's lock. After an append with an unknown outcome the state is stale: the journal must be read
before the next append. A checkpoint is made concurrently, from states that never change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from statestream.core.change import PAGE, START, Change, Position, SliceState, new_id, now_ms
from statestream.core.errors import Expired, Forked, StatestreamError, Unavailable
from statestream.journal.contract import Appended, Batch, Conflict, Duplicate, Entry, Journal
from statestream.journal.history import History
from statestream.store.bus import Bus, ResetReason
from statestream.store.registry import HandlerRegistry
from statestream.store.transaction import value_after

log = logging.getLogger("statestream")

BEGIN_ATTEMPTS: Final = 100


class NodeState:
    """`slices` maps full names to their states. It stays the same object. `instances` are the names in each family."""

    def __init__(self, journal: Journal, bus: Bus) -> None:
        self.bus = bus
        self.use(journal)
        self.slices: dict[str, SliceState] = {}
        self.instances: dict[str, dict[str, None]] = {}
        self.position = START
        self.stale = False
        self._dirty: set[str] = set()
        self._checkpointed = 0
        self._captured: tuple[Position, dict[str, SliceState | None]] | None = None
        self._checkpoint_due = asyncio.Event()
        self._checkpointing = asyncio.Lock()

    def use(self, journal: Journal) -> None:
        """Sets the journal, until the state is first loaded."""
        self.journal, self.history = journal, History(journal)

    async def load(self, reason: ResetReason = "forked") -> None:
        """Replaces the state with the journal's and announces a reset. Raises Unavailable, JournalUnusable."""
        snapshot = await self.history.load()
        self.slices.clear()
        self.slices.update(snapshot.slices)
        self.instances = instances_of(self.slices)
        self.position, self._checkpointed, self.stale = snapshot.position, snapshot.checkpoint, False
        self._captured = None
        self._dirty = {change.slice for change in snapshot.changes if change.version > snapshot.checkpoint}
        self.bus.reset(snapshot.since, snapshot.changes, reason)

    async def begin(self, registry: HandlerRegistry) -> None:
        """Appends the initial value of plain slices that have none, so that no state depends on code alone."""
        for _ in range(BEGIN_ATTEMPTS):
            changes = registry.initial_changes(self.slices, new_id())
            if not changes:
                return
            entry = Entry(idempotency_key=None, digest=b"", changes=changes, at=now_ms())
            versions = {change.slice: 0 for change in changes}
            try:
                await self.journal.append(Batch(read=self.position, versions=versions, entries=[entry]))
            except Conflict:
                log.info("another node has opened the same journal first")
            await self.catch_up()
        raise Unavailable("other nodes were always first to write the initial values; try again")

    async def append(
        self, entries: Sequence[Entry], versions: Mapping[str, int], value_of: Callable[[Change], Any]
    ) -> list[Appended]:
        """Appends, applies what others wrote in between, then applies this. `value_of` is what a change leads to.

        Raises Forked, Duplicate, Conflict: nothing was written. After any other error the state is stale.
        """
        try:
            outcomes = await self.journal.append(Batch(read=self.position, versions=versions, entries=entries))
            changes = [change for outcome in outcomes for change in outcome.changes]
            if changes and changes[0].version > self.position.seq + 1:
                await self.catch_up(before=changes[0].version)
            if changes and changes[0].version == self.position.seq + 1:  # else catching up has loaded these as well
                self._apply(changes, value_of)
        except (Forked, Expired, Duplicate, Conflict):
            raise
        except BaseException:
            self.stale = True
            raise
        return outcomes

    async def catch_up(self, before: int | None = None) -> None:
        """Applies what others wrote, and what this node wrote without knowing, up to the head or up to `before`."""
        try:
            while before is None or self.position.seq < before - 1:
                limit = PAGE if before is None else min(PAGE, before - 1 - self.position.seq)
                page = await self.journal.read(self.position, limit)
                for change in page.changes:
                    self._apply([change], self._value_after)
                if not page.changes:
                    break
        except Expired:
            await self.load("expired")
        except Forked:
            await self.load("forked")
        self.stale = False

    def _value_after(self, change: Change) -> Any:
        held = self.slices.get(change.slice)
        return value_after(None if held is None else held.value, change)

    def _apply(self, changes: Sequence[Change], value_of: Callable[[Change], Any]) -> None:
        """Swaps the state and announces the changes."""
        for change in changes:
            before = self.slices.get(change.slice)
            if before is None and change.kind != "removed":
                _add_instance(self.instances, change.slice)
            if change.kind == "removed":
                self.slices.pop(change.slice, None)
                self.instances.get(change.slice.partition("/")[0], {}).pop(change.slice, None)
            elif change.kind == "patches" and before is not None:
                self.slices[change.slice] = before.patched(value_of(change), change)
            else:
                self.slices[change.slice] = SliceState(value_of(change), change.position, change.data)
            self._dirty.add(change.slice)
        self.position = changes[-1].position
        if self._captured is None and self.position.seq - self._checkpointed >= self.journal.retention.checkpoint:
            self._capture()
        self.bus.announce(changes)

    # checkpoints

    def _capture(self) -> None:
        """Notes what the next checkpoint will hold. States never change, so it can be written at leisure."""
        names, self._dirty = self._dirty, set()
        self._captured = (self.position, {name: self.slices.get(name) for name in names})
        self._checkpoint_due.set()

    async def keep_checkpoints(self) -> None:
        """Makes a checkpoint whenever one is due, until cancelled. Appends do not wait for it."""
        while True:
            await self._checkpoint_due.wait()
            self._checkpoint_due.clear()
            try:
                await asyncio.shield(self._checkpoint())
            except Exception:
                log.exception("no checkpoint could be made")

    async def checkpoint(self) -> None:
        """Keeps the state of now, if it is certain and has changed since the last checkpoint."""
        await self._checkpoint()
        if not self.stale and self.position.seq > self._checkpointed:
            self._capture()
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        """Writes what was captured, if anything was."""
        async with self._checkpointing:
            captured = self._captured
            if captured is None:
                return
            position, slices = captured
            saved = False
            try:
                await self.history.checkpoint(position, slices)
                saved = True
            except StatestreamError as error:
                log.warning("no checkpoint could be made, a restart will take longer: %s", error)
            finally:
                if self._captured is captured:  # otherwise the state was replaced meanwhile
                    self._captured = None
                    if saved:
                        self._checkpointed = position.seq
                    else:
                        self._dirty |= slices.keys()


def instances_of(names: Iterable[str]) -> dict[str, dict[str, None]]:
    """The full names of instances by their family."""
    instances: dict[str, dict[str, None]] = {}
    for name in names:
        _add_instance(instances, name)
    return instances


def _add_instance(instances: dict[str, dict[str, None]], name: str) -> None:
    family, slash, _ = name.partition("/")
    if slash:
        instances.setdefault(family, {})[name] = None
