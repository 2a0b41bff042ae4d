"""Showing a conversation in an HTTP response.

Invariants: a response that ends regularly is complete. If anything is missing, the connection is aborted, because the
end of a body is all that most clients check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web

from statestream.chat.viewing.projection import Item
from statestream.chat.viewing.viewers import Viewer, show
from statestream.core.errors import StatestreamError
from statestream.server.abort import abort_response
from statestream.server.access_log import note
from statestream.server.authentication import held
from statestream.store.notifier import Notifier

KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment of an event stream."""

STREAM_HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
EVENT_HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/event-stream"}

Encode = Callable[[Sequence[Item]], bytes]


def event_stream(items: Iterable[Item]) -> bytes:
    """The items as an event stream, each as `data:` and two line feeds, the form that every client parses."""
    return b"".join(b"data: " + orjson.dumps(item) + b"\n\n" for item in items)


async def respond(
    request: web.Request,
    notifier: Notifier,
    viewer: Viewer,
    encode: Encode,
    *,
    headers: Mapping[str, str] = EVENT_HEADERS,
    keep_alive: bytes = KEEP_ALIVE,
) -> web.StreamResponse:
    """A response that shows the conversation to the viewer. `keep_alive` is written when it is silent for long.

    Raises TooManyStreams.
    """
    note(request, chat=viewer.key)
    response = web.StreamResponse(headers=headers)
    with held(request):
        await response.prepare(request)
        try:
            await show(notifier, viewer, _ResponseOutlet(response, encode, keep_alive))
        except StatestreamError:  # the slices beside the conversation are too large now, or the journal is unavailable
            abort_response(request)
    if viewer.projection.truncated:
        abort_response(request)
    return response


class _ResponseOutlet:
    """The body of a response as an outlet."""

    keep_alive_seconds = KEEP_ALIVE_SECONDS

    def __init__(self, response: web.StreamResponse, encode: Encode, keep_alive: bytes) -> None:
        self.writing = asyncio.Lock()
        self._response, self._encode, self._keep_alive = response, encode, keep_alive

    async def send(self, items: Sequence[Item]) -> None:
        await self._response.write(self._encode(items))

    async def keep_alive(self) -> None:
        if self._keep_alive:
            await self._response.write(self._keep_alive)
