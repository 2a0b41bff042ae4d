"""What lets the pages of allowed origins use the server: the headers of CORS, and the answers to preflights.

Invariants: `origin.py` decides whose pages these are. Every answer to an allowed origin has the headers, errors and
streams included, and no other answer has them. Every answer has `Vary: Origin` if any origin is allowed, so that no
cache gives one origin what another was sent. A preflight says what the route takes, and no route sees it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.core.errors import ForbiddenOrigin
from statestream.server.origin import allowed_origin, is_foreign

MAX_AGE_SECONDS: Final = 7200
"""As long as Chromium remembers it at most."""
REQUEST_HEADERS: Final = (
    "Authorization, Cache-Control, Content-Encoding, Content-Type, If-None-Match, Last-Event-ID, X-API-Key"
)
RESPONSE_HEADERS: Final = "Allow, ETag, Location, Retry-After, WWW-Authenticate, x-vercel-ai-ui-message-stream"
"""Those that our routes send, and that a page of another origin could not read otherwise."""


async def share(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`, if any origin is allowed."""
    headers = response.headers
    headers["Vary"] = ", ".join([*headers.getall("Vary", ()), "Origin"])
    origin = allowed_origin(request)
    if origin is not None:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        headers["Access-Control-Expose-Headers"] = RESPONSE_HEADERS


def preflight(request: web.Request) -> web.Response | None:
    """The answer to a preflight; None for any other request, and for a route that does not take the wanted method.

    Raises ForbiddenOrigin.
    """
    wanted = request.headers.get("Access-Control-Request-Method")
    if request.method != "OPTIONS" or wanted is None:
        return None
    if is_foreign(request):
        raise ForbiddenOrigin(
            "pages of this origin may not use the server; --origin or create_app(origins=…) lets them"
        )
    error = request.match_info.http_exception
    if not isinstance(error, web.HTTPMethodNotAllowed) or wanted not in error.allowed_methods:
        return None
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": ", ".join(sorted(error.allowed_methods)),
            "Access-Control-Allow-Headers": REQUEST_HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
        },
    )
