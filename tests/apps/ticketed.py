"""Streams and sockets for people who have tickets. A token is `subject:expires:issued`, or `subject` alone.

MOUNT is where the application is mounted, LIVES the lifetimes of tickets, ORIGINS those of other pages.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from aiohttp import web

from statestream import Identity, Slice, Store, create_app
from statestream.auth import signed_in
from statestream.browser import client_handler
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel
from statestream.server.request import identity_of
from statestream.store import tickets

BLANK = "<!doctype html><link rel=icon href=data:,><title>tickets</title>"


async def auth(request: web.Request) -> Identity | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer":
        return None
    subject, *times = token.split(":")
    if not times:
        return Identity(subject=subject, roles=["reader"])
    return Identity(subject=subject, expires=float(times[0]), claims={"iat": float(times[1])})


board = Slice("board", initial={"text": ""}, read=signed_in, dispatch=signed_in)


@board.action
def noted(state: Any, *, text: str) -> None:
    state["text"] = text


async def page(request: web.Request) -> web.Response:
    """An empty page, in which a test runs its own scripts."""
    return web.Response(text=BLANK, content_type="text/html")


async def who(request: web.Request) -> web.WebSocketResponse:
    """A WebSocket of the application's own, which says whose it is."""
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    identity = identity_of(request)
    await socket.send_str("nobody" if identity is None else identity.subject)
    await socket.close()
    return socket


async def revoke(request: web.Request) -> web.Response:
    await store.revoke(request.match_info["subject"])
    return web.Response()


logging.basicConfig(level=os.environ.get("LOG", "WARNING"), format="%(message)s")
vars(tickets).update(json.loads(os.environ.get("LIVES", "{}")))
chat = Chat(model=DemoModel())
store = Store([board, *chat.slices], journal=os.environ.get("JOURNAL", "memory:"))
origins = [each for each in os.environ.get("ORIGINS", "").split(",") if each]
app = create_app(store, auth=auth, heartbeat=1.0, handoff=os.environ.get("HANDOFF") != "0", origins=origins)
chat.setup(app)
app.router.add_get("/", page)
app.router.add_get("/js/{name}", client_handler())
app.router.add_get("/who", who)
app.router.add_post("/revoke/{subject}", revoke)
if "MOUNT" in os.environ:
    inner, app = app, web.Application()
    app.add_subapp(os.environ["MOUNT"], inner)
