"""A board and a chat whose front end may have another origin.

ORIGINS and NAMES, separated by spaces, are its settings. With UNDER, it is a part of another application, below that
path. `POST /login` sets a cookie; `GET /cookies` says with which requests it came back.
"""

from __future__ import annotations

import os

from aiohttp import web

from statestream import Store, create_app
from statestream.browser import client_handler, file_handler
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel
from tests.apps.board import board, counter, room

noted: list[str] = []


async def login(_: web.Request) -> web.Response:
    response = web.Response(status=204)
    response.set_cookie("session", "ana", httponly=True, samesite="Strict")
    return response


async def cookies(_: web.Request) -> web.Response:
    return web.json_response(noted)


async def fails(_: web.Request) -> web.Response:
    raise LookupError("a bug")


async def moved(_: web.Request) -> web.Response:
    raise web.HTTPFound("/state")


async def note(request: web.Request, _: web.StreamResponse) -> None:
    if request.cookies.get("session") == "ana":
        noted.append(f"{request.method} {request.path}")


chat = Chat(model=DemoModel())
app = create_app(
    Store([board, room, counter, *chat.slices]),
    handoff=os.environ.get("HANDOFF") != "0",
    origins=os.environ.get("ORIGINS", "").split(),
    hosts=os.environ["NAMES"].split() if "NAMES" in os.environ else None,
)
chat.setup(app)
app.router.add_post("/login", login)
app.router.add_get("/cookies", cookies)
app.router.add_get("/fails", fails)
app.router.add_get("/moved", moved)
app.router.add_get("/page", file_handler("playback.html"))
app.router.add_get("/js/{name}", client_handler())
app.on_response_prepare.append(note)

if under := os.environ.get("UNDER"):
    outer = web.Application()
    outer.router.add_get("/fails", fails)
    outer.add_subapp(under, app)
    app = outer
