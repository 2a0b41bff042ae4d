"""What runs in a browser: the replica in JavaScript, and the pages of the demo and of a served recording.

Invariants: no build step; each file is served as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from aiohttp import web

CONTENT_TYPES: Final = {".html": "text/html", ".js": "text/javascript"}
POLICY: Final = "default-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'"
"""A page loads nothing from other servers. It contains its own style, script and icon, so these are allowed inline."""


def file_handler(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Returns a handler that serves the file `name` of this folder."""
    path = resources.files(__name__).joinpath(name)
    text = path.read_text(encoding="utf-8")
    content_type = CONTENT_TYPES[f".{name.rpartition('.')[2]}"]

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers={"Content-Security-Policy": POLICY})

    return serve
