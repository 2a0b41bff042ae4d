"""One viewer of a chat over a response: woken by changes, shown what is new, kept alive in between.

Invariants: a viewer that is slow holds up nobody: what came meanwhile is seen at its next look, as one. What ends a
viewer ends nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from aiohttp import web

from statestream.store.notifier import Notifier

KEEP_ALIVE_SECONDS: Final = 15.0

Look = Callable[[set[str] | None], tuple[bytes, bool]]
"""What is new since the last look, of these slices (None: of any), and whether that was the last of it."""

STREAM_HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
EVENT_HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/event-stream"}
KEEP_ALIVE: Final = b": keep-alive\n\n"


def events(values: Iterable[Any]) -> bytes:
    """The values as an event stream, a frame each: `data:` and two line feeds, which is all that some clients read."""
    return b"".join(b"data: " + orjson.dumps(value) + b"\n\n" for value in values)


async def show(
    response: web.StreamResponse, notifier: Notifier, names: Iterable[str], look: Look, *, keep_alive: bytes = b""
) -> None:
    """Writes what `look` gives whenever one of these slices has changed, until it is over or the server stops."""
    with notifier.on(names) as signal:
        while True:
            signal.clear()
            data, last = look(signal.names())
            if data:
                await response.write(data)
            if last or notifier.closed:
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await signal.wait()
            except TimeoutError:
                if keep_alive:
                    await response.write(keep_alive)
