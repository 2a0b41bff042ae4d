"""Errors as RFC 9457 problems: `application/problem+json` with a stable `code`.

Law: every StatestreamError that leaves a route passes here and nowhere else. `detail` is the error's
own sentence, which never holds a payload; what a bug raised is logged, and answered without details.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.errors import Refused, StatestreamError, Unavailable

log = logging.getLogger("statestream")

RETRY_AFTER_SECONDS: Final = 1


def problem(error: StatestreamError) -> web.Response:
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "code": error.code,
        "detail": str(error),
    }
    if isinstance(error, Refused):
        body["reason"] = error.reason
    response = web.Response(
        status=error.status, body=orjson.dumps(body), headers={"Content-Type": "application/problem+json"}
    )
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns StatestreamError into its problem; forbids sniffing and caching of every answer."""
    try:
        response = await handler(request)
    except StatestreamError as error:
        response = problem(error)
    if not response.prepared:
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("Cache-Control", "no-store")
    return response
