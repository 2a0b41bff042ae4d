"""The periodic work of a SQLite journal beside its appends: it forgets, returns space, and records the time.

Invariants: everything is done in portions, so that an append waits for one of them at most. Expensive work pauses for
as long as it has run. If there is nothing to do, only the time is written, and rarely.
"""

from __future__ import annotations

import asyncio
import time

from statestream.core.change import Position
from statestream.core.clock import AgeClock
from statestream.journal.sqlite import noted_time, space, trimming
from statestream.journal.sqlite.remembered import Remembered
from statestream.journal.sqlite.worker import SqliteWorker


class Tidying:
    """The work on one file. `remembered` has the idempotency records."""

    def __init__(self, writing: SqliteWorker, reading: SqliteWorker, clock: AgeClock, remembered: Remembered) -> None:
        self._writing, self._reading = writing, reading
        self._clock, self._remembered = clock, remembered
        self._noted: int | None = None
        self._trimmed_before = False

    async def tidy(self) -> None:
        """Everything that is due."""
        if self._noted is None or self._clock.now() >= self._noted + noted_time.NOTE_MS:
            await self.note_time()
            await self._remembered.recount()
        until = await self._reading.run(trimming.left_behind)
        if until is not None:
            await self.forget(until)
        await self._remembered.forget(self._clock.now())
        await self._give_back()

    async def note_time(self) -> None:
        """Records the time for the next start, and adopts a later one that another process has recorded."""
        self._clock.advance_to(await self._writing.run(noted_time.note, self._clock.now()))
        self._noted = self._clock.now()

    async def forget(self, until: Position) -> None:
        """Deletes what lies before the earliest position `until`."""
        after = 0
        while after < until.seq:
            names, after = await self._reading.run(trimming.changed_slices, after, until)
            await self._forget_saved(until, names)
        if not self._trimmed_before:  # by this process: an older trim may have missed slices that had not changed
            name: str | None = ""
            while name is not None:
                names = await self._reading.run(trimming.saved_slices, name)
                await self._forget_saved(until, names)
                name = names[-1] if names else None
            self._trimmed_before = True
        while await self._writing.run(trimming.forget_changes, until):
            pass

    async def _forget_saved(self, until: Position, names: list[str]) -> None:
        while names:
            names = await self._writing.run(trimming.forget_saved, until, names)

    async def _give_back(self) -> None:
        if not await self._reading.run(space.has_unused):
            return
        began = time.monotonic()
        while await self._writing.run(space.give_back):
            await asyncio.sleep(time.monotonic() - began)  # appends may have as much of the disk as this
            began = time.monotonic()
        await self._reading.run_outside(space.shrink)
