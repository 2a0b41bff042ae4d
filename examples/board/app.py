"""A shared board: cards in columns, which everybody can move.

Serve it: statestream serve examples/board/app.py:app
Without the page: statestream serve examples/board/app.py:store --journal sqlite:///cards.db
"""

from pathlib import Path
from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from statestream import Refused, Slice, Store, create_app
from statestream.browser import client_handler

Column = Literal["todo", "doing", "review", "done"]


class Card(TypedDict):
    id: str
    title: str
    column: Column


class Board(TypedDict):
    cards: list[Card]  # of all columns: the order of a column is that of its cards in this list


board = Slice("board", initial={"cards": []}, type=Board)


def place_of(cards: list[Card], id: str) -> int:
    for place, card in enumerate(cards):
        if card["id"] == id:
            return place
    raise Refused("gone", "Somebody has removed this card.")


@board.action
def card_added(state: Board, *, id: str, title: str) -> None:
    """Puts a new card at the end of the first column."""
    title = title.strip()
    if not 0 < len(title) <= 120:
        raise Refused("title", "A card needs a title of 1 to 120 characters.")
    if any(card["id"] == id for card in state["cards"]):
        raise Refused("exists", f"There is a card {id} already.")
    state["cards"].append({"id": id, "title": title, "column": "todo"})


@board.action
def card_moved(state: Board, *, id: str, column: Column, before: str | None = None) -> None:
    """Puts a card into a column, before another card of it, or at the end.

    A move names its neighbour, not an index. So it means the same after other people's moves, and whoever moves two
    cards at the same time moves two cards. If the neighbour has left the column, the card goes to the end.
    """
    cards = state["cards"]
    card = cards.pop(place_of(cards, id))
    card["column"] = column
    below = (place for place, each in enumerate(cards) if each["id"] == before and each["column"] == column)
    cards.insert(next(below, len(cards)), card)


@board.action
def card_removed(state: Board, *, id: str) -> None:
    """Takes a card off the board."""
    del state["cards"][place_of(state["cards"], id)]


# The page may load scripts and styles, and connect, nowhere but here.
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/cards.js": "cards.js"}


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).parent / FILES[request.path], headers=HEADERS)


store = Store([board], journal="sqlite:///cards.db")
app = create_app(store)
for path in FILES:
    app.router.add_get(path, file)
app.router.add_get("/js/{name}", client_handler())
