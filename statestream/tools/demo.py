"""The demo: a board, a chat and one page that follows both. It also shows how the parts go together.

Invariants: only public names, so that a user could have written it.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from statestream import Identity, Refused, Slice, Store, create_app
from statestream.auth import anyone
from statestream.browser import client_handler, file_handler
from statestream.chat import Chat

board = Slice("board", initial={"tasks": []}, read=anyone, dispatch=anyone)


async def guest(request: web.Request) -> Identity | None:
    """Everybody is who they say they are, by a cookie that the page sets. Your application knows better."""
    name = request.cookies.get("guest")
    return Identity(subject=name) if name else None


@board.action
def task_added(state: Any, *, id: str, title: str) -> None:
    """A task was put on the board."""
    title = title.strip()
    if not 0 < len(title) <= 200:
        raise Refused("title", "A task needs a title of 1 to 200 characters.")
    if all(task["id"] != id for task in state["tasks"]):
        state["tasks"].append({"id": id, "title": title, "done": False})


@board.action
def task_toggled(state: Any, *, id: str) -> None:
    """A task was marked as done, or as not done."""
    for task in state["tasks"]:
        if task["id"] == id:
            task["done"] = not task["done"]


@board.action
def task_removed(state: Any, *, id: str) -> None:
    """A task was taken off the board."""
    state["tasks"] = [task for task in state["tasks"] if task["id"] != id]


def demo_app(journal: str) -> web.Application:
    chat = Chat(lease=3.0)
    store = Store([board, *chat.slices], journal=journal)
    app = create_app(store, auth=guest)
    chat.setup(app)
    people = chat.conversations(store).people

    async def join(request: web.Request) -> web.Response:
        """Whoever has the link of a chat may take part in it."""
        if (visitor := await guest(request)) is not None:
            await people.invite(request.match_info["id"], visitor.subject)
        return web.json_response({})

    app.router.add_post("/join/{id}", join)
    app.router.add_get("/", file_handler("demo.html"))
    app.router.add_get("/js/{name}", client_handler())
    return app
