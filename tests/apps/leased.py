"""Credentials with a time limit, which the server can revoke. A token is `subject:expires:issued`, in Unix seconds."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from aiohttp import web

from statestream import Change, Identity, Slice, Store, create_app
from statestream.auth import signed_in
from statestream.chat import Chat
from statestream.chat.models.demo import DemoModel


async def auth(request: web.Request) -> Identity | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer":
        return None
    subject, expires, issued = token.split(":")
    return Identity(subject=subject, expires=float(expires), claims={"iat": float(issued)})


board = Slice("board", initial={"text": ""}, read=signed_in, dispatch=signed_in)
desk = Slice("desk", initial={"orders": 0}, read=signed_in, dispatch=signed_in)


@board.action
def noted(state: Any, *, text: str) -> None:
    state["text"] = text


@desk.action
def revoked(state: Any, *, subject: str) -> None:
    state["orders"] += 1


@desk.action
def reinstated(state: Any, *, subject: str) -> None:
    state["orders"] += 1


chat = Chat(model=DemoModel())
store = Store([board, desk, *chat.slices], journal=os.environ.get("JOURNAL", "memory:"))
tasks: set[asyncio.Task[None]] = set()


def carry_out(change: Change) -> None:
    """An order of the desk becomes a revocation: what an application's own administration would do."""
    order = {"desk/revoked": store.revoke, "desk/reinstated": store.reinstate}.get(change.cause.type)
    if order is not None:
        task = asyncio.get_running_loop().create_task(order(json.loads(change.cause.payload)["subject"]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


store.on_change(carry_out)
app = create_app(store, auth=auth, heartbeat=1.0, handoff=os.environ.get("HANDOFF") != "0")
chat.setup(app)
