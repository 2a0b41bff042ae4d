"""A board with the web client and an empty page, on the journal that JOURNAL names, with a heartbeat of HEARTBEAT s."""

from __future__ import annotations

import os

from aiohttp import web

from statestream import Store, create_app
from statestream.browser import client_handler
from tests.apps.board import board, counter, room

PAGE = "<!doctype html><link rel=icon href=data:,><title>a page</title><p id=shown></p>"


async def page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html", headers={"Cache-Control": "no-cache"})


store = Store([board, counter, room], journal=os.environ["JOURNAL"])
app = create_app(store, heartbeat=float(os.environ.get("HEARTBEAT", "15")))
app.router.add_get("/", page)
app.router.add_get("/elsewhere", page)
app.router.add_get("/js/{name}", client_handler())
