"""Errors as RFC 9457 problems: `application/problem+json` with a stable `code`.

Invariants: every StatestreamError that leaves a route passes here and nowhere else. A request that a browser should not
have sent reaches no route. `detail` is the error's message,
which never contains a payload. Any other exception is logged, and the response has no details of it; so is an error
that the protocol does not know. However a request ends, it is counted once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from math import ceil
from time import perf_counter
from typing import Final

import orjson
from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.typedefs import Handler
from aiohttp.web_urldispatcher import SystemRoute

from statestream.core.errors import HandlerFailed, JournalUnusable, Refused, StatestreamError, Unavailable
from statestream.core.suggestions import instead
from statestream.server import access_log, audit
from statestream.server.cors import preflight
from statestream.server.hosts import check_host
from statestream.server.limits import count_limited
from statestream.server.origin import check_origin
from statestream.server.request_span import in_span
from statestream.store import tracing

log = logging.getLogger("statestream")

HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Of every response that does not have its own."""
STARTED: Final = web.RequestKey("statestream_started", bool)
OUTCOME: Final = web.RequestKey("statestream_outcome", str)
"""How the request ends, if a route decides it: `ok` for a stream, which is counted separately, or a code."""
OUTCOMES: Final = web.AppKey("statestream_outcomes", Counter[str])
"""Requests by how they ended: `ok`, the code of an error, `left` by their client, or `cut` after the head was sent."""
FATES: Final = ("ok", "left", "cut", "internal", *(each.code for each in (HandlerFailed, JournalUnusable, Unavailable)))
"""The outcomes that are no fault of a client. They are counted from the start, for alerts."""
OWN: Final = "statestream."
UNTOLD: Final = ("/metrics", "/health/", "/inspect")
"""The routes that are not suggested to clients: they are for operators."""
DENIALS: Final = {"forbidden", "unauthenticated"}
"""The codes of requests whose sender may not do what it asks for."""


def problem(error: StatestreamError) -> web.Response:
    more = {"reason": error.reason} if isinstance(error, Refused) else {}
    response = _problem(error.status, error.code, str(error), **more)
    response.headers.update(retry_headers(error))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def retry_headers(error: StatestreamError) -> dict[str, str]:
    """When to try again, if that may help."""
    return {"Retry-After": str(max(1, ceil(error.retry_after)))} if error.retryable else {}


def last_problem(error: StatestreamError) -> web.Response:
    """A problem that does not pass through the application, and after which the connection ends."""
    response = problem(error)
    response.headers.update(HEADERS)
    response.force_close()
    return response


def _problem(status: int, code: str, detail: str, allow: Sequence[str] = (), **more: str) -> web.Response:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **more}
    headers = {"Content-Type": "application/problem+json"} | ({"Allow": ",".join(allow)} if allow else {})
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)


def plain_problem(status: int, code: str, detail: str) -> bytes:
    """The bytes of a last answer to somebody whose request has not arrived."""
    response = _problem(status, code, detail)
    assert isinstance(response.body, bytes)
    sent = {**response.headers, **HEADERS, "Connection": "close", "Content-Length": str(len(response.body))}
    head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*head, "", ""]).encode() + response.body


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a route raises into a problem, and counts and logs how the request ended."""
    outcome, response, began = "ok", None, perf_counter()
    try:
        check_host(request)
        check_origin(request)
        response = preflight(request) or await (in_span(request, handler) if tracing.is_on() else handler(request))
    except (ConnectionError, asyncio.CancelledError):
        outcome = "left"
        raise
    except Exception as error:
        outcome = "cut"
        if STARTED in request:
            raise
        outcome, response = _code(error), error if isinstance(error, web.HTTPException) else None
        count_limited(request, error)
        response = _answer(request, error, outcome)
    finally:
        outcome = request.get(OUTCOME, outcome)
        request.config_dict.get(OUTCOMES, Counter())[outcome] += 1
        if access_log.is_on():
            access_log.log_request(request, outcome, response, perf_counter() - began)
    if outcome in DENIALS:
        audit.refused(request, outcome)
    return response


def _code(error: Exception) -> str:
    """The code of what a route has raised. `ok` for a response that is raised, such as a redirect."""
    if isinstance(error, web.HTTPException):
        return "ok" if error.status < 400 else HTTPStatus(error.status).phrase.lower().replace(" ", "_")
    known = isinstance(error, StatestreamError) and error.code != StatestreamError.code
    return error.code if known and isinstance(error, StatestreamError) else "internal"


def _answer(request: web.Request, error: Exception, code: str) -> web.StreamResponse:
    if isinstance(error, StatestreamError) and code != "internal":
        return problem(error)
    if not isinstance(error, web.HTTPException):
        log.error("%s %s failed", request.method, access_log.route_of(request), exc_info=error)
        return _problem(500, code, "the server failed; the details are in its log")
    error.__traceback__ = None  # its frames have the request, which has the error
    if isinstance(route := request.match_info.route, SystemRoute):
        vars(route).pop("_handler", None)  # a method of the route, which is made for this request
    if error.status < 400 or error.content_type != "text/plain":
        raise error  # the route's own response
    allowed = error.headers.getall("Allow", [])
    hint = (
        _hint(request)
        if error.status == HTTPStatus.NOT_FOUND
        else f"; it takes {', '.join(allowed)}"
        if allowed
        else ""
    )
    detail = f"{request.method} {request.path} was refused: {error.reason}{hint}"
    return _problem(error.status, code, detail, allowed)


def _hint(request: web.Request) -> str:
    """The route that the client may have meant. Only our own are suggested, because an application's may be private."""
    routes = (route for route in request.app.router.routes() if route.handler.__module__.startswith(OWN))
    paths = {route.resource.canonical for route in routes if route.resource is not None}
    told = {path for path in paths if not path.startswith(UNTOLD)}
    return instead(request.path, told, "routes")


async def starting(request: web.Request, response: web.StreamResponse) -> None:
    """For `on_response_prepare`: no response is sniffed or, unless it allows that, cached.

    From here on, only aborting the connection can signal an error.
    """
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    hide_software(response)
    request[STARTED] = True


def hide_software(response: web.StreamResponse) -> None:
    """Removes the name and the version of aiohttp, which help nobody but an attacker."""
    if response.headers.get("Server") == SERVER_SOFTWARE:
        del response.headers["Server"]
