"""One line of the log for each request, each stream and each connection that was refused.

The logger is `statestream.access`, at the level INFO, so it is silent unless somebody turns it on. A stream has its
line when it has ended, because its request may end long before that.

Invariants: a line has no query, header, cookie or body. A path is shown as the route's pattern. If the logger is off,
a request costs one question to it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from time import perf_counter
from typing import Final

from aiohttp import web

from statestream.broadcast.subscribers import StreamEnd
from statestream.core.change import new_id
from statestream.server.log_line import Value, line
from statestream.server.request import identity_of

access = logging.getLogger("statestream.access")

IDS: Final = web.RequestKey("statestream_ids", dict[str, str])
"""What a route has to say about a request: the ids that it has checked or made."""
IN_STREAM: Final = web.RequestKey("statestream_in_stream", bool)
"""Whether the request is a stream, whose end has a line of its own."""
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def is_on() -> bool:
    return access.isEnabledFor(logging.INFO)


def note(request: web.Request, **ids: str) -> None:
    """Adds ids to the line of a request."""
    if is_on():
        request[IDS] = request.get(IDS, {}) | ids


def sender_of(request: web.BaseRequest) -> dict[str, Value | None]:
    """Who sent a request, and which trace it belongs to by its `traceparent`."""
    trace = _TRACE.fullmatch(request.headers.get("traceparent", ""))
    identity = identity_of(request) if isinstance(request, web.Request) else None
    return {
        "peer": request.remote or None,
        "subject": None if identity is None else identity.subject,
        "trace": None if trace is None else trace[1],
    }


def route_of(request: web.Request) -> str | None:
    """The pattern of the route, which shows none of what the client has put into the path; None if there is none."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def log_request(request: web.Request, outcome: str, response: web.StreamResponse | None, seconds: float) -> None:
    """Logs a request that has ended, unless it has become a stream. `response`: None if there was none, or no end."""
    if IN_STREAM in request:
        return
    access.info(
        line(
            "request",
            request=new_id(),
            method=request.method,
            route=route_of(request),
            status=None if response is None else response.status,
            outcome=outcome,
            seconds=round(seconds, 6),
            **sender_of(request),
            **request.get(IDS, {}),
        )
    )


def log_refusal(reason: str, peer: str | None) -> None:
    """Logs what was refused before it was a request. `reason` is a word of our own or of a library."""
    if is_on():
        access.info(line("refusal", reason=reason, peer=peer))


def stream_logger(request: web.Request) -> Callable[[StreamEnd], None] | None:
    """What is to be called when the stream of this request has ended; None if the log is off.

    It holds nothing of the request.
    """
    if not is_on():
        return None
    request[IN_STREAM] = True
    began, stream = perf_counter(), new_id()
    about = {"route": route_of(request), **sender_of(request), **request.get(IDS, {})}

    def ended(end: StreamEnd) -> None:
        seconds = round(perf_counter() - began, 6)
        access.info(line("stream", reason=end.reason, seconds=seconds, bytes=end.sent, stream=stream, **about))

    return ended
