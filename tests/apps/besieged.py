"""An application with everything that a client can misuse: logins, a board, notes, a chat, a page and a broken route.

It logs everything at the level DEBUG, also what libraries have to say. From the environment: AUTH is the expression of
its authenticator, CHATTY_UPSTREAM the provider of its chat.
"""

from __future__ import annotations

import logging
import os
from typing import Any

from aiohttp import web

from statestream import Limits, Slice, Store, create_app
from statestream.auth import JWT, AnyOf, Tokens, signed_in
from statestream.browser import client_handler
from statestream.chat import Chat
from statestream.chat.models.openai import OpenAIModel
from statestream.journal import MemoryJournal, Retention

board = Slice("board", initial={"count": 0, "text": ""}, read=signed_in, dispatch=signed_in)
note = Slice("note", initial={"text": ""}, keyed=True, read=signed_in, dispatch=signed_in)
salary = Slice("salary", initial={"of": {}})
chat = Chat(model=OpenAIModel("test-model", base_url=os.environ["CHATTY_UPSTREAM"]), titles=False)


@board.action
def counted(state: Any, *, by: int = 1) -> None:
    state["count"] += by


@board.action
def told(state: Any, *, text: str) -> None:
    state["text"] = text


@board.action
def filed(state: Any, *, value: Any) -> None:
    """Takes any JSON, and keeps none of it."""


@note.action
def written(state: Any, *, text: str) -> None:
    state["text"] = text


@salary.action
def paid(state: Any, *, who: str, amount: int) -> None:
    state["of"][who] = amount


async def broken(_: web.Request) -> web.Response:
    raise RuntimeError("a bug of the application")


logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s")
app = create_app(
    Store([board, note, salary, *chat.slices], journal=MemoryJournal(retention=Retention(changes=50))),
    auth=eval(os.environ["AUTH"], {"JWT": JWT, "AnyOf": AnyOf, "Tokens": Tokens}),
    origins=["https://app.example.com"],
    limits=Limits(dispatches_per_second=None, streams_per_identity=None),  # the tests send as fast as they can
)
chat.setup(app)
app.router.add_get("/js/{name}", client_handler())
app.router.add_get("/broken/{what}", broken)
