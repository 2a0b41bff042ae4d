"""The updates that one loop over a stream has not taken yet.

Invariants: a loop only observes. However slow it is, it never delays the state: what it cannot take in time is replaced
by one `initial` with the reason `lagged`, so the memory that it costs is bounded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from statestream.client.replica import Update
from statestream.core.selection import Selection

MAX_UPDATES: Final = 10_000


class UpdateQueue:
    """The updates of the slices in `selection` (None: of all), and every `initial`, which concerns all of them."""

    def __init__(self, selection: Selection | None = None) -> None:
        self._selection = selection
        self._updates: deque[Update] = deque()
        self._changed = asyncio.Event()
        self._finished = False

    def add(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if self._selection is None or update.slice is None or self._selection.matches(update.slice):
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
        """Nothing follows. Updates that are already queued can still be taken."""
        self._finished = True
        self._changed.set()

    async def next(self) -> Update | None:
        """The next update; None after the last one."""
        while not self._updates:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._updates.popleft()
