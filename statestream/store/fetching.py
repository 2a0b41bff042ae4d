"""Fetches values that are away from the journal.

A value is what a checkpoint has, and the changes since. The checkpoint is asked for the names that are wanted, and the
changes are those that the bus still has, so that a fetch costs what it returns.

Invariants: what is installed is the value of the current version: the changes since the checkpoint are applied in the
same step, without an await in between. A value is read once for all who wait for it; if that fails, or is cancelled,
the others try themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Final

from statestream.core.change import Change, Position, SliceState
from statestream.core.errors import Expired, Forked, JournalUnusable, Unavailable
from statestream.core.selection import Selection
from statestream.journal.history import Held, History, advance, created
from statestream.store.bus import Bus
from statestream.store.loaded import LoadedSlices
from statestream.store.misfits import Misfits

ATTEMPTS: Final = 5
MAX_SINCE: Final = 1_000
"""After so many changes, there may be a newer checkpoint."""
PORTION: Final = 200
"""The instances that are fetched at once."""


class Fetching:
    """Fetches values into `slices`. `position` is where the node is."""

    def __init__(self, slices: LoadedSlices, bus: Bus, position: Callable[[], Position], misfits: Misfits) -> None:
        self._slices, self._bus, self._position, self._misfits = slices, bus, position, misfits
        self._reading: dict[str, asyncio.Event] = {}
        self._checkpoint: Position | None = None
        self._history: History

    def use(self, history: History) -> None:
        """Sets the history, until the state is first loaded."""
        self._history, self._checkpoint = history, None

    async def fetch(self, names: Iterable[str]) -> None:
        """Returns once the values of those that exist are in memory. Raises Unavailable, JournalUnusable."""
        wanted = frozenset(names)
        while missing := self._slices.missing(wanted):
            mine = [name for name in missing if name not in self._reading]
            if mine:
                await self._read(tuple(islice(mine, PORTION)))
            else:
                await self._reading[next(iter(missing))].wait()

    async def _read(self, names: Collection[str]) -> None:
        done = asyncio.Event()
        self._reading.update(dict.fromkeys(names, done))
        try:
            await self._fetched(frozenset(names))
        finally:
            for name in names:
                del self._reading[name]
            done.set()

    async def _fetched(self, names: frozenset[str]) -> None:
        for _ in range(ATTEMPTS):
            if (found := await self._found(names)) is not None and self._install(found, names):
                return
        raise _unsettled()

    async def written(self, names: Collection[str]) -> dict[str, SliceState]:
        """The values of those that exist, as they were written, which are not put into memory.

        Raises Unavailable, JournalUnusable.
        """
        for _ in range(ATTEMPTS):
            if (found := await self._found(frozenset(names))) is not None:
                return {name: SliceState(*found[name]) for name in names if name in found}
        raise _unsettled()

    async def _found(self, names: frozenset[str]) -> Held | None:
        """The values now; None if the history has changed meanwhile. Raises JournalUnusable if changes do not fit."""
        try:
            base, held = await self._base(names)
        except (Expired, Forked):  # trimmed meanwhile, or another history: the node will notice
            self._checkpoint = None
            return None
        changes = self._since(base)
        if changes is None:
            return None
        try:
            advance(held, [each for each in changes if each.slice in names])
        except JournalUnusable:
            if await self._history.is_at(self._position()):
                raise
            return None  # another node has erased one of them, which this node has not read yet
        return held

    async def _base(self, names: frozenset[str]) -> tuple[Position, Held]:
        """A position from which the bus has all changes, and the values there."""
        checkpoint, changes = self._checkpoint, None
        if checkpoint is not None:
            changes = self._since(checkpoint)
        if checkpoint is None or changes is None or len(changes) > MAX_SINCE:
            checkpoint = await self._history.checkpoint(self._position())
            changes = self._since(checkpoint)
        if changes is None:
            position = self._position()
            then = await self._history.load(position, Selection(names=names))
            if then.folded:
                raise Expired("this node is so far behind that what it has missed was folded")
            return position, {name: (state.value, state.position) for name, state in then.slices.items()}
        self._checkpoint = checkpoint
        new = created(change for change in changes if change.slice in names)
        return checkpoint, await self._history.saved(checkpoint, names - new)

    def _since(self, position: Position) -> list[Change] | None:
        """The changes that the bus has after a position; None if it does not go back that far."""
        with contextlib.suppress(Forked):
            return self._bus.after(position)
        return None

    def _install(self, held: Held, names: frozenset[str]) -> bool:
        """Whether all values are those of the current versions."""
        for name in self._slices.missing(names):
            value, position = held.get(name, (None, None))
            if position is None or position.seq != self._slices.version(name):
                return False
            state = SliceState(value, position)
            self._misfits.look(name, state)
            self._slices.put(name, state)
        return True


def _unsettled() -> Unavailable:
    return Unavailable("the journal was trimmed, replaced or erased from again and again while it was read; try again")
