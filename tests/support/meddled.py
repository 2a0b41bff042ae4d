"""An in-memory journal that fails on request."""

from __future__ import annotations

import asyncio

from statestream import Unavailable
from statestream.journal import MemoryJournal, Retention
from statestream.journal.contract import Appended, Batch


class Meddled(MemoryJournal):
    """A real journal that can be told to fail before or after it has committed, and counts its appends."""

    def __init__(self, retention: Retention | None = None) -> None:
        super().__init__(retention)
        self.fail: list[str] = []
        self.appends = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, batch: Batch) -> list[Appended]:
        await self.gate.wait()
        self.appends += 1
        how = self.fail.pop(0) if self.fail else ""
        if how == "before":
            raise Unavailable("the journal is down")
        outcome = await super().append(batch)
        if how == "after":
            raise Unavailable("the answer was lost")
        if how == "bug":
            raise RuntimeError("a driver's own error")
        return outcome
