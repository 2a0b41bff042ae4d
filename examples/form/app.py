"""A form that several people fill in together: who is there, where their pointers are, and who edits which field.

Serve it: statestream serve examples/form/app.py:app
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from aiohttp import web
from typing_extensions import TypedDict

from statestream import Action, Refused, Slice, Store, Unavailable, create_app
from statestream.browser import client_handler

GONE_AFTER = 12.0  # seconds; the page says every four seconds that somebody is there

Name = Literal["title", "host", "date", "guests", "stage", "summary", "missing"]


class Field(TypedDict):
    value: str
    id: str  # of the person who wrote it last, and their name
    by: str


class Pointer(TypedDict):
    area: str  # the part of the form that the pointer is over
    x: float  # from 0 to 1, from one side of it to the other: right in windows of every size
    y: float


class Person(TypedDict):
    name: str
    hue: int
    editing: Name | None
    pointer: Pointer | None
    seen: int  # Unix ms


form: Slice[dict[Name, Field]] = Slice("form", initial={}, type=dict[Name, Field])
people: Slice[dict[str, Person]] = Slice("people", initial={}, type=dict[str, Person])


# Keystrokes and pointers matter for a moment only: `gradual` lets the journal fold many of them into one.
@form.action(gradual=True)
def written(state: dict[Name, Field], *, field: Name, value: str, id: str, by: str) -> None:
    """Somebody has written something into a field. Fields are independent, and of each, the last text counts."""
    if len(value) > 5000:
        raise Refused("too_long", "A field holds at most 5,000 characters.")
    state[field] = {"value": value, "id": id[:40], "by": by[:40]}


@people.action(gradual=True)
def seen(
    state: dict[str, Person],
    action: Action,
    *,
    id: str,
    name: str,
    hue: int,
    editing: Name | None = None,
    pointer: Pointer | None = None,
) -> None:
    """Somebody is there. Only what differs from the last time is recorded and sent."""
    if pointer is not None:  # other pages draw it, whatever this one says
        pointer = {"area": pointer["area"][:40], "x": min(max(pointer["x"], 0), 1), "y": min(max(pointer["y"], 0), 1)}
    state[id[:40]] = {"name": name[:40], "hue": hue, "editing": editing, "pointer": pointer, "seen": action.at}


@people.action
def left(state: dict[str, Person], *, id: str) -> None:
    """Somebody has closed the page."""
    state.pop(id[:40], None)


async def sweep(_: web.Application) -> AsyncIterator[None]:
    """Removes people who left without a word, because their browser crashed or lost its network."""

    async def run() -> None:
        while True:
            await asyncio.sleep(GONE_AFTER / 4)
            oldest = (time.time() - GONE_AFTER) * 1000
            with contextlib.suppress(Unavailable):  # the next round tries again
                for id in [id for id, person in store.get(people).items() if person["seen"] < oldest]:
                    await store.dispatch(left(id=id))

    task = asyncio.create_task(run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# The page may load scripts and styles, and connect, nowhere but here.
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).parent / FILES[request.path], headers=HEADERS)


store = Store([form, people], journal="sqlite:///form.db")
app = create_app(store)
app.cleanup_ctx.append(sweep)
for path in FILES:
    app.router.add_get(path, file)
app.router.add_get("/js/{name}", client_handler())
