"""The board and a chat on the journal JOURNAL, which keeps little, in a process that tells what it has in memory.

GET /remembered has the number of entries in everything that the chats remember. The model answers with three words, so
that a reply leaves little behind in the state. The bus and the journal keep so little that they are full within a
minute or two: until then memory grows, with the tail of the bus and with what SQLite caches of its file.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from statestream import Store, create_app
from statestream.chat import Chat, Conversations
from statestream.chat.models import Finish, Piece, ToolSpec, Turn
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.quota import Quota
from statestream.journal import Retention, SqliteJournal
from statestream.store import bus
from tests.apps.board import board, counter, room
from tests.support.census import entries
from tests.support.objects import tell_objects

bus.TAIL_CHANGES = 300


class Terse:
    name = "terse"

    async def answer(
        self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings
    ) -> AsyncIterator[Piece]:
        for word in ("Yes, ", "why ", "not."):
            await asyncio.sleep(0.05)
            yield word
        yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


class Known(Chat):
    """A chat whose conversations can be looked into."""

    made: Conversations

    def _conversations(self, store: Store, quota: Quota, limited: Counter[str]) -> Conversations:
        self.made = super()._conversations(store, quota, limited)
        return self.made


async def remembered(_: web.Request) -> web.Response:
    return web.json_response(entries(chat.made))


chat = Known(model=Terse(), keep=20, titles=False)
journal = SqliteJournal(os.environ["JOURNAL"], Retention(changes=400, id_bytes=64 << 10))
heartbeat = float(os.environ.get("HEARTBEAT", "15"))
app = create_app(Store([board, room, counter, *chat.slices], journal=journal), heartbeat=heartbeat)
chat.setup(app)
tell_objects(app)
app.router.add_get("/remembered", remembered)
