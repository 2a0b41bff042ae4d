"""What this node knows to be committed: the slices, as of a position of the journal.

Invariants: the state moves only by what the journal has, in the journal's order: `append` and `catch_up`
apply and announce in one step without an await in between, `load` replaces everything and says so.
Nobody but the holder of the store's lock may call what awaits here. After an append whose outcome is
unknown the state is stale: the journal is read before the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from statestream.core.change import START, Change, SliceState, new_id, now_ms
from statestream.core.errors import Conflict, Duplicate, Expired, Forked, StatestreamError, Unavailable
from statestream.journal.contract import PAGE, Appended, Batch, Entry, Journal
from statestream.store.bus import Bus, Why
from statestream.store.transaction import HandlerRegistry, follow

log = logging.getLogger("statestream")

BEGIN_ATTEMPTS: Final = 100


class NodeState:
    """`slices` maps full names to their states; it stays the same object."""

    def __init__(self, journal: Journal, bus: Bus) -> None:
        self.journal, self._bus = journal, bus
        self.slices: dict[str, SliceState] = {}
        self.position = START
        self.stale = False
        self._dirty: set[str] = set()
        self._checkpointed = 0

    async def load(self, why: Why = "forked") -> None:
        """The journal's state in the place of this node's; every listener is told why. Raises Unavailable."""
        snapshot = await self.journal.load()
        self.slices.clear()
        self.slices.update(snapshot.slices)
        self.position, self._checkpointed, self.stale = snapshot.position, snapshot.checkpoint, False
        self._dirty = {change.slice for change in snapshot.changes if change.version > snapshot.checkpoint}
        self._bus.reset(snapshot.since, snapshot.changes, why)

    async def begin(self, rules: HandlerRegistry) -> None:
        """Appends the initial value of plain slices that have none, so that no state rests on code alone."""
        for _ in range(BEGIN_ATTEMPTS):
            effects = rules.initial_changes(self.slices, new_id())
            if not effects:
                return
            entry = Entry(idempotency_key=None, digest=b"", effects=effects, at=now_ms())
            versions = {effect.slice: 0 for effect in effects}
            try:
                await self.journal.append(Batch(read=self.position, versions=versions, entries=[entry]))
            except Conflict:
                log.info("another node has opened the same journal first")
            await self.catch_up()
        raise Unavailable("expected to write the initial values, others were always first; try again")

    async def append(
        self, entries: Sequence[Entry], versions: Mapping[str, int], value_of: Callable[[Change], Any]
    ) -> list[Appended]:
        """Appends, applies what others wrote in between, then this. `value_of` gives what a change leads to.

        Raises Forked, Duplicate, Conflict: nothing was written. After anything else the state is stale.
        """
        try:
            outcomes = await self.journal.append(Batch(read=self.position, versions=versions, entries=entries))
            changes = [change for outcome in outcomes for change in outcome.changes]
            if changes and changes[0].version > self.position.seq + 1:
                await self.catch_up(before=changes[0].version)
            if changes and changes[0].version == self.position.seq + 1:  # or the catching up has loaded them too
                self._apply(changes, value_of)
        except (Forked, Expired, Duplicate, Conflict):
            raise
        except BaseException:
            self.stale = True
            raise
        return outcomes

    async def catch_up(self, before: int | None = None) -> None:
        """Applies what others wrote, and what this node wrote unknowingly: up to the journal's head, or `before`."""
        try:
            while before is None or self.position.seq < before - 1:
                limit = PAGE if before is None else min(PAGE, before - 1 - self.position.seq)
                changes = await self.journal.read(self.position, limit)
                for change in changes:
                    self._apply([change], self._followed)
                if not changes:
                    break
        except Expired:
            await self.load("expired")
        except Forked:
            await self.load("forked")
        self.stale = False

    def _followed(self, change: Change) -> Any:
        held = self.slices.get(change.slice)
        return follow(None if held is None else held.value, change)

    def _apply(self, changes: Sequence[Change], value_of: Callable[[Change], Any]) -> None:
        """Swaps the state and announces it."""
        for change in changes:
            before = self.slices.get(change.slice)
            if change.kind == "removed":
                self.slices.pop(change.slice, None)
            elif change.kind == "patches" and before is not None:
                self.slices[change.slice] = before.patched(value_of(change), change)
            else:
                self.slices[change.slice] = SliceState(value_of(change), change.position, change.data)
            self._dirty.add(change.slice)
        self.position = changes[-1].position
        self._bus.announce(changes)

    async def checkpoint(self, *, due: int) -> None:
        """Keeps the state in the journal, if it is certain and at least `due` changes have come since the last time."""
        if self.stale or self.position.seq - self._checkpointed < due:
            return
        try:
            await self.journal.checkpoint(self.position, {name: self.slices.get(name) for name in self._dirty})
        except StatestreamError as error:
            log.warning("the journal could not keep a checkpoint, a restart will take longer: %s", error)
            return
        self._dirty.clear()
        self._checkpointed = self.position.seq
