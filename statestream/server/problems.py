"""Errors as RFC 9457 problems: `application/problem+json` with a stable `code`.

Invariants: every StatestreamError that leaves a route passes here and nowhere else. `detail` is the error's message,
which never contains a payload. Any other exception is logged, and the response has no details of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.core.errors import Refused, StatestreamError

log = logging.getLogger("statestream")

RETRY_AFTER_SECONDS: Final = 1
HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Of every response that does not have its own."""
STARTED: Final = web.RequestKey("statestream_started", bool)


def problem(error: StatestreamError) -> web.Response:
    more = {"reason": error.reason} if isinstance(error, Refused) else {}
    response = _problem(error.status, error.code, str(error), **more)
    if error.retryable:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def last_problem(error: StatestreamError) -> web.Response:
    """A problem that no application prepares, and after which the connection ends."""
    response = problem(error)
    response.headers.update(HEADERS)
    response.force_close()
    return response


def _problem(status: int, code: str, detail: str, allow: Sequence[str] = (), **more: str) -> web.Response:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **more}
    headers = {"Content-Type": "application/problem+json"} | ({"Allow": ",".join(allow)} if allow else {})
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a route raises into a problem."""
    try:
        return await handler(request)
    except ConnectionError:
        raise  # the client has left
    except Exception as error:
        if STARTED in request:
            raise
        return _answer(request, error)


def _answer(request: web.Request, error: Exception) -> web.StreamResponse:
    if isinstance(error, StatestreamError):
        return problem(error)
    if not isinstance(error, web.HTTPException):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _problem(500, "internal", "the server failed; the details are in its log")
    error.__traceback__ = None  # its frames have the request, which has the error
    if error.status < 400 or error.content_type != "text/plain":
        raise error  # the route's own response
    code = HTTPStatus(error.status).phrase.lower().replace(" ", "_")
    detail = f"{request.method} {request.path} was refused: {error.reason}"
    return _problem(error.status, code, detail, error.headers.getall("Allow", []))


async def starting(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: no response is sniffed or, unless it allows that, cached.

    From here on, only aborting the connection can signal an error.
    """
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    request[STARTED] = True
