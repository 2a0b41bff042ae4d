"""Values as of the positions from which readers resume, on which their rights at that time depend.

Invariants: a value is known if it is in memory and has not changed since, or if it was loaded. What is loaded is kept
for a moment, because many readers resume from the same position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from statestream.core.change import Position
from statestream.store.loaded import LoadedSlices

KEPT_SECONDS: Final = 1.0
MAX_KEPT: Final = 10_000


class PastValues:
    """The values that were loaded lately."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Position, str], Any] = {}

    def at(self, position: Position, slices: LoadedSlices) -> ValuesAt:
        """The values at a position, given the slices as they are now."""
        return ValuesAt(position, slices, self._kept)

    def add(self, position: Position, names: set[str], values: Mapping[str, Any]) -> None:
        """Keeps what was loaded for a moment. A name without a value did not exist."""
        if len(self._kept) > MAX_KEPT:
            self._kept.clear()
        if not self._kept:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._kept.clear)
        self._kept.update(((position, name), values.get(name)) for name in names)


class ValuesAt:
    """The state at a past position, as rules see it. `missing` are the names whose values must be loaded first."""

    def __init__(self, position: Position, slices: LoadedSlices, kept: Mapping[tuple[Position, str], Any]) -> None:
        self._position, self._slices, self._kept = position, slices, kept
        self.missing: set[str] = set()

    def get(self, name: str) -> Any:
        state = self._slices.peek(name)
        if state is not None and state.version <= self._position.seq:
            return state.value
        if (self._position, name) in self._kept:
            return self._kept[self._position, name]
        self.missing.add(name)
        return None
