"""The demo: a board, a chat and one page that follows both. Also an example of how the pieces go together.

Invariants: nothing here that a user could not write with the public names.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from aiohttp import web

from statestream import Refused, Slice, Store, create_app
from statestream.chat import Chat

board = Slice("board", initial={"tasks": []})


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
    """A task was done, or not done after all."""
    for task in state["tasks"]:
        if task["id"] == id:
            task["done"] = not task["done"]


@board.action
def task_removed(state: Any, *, id: str) -> None:
    """A task was taken off the board."""
    state["tasks"] = [task for task in state["tasks"] if task["id"] != id]


def demo_app(journal: str) -> web.Application:
    chat = Chat(lease=3.0)
    app = create_app(Store([board, *chat.slices], journal=journal))
    chat.setup(app)
    app.router.add_get("/", _file("demo.html", "text/html"))
    app.router.add_get("/statestream.js", _file("statestream.js", "text/javascript"))
    return app


def _file(name: str, content_type: str) -> Any:
    policy = "default-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
    text = resources.files("statestream.browser").joinpath(name).read_text(encoding="utf-8")

    async def serve(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type=content_type, headers=headers)

    return serve
