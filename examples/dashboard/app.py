"""A live dashboard: one slice with the samples of the last two minutes, and a page that draws them.

Serve it: statestream serve examples/dashboard/app.py:app
Measure: python examples/dashboard/producer.py
"""

from pathlib import Path

from aiohttp import web
from typing_extensions import TypedDict

from statestream import Action, Slice, Store, create_app
from statestream.browser import client_handler

KEEP = 120  # samples: a browser that comes later has the last two minutes at once


class Figures(TypedDict):
    cpu: float  # per cent of all cores
    memory: float  # per cent
    received: float  # bytes per second, as are the others
    sent: float
    read: float
    written: float


class Sample(Figures):
    at: int  # Unix ms, by the clock of the server


class Host(TypedDict):
    name: str
    cores: int
    memory: int  # bytes
    samples: list[Sample]


host = Slice("host", initial={"name": "", "cores": 0, "memory": 0, "samples": []}, type=Host)


@host.action
def started(state: Host, *, name: str, cores: int, memory: int) -> None:
    """A producer has started. On another machine than before, it begins with empty charts."""
    if name != state["name"]:
        state["samples"] = []
    state["name"], state["cores"], state["memory"] = name, cores, memory


# Each sample matters for a moment only: `gradual` lets the journal fold many of them into one.
@host.action(gradual=True)
def sampled(state: Host, action: Action, *, figures: Figures) -> None:
    """Adds a sample. Readers receive two operations: one element more at the end, one less at the beginning."""
    state["samples"].append({"at": action.at, **figures})
    del state["samples"][:-KEEP]


# The page may load scripts and styles, and connect, nowhere but here.
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}
FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js", "/chart.js": "chart.js"}


async def file(request: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__).parent / FILES[request.path], headers=HEADERS)


app = create_app(Store([host]))
for path in FILES:
    app.router.add_get(path, file)
app.router.add_get("/js/{name}", client_handler())
