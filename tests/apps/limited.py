"""An application with an authenticator that believes everybody, and the limits that LIMITS gives as JSON.

SERVE has other constants of a server.
"""

from __future__ import annotations

import json
import os
from typing import Any

from aiohttp import web

from statestream import Identity, Limits, Slice, Store, create_app
from statestream.auth import anyone
from statestream.chat import Chat, Price
from statestream.chat.models import Finish, Usage
from statestream.server import serve


async def auth(request: web.Request) -> Identity | None:
    kind, _, subject = request.headers.get("Authorization", "").partition(" ")
    return Identity(subject=subject) if kind == "Bearer" else None


vars(serve).update(json.loads(os.environ.get("SERVE", "{}")))


class Counted:
    """A model that reports ten tokens for each answer."""

    name = "counted"

    async def answer(self, turns: Any, tools: Any, settings: Any) -> Any:
        yield "yes"
        yield Usage(input=7, output=3)
        yield Finish(reason="stop")

    async def close(self) -> None:
        pass


board = Slice("board", initial={"count": 0}, read=anyone, dispatch=anyone)
room = Slice("room", initial={"count": 0}, keyed=True, read=anyone, dispatch=anyone)


@board.action
def counted(state: Any, *, by: int = 1) -> None:
    state["count"] += by


@room.action
def entered(state: Any) -> None:
    state["count"] += 1


chat = Chat(model=Counted(), titles=False, prices={"counted": Price(input=10_000, output=10_000)})
app = create_app(
    Store([board, room, *chat.slices], journal=os.environ.get("JOURNAL", "memory:")),
    auth=auth,
    heartbeat=0.5,
    max_body=100_000,
    max_subscribers=int(os.environ.get("MAX_SUBSCRIBERS", "1000")),
    handoff=os.environ.get("HANDOFF") != "0",
    limits=Limits(**json.loads(os.environ.get("LIMITS", "{}"))),
)
chat.setup(app)
