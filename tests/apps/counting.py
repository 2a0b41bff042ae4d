"""The board on a SQLite journal that counts how often it is read; `GET /reads` tells."""

from __future__ import annotations

import os

from aiohttp import web

from statestream import Store, create_app
from statestream.core.change import PAGE, Page, Position
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import SqliteJournal
from tests.apps.board import board, counter, room


class Counting(SqliteJournal):
    reads = 0

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        self.reads += 1
        return await super().read(after, limit, selection)


async def reads(_: web.Request) -> web.Response:
    return web.json_response(journal.reads)


journal = Counting(os.environ["JOURNAL"])
app = create_app(Store([board, room, counter], journal=journal))
app.router.add_get("/reads", reads)
