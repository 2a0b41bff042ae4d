"""The demo: a chat, a board beside it, and the page for both. It also shows how the parts go together.

Invariants: only public names, so that a user could have written it.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from statestream import Identity, Malformed, Refused, Slice, StatestreamError, Store, create_app
from statestream.auth import anyone
from statestream.browser import CHAT_PAGE, chat_handler, client_handler, file_handler, vendor_handler
from statestream.chat import Chat
from statestream.chat.models import Model

board = Slice("board", initial={"tasks": []}, read=anyone, dispatch=anyone)
banned = Slice("banned", initial={"names": []}, keyed=True, hidden=True)


async def guest(request: web.Request) -> Identity | None:
    """Everybody is who they say they are, by a cookie that the page sets. Your application knows better."""
    name = unquote(request.cookies.get("guest", ""))
    try:
        return Identity(subject=name)
    except Malformed:
        return None


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


@board.action
def cleared(state: Any) -> None:
    """The board was cleared."""
    state["tasks"] = []


@banned.action
def name_banned(state: Any, *, name: str) -> None:
    """The owner of a chat has removed somebody, for whom its link opens nothing any more."""
    if name not in state["names"]:
        state["names"].append(name)


def demo_app(journal: str, model: Model | None = None) -> web.Application:
    chat = Chat(model=model, lease=3.0)
    store = Store([board, banned, *chat.slices], journal=journal)
    app = create_app(store, auth=guest)
    people = chat.setup(app).people

    @chat.tool
    async def add_task(title: str) -> dict[str, Any]:
        """Puts a task on the board beside the chat."""
        await store.dispatch(task_added(id=token_hex(8), title=title))
        return {"added": title}

    @chat.tool(approval=True)
    async def clear_board() -> str:
        """Clears the board, once a person has approved it."""
        await store.dispatch(cleared())
        return "The board is empty."

    async def join(request: web.Request) -> web.Response:
        """Whoever has the link of a chat may take part in it. A chat that does not exist yet is nobody's to join."""
        visitor, chat_id = await guest(request), request.match_info["id"]
        try:
            removed = await store.read(banned, quote(chat_id, safe="")) or {"names": []}
            if visitor is None or visitor.subject in removed["names"]:
                return web.json_response({"joined": False})
            await people.invite(chat_id, visitor.subject)
        except StatestreamError:
            return web.json_response({"joined": False})
        return web.json_response({"joined": True})

    @web.middleware
    async def remember(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whoever the owner of a chat has removed does not come back by its link. Those who have left may."""
        answer = await handler(request)
        removed = request.match_info.get("subject") if request.method == "DELETE" else None
        visitor = await guest(request)
        if removed is not None and visitor is not None and visitor.subject != removed:
            await store.dispatch(name_banned(quote(request.match_info["id"], safe=""), name=removed))
        return answer

    app.middlewares.append(remember)
    app.router.add_post("/join/{id}", join)
    app.router.add_get("/", file_handler(CHAT_PAGE))
    app.router.add_get("/js/{name}", client_handler())
    app.router.add_get("/js/chat/{name}", chat_handler())
    app.router.add_get("/js/vendor/marked/{name}", vendor_handler("marked"))
    app.router.add_get("/js/vendor/highlight/{name}", vendor_handler("highlight"))
    return app
