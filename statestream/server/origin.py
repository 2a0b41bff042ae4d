"""Whether a page of another site sent a request.

Browsers let any page open a WebSocket or a stream anywhere, with the cookies of the person who visits it.

Invariants: a request without the headers of a browser comes from a program, and programs may do anything. An origin
that is not well-formed is foreign.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

_PORTS: Final = {"http": 80, "https": 443}


def is_foreign(request: web.Request) -> bool:
    """Whether the `Origin` differs from the requested host, or the browser reports another site."""
    origins = request.headers.getall("Origin", [])
    if origins:
        return not (len(origins) == 1 and _is_origin_of(origins[0], request.host))
    return request.headers.get("Sec-Fetch-Site") == "cross-site"


def _is_origin_of(origin: str, host: str) -> bool:
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        port = _PORTS.get(theirs.scheme)
        named = f"{theirs.scheme}://{theirs.netloc}" == origin and "@" not in theirs.netloc and bool(theirs.hostname)
        same = theirs.hostname == ours.hostname and (theirs.port or port) == (ours.port or port)
    except ValueError:
        return False
    return port is not None and named and same
