"""The span of a request, by OpenTelemetry's semantic conventions for HTTP.

Invariants: a path is shown as the route's pattern, and nothing else that the client has sent is in the span. The span
of a stream whose socket is handed off ends when the stream begins.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.core.errors import StatestreamError
from statestream.server.access_log import route_of
from statestream.store import tracing
from statestream.store.tracing import Span


async def in_span(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Calls the handler within a span of its own, unless another library has made one already."""
    route = route_of(request)
    name = request.method if route is None else f"{request.method} {route}"
    about = {"http.request.method": request.method} | ({} if route is None else {"http.route": route})
    span = tracing.begin_request(name, request.headers, about)
    if span is None:
        return await handler(request)
    try:
        with span.current():
            response = await handler(request)
    except (ConnectionError, asyncio.CancelledError):
        span.fail("left", ours=False)
        raise
    except Exception as error:
        _answered(span, _status_of(error), type(error).__name__)
        raise
    else:
        _answered(span, response.status, str(response.status))
        return response
    finally:
        span.end()


def _answered(span: Span, status: int, kind: str) -> None:
    span.set({"http.response.status_code": status})
    if status >= HTTPStatus.BAD_REQUEST:
        span.fail(kind, ours=status >= HTTPStatus.INTERNAL_SERVER_ERROR)


def _status_of(error: Exception) -> int:
    """The status of the answer that the error becomes."""
    if isinstance(error, StatestreamError | web.HTTPException):
        return error.status
    return HTTPStatus.INTERNAL_SERVER_ERROR
