"""A board and a chat, with the pages of the folder PAGES, for the tests of front ends.

JOURNAL names the journal. The model of the chat is at UPSTREAM. With AUTH, people have names, see `by_name`. The chat
`long` has MANY messages, of which KEEP are live.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiohttp import web

from statestream import Store, create_app
from statestream.chat import Chat
from statestream.chat.models.openai import OpenAIModel
from tests.apps.board import board, counter, room
from tests.apps.by_name import auth
from tests.apps.long_chat import fill

PAGES = Path(os.environ["PAGES"])


async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGES / "index.html")


model = OpenAIModel("test-model", base_url=os.environ.get("UPSTREAM", "http://127.0.0.1:9"), api_key="none")
chat = Chat(model=model, titles=False, keep=int(os.environ.get("KEEP", "500")))
app = create_app(
    Store([board, room, counter, *chat.slices], journal=os.environ.get("JOURNAL", "memory:")),
    auth=auth if os.environ.get("AUTH") else None,
)
chat.setup(app)
app.on_startup.append(fill)
app.router.add_get("/", page)
app.router.add_static("/dist", PAGES)
