"""What runs in a browser: the replica in JavaScript, and the pages of the demo and of a served recording.

Invariants: no build step; each file is served as it is. A page loads nothing from other servers, runs only the scripts
that it was written with, and cannot be shown in a frame.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from aiohttp import web

CONTENT_TYPES: Final = {".html": "text/html", ".js": "text/javascript"}
POLICY: Final = (
    "default-src 'none'; connect-src 'self'; img-src data:; script-src 'self' {scripts}; style-src {styles}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def file_handler(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Returns a handler that serves the file `name` of this folder."""
    path = resources.files(__name__).joinpath(name)
    text = path.read_text(encoding="utf-8")
    content_type = CONTENT_TYPES[f".{name.rpartition('.')[2]}"]
    headers = {"Content-Security-Policy": policy_of(text)} if content_type == "text/html" else {}

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers=headers)

    return serve


def policy_of(page: str) -> str:
    """The `Content-Security-Policy` of a page: what it contains inline is allowed by its hash."""
    return POLICY.format(scripts=_hashes(page, "script"), styles=_hashes(page, "style"))


def _hashes(page: str, tag: str) -> str:
    inline = re.findall(rf"<{tag}(?: [^>]*)?>(.+?)</{tag}>", page, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
