"""What each loop over a stream's updates has still to see.

Invariants: a loop looks on. However slow it is, it never holds the state up: what it cannot take in time becomes one
`initial` with the reason `lagged`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from statestream.client.replica import Update

MAX_UPDATES: Final = 10_000


class Follower:
    """One loop's updates. `wanted` says which of them it asked for; an `initial` concerns everybody."""

    def __init__(self, wanted: Callable[[str], bool] | None = None) -> None:
        self._wanted = wanted
        self._updates: deque[Update] = deque()
        self._changed = asyncio.Event()
        self._finished = False

    def add(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if self._wanted is None or update.slice is None or self._wanted(update.slice):
                self._updates.append(update)
        if not self._updates:
            return
        if len(self._updates) > MAX_UPDATES:
            last = self._updates[-1]
            self._updates.clear()
            self._updates.append(
                Update(kind="initial", position=last.position, reason="lagged", timestamp=last.timestamp)
            )
        self._changed.set()

    def finish(self) -> None:
        """Nothing more will come: what is there is still seen."""
        self._finished = True
        self._changed.set()

    async def next(self) -> Update | None:
        """The next update; None behind the last."""
        while not self._updates:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._updates.popleft()


def selects(name: str) -> Callable[[str], bool]:
    """Whether a full name is `name`, or of the family where that ends in `/*`."""
    if name.endswith("/*"):
        family = name.removesuffix("*")
        return lambda full: full.startswith(family)
    return lambda full: full == name
