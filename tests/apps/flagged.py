"""The board on a SQLite journal that cannot be read while the file named by FLAG exists."""

from __future__ import annotations

import os
from pathlib import Path

from statestream import Store, Unavailable, create_app
from statestream.core.change import PAGE, Page, Position
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import SqliteJournal
from tests.apps.board import board, counter, room


class Flagged(SqliteJournal):
    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        if Path(os.environ["FLAG"]).exists():
            raise Unavailable("the flag is up")
        return await super().read(after, limit, selection)


app = create_app(
    Store([board, room, counter], journal=Flagged(os.environ["JOURNAL"])),
    handoff=os.environ.get("HANDOFF") != "0",
)
