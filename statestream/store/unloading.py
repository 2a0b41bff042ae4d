"""Unloads instances that nobody uses.

Invariants: only values that the newest checkpoint has are unloaded, so that fetching one costs no more than reading it.
The work is done in portions, between which everything else in the event loop runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from statestream.store.loaded import LoadedSlices

TURNS: Final = 2
"""An instance is idle that was not used for so many whole turns: for `idle` seconds, and at most one turn more."""
PORTION: Final = 100


class Unloading:
    """Unloads what is idle. `is_dirty` says whether an instance has changed since the newest checkpoint."""

    def __init__(self, slices: LoadedSlices, is_dirty: Callable[[str], bool]) -> None:
        self._slices, self._is_dirty = slices, is_dirty

    async def run(self, idle: float) -> None:
        """Unloads instances that were not used for `idle` seconds, until cancelled."""
        while True:
            await asyncio.sleep(idle / TURNS)
            await self.unload()

    async def unload(self, turns: int = TURNS) -> None:
        """Begins a turn, and unloads what was not used for so many turns before it."""
        self._slices.begin_turn()
        names = self._slices.idle(turns)
        while names:
            for name in names[-PORTION:]:
                if self._slices.is_idle(name, turns) and not self._is_dirty(name):
                    self._slices.unload(name)
            del names[-PORTION:]
            await asyncio.sleep(0)
