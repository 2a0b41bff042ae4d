"""A board and a chat, with the pages of the folder PAGES, for the tests of front ends.

JOURNAL names the journal. The model of the chat is at UPSTREAM. With AUTH, people have names, see `by_name`. The chat
`long` has MANY messages, of which KEEP are live. The file CLOCK says how far the server's wall clock is ahead. The web
client is at `/js/`, and `/blank` is a page without scripts.
"""

from __future__ import annotations

import os
from pathlib import Path

from aiohttp import web

from statestream import Store, create_app
from statestream.browser import client_handler
from statestream.chat import Chat
from statestream.chat.models.openai import OpenAIModel
from tests.apps.board import board, counter, room
from tests.apps.by_name import auth
from tests.apps.long_chat import fill
from tests.support import moved_clock

PAGES = Path(os.environ["PAGES"])
BLANK = "<!doctype html><html lang=en><link rel=icon href=data:,><title>a page</title>"
if "CLOCK" in os.environ:
    moved_clock.follow(os.environ["CLOCK"])


async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGES / "index.html")


async def blank(_: web.Request) -> web.Response:
    return web.Response(text=BLANK, content_type="text/html")


model = OpenAIModel("test-model", base_url=os.environ.get("UPSTREAM", "http://127.0.0.1:9"), api_key="none")
chat = Chat(model=model, titles=False, keep=int(os.environ.get("KEEP", "500")))


@chat.tool(frontend=True)
def locate(precision: str = "city") -> dict[str, float]:
    """Where the person is."""
    raise AssertionError("a window runs it")


app = create_app(
    Store([board, room, counter, *chat.slices], journal=os.environ.get("JOURNAL", "memory:")),
    auth=auth if os.environ.get("AUTH") else None,
)
chat.setup(app)
app.router.add_get("/blank", blank)
app.router.add_get("/js/{name}", client_handler())
app.on_startup.append(fill)
app.router.add_get("/", page)
app.router.add_static("/dist", PAGES)
