"""A journal that counts what is read of its checkpoints."""

from __future__ import annotations

from statestream.core.change import Position
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import SqliteJournal
from statestream.journal.contract import SavedSlice


class Counting(SqliteJournal):
    """`values` is how many values were read."""

    def __init__(self, journal: SqliteJournal) -> None:
        super().__init__(journal.path, journal.retention)
        self.values = 0

    async def saved(self, checkpoint: Position, selection: Selection = EVERYTHING) -> list[SavedSlice]:
        found = await super().saved(checkpoint, selection)
        self.values += len(found)
        return found
