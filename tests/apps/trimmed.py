"""The board on a memory journal that is trimmed just when somebody begins to read at its oldest position."""

from __future__ import annotations

from statestream import Store, create_app
from statestream.core.change import PAGE, Page, Position
from statestream.core.errors import Expired
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import MemoryJournal
from tests.apps.board import board, counter, room


class Trimmed(MemoryJournal):
    trims = 1

    asked = False

    async def earliest(self) -> Position:
        self.asked = True
        return await super().earliest()

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        if self.asked and self.trims:
            self.trims -= 1
            raise Expired("that position was the oldest a moment ago")
        return await super().read(after, limit, selection)


app = create_app(Store([board, room, counter], journal=Trimmed()))
