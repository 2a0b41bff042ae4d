"""The board on a SQLite journal that cannot be read while the file named by FLAG exists."""

from __future__ import annotations

import os
from pathlib import Path

from statestream import Store, Unavailable, create_app
from statestream.core.change import Change, Position
from statestream.journal import SqliteJournal
from tests.apps.board import board, counter, room


class Flagged(SqliteJournal):
    async def read(self, after: Position, limit: int) -> list[Change]:
        if Path(os.environ["FLAG"]).exists():
            raise Unavailable("the flag is up")
        return await super().read(after, limit)


app = create_app(
    Store([board, room, counter], journal=Flagged(os.environ["JOURNAL"])),
    handoff=os.environ.get("HANDOFF") != "0",
)
