"""The board on a memory journal that is trimmed just when somebody begins to read at its oldest position."""

from __future__ import annotations

from collections.abc import Callable

from statestream import Store, create_app
from statestream.core.change import Position, Snapshot
from statestream.core.errors import Expired
from statestream.journal import MemoryJournal
from statestream.journal.contract import everything
from tests.apps.board import board, counter, room


class Trimmed(MemoryJournal):
    trims = 1

    async def load(self, at: Position | None = None, wanted: Callable[[str], bool] = everything) -> Snapshot:
        if at is not None and self.trims:
            self.trims -= 1
            raise Expired("that position was the oldest a moment ago")
        return await super().load(at, wanted)


app = create_app(Store([board, room, counter], journal=Trimmed()))
