"""The application that serves a recording: `GET /stream/state` from the beginning, for each client at its own pace.

    statestream replay run.jsonl --serve

Invariants: a damaged recording is refused here, before it is served.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from aiohttp import web

from statestream.browser import client_handler, file_handler
from statestream.client.recording.replay import Replay, apply_frame, replay
from statestream.client.replica import Replica
from statestream.core.errors import Malformed
from statestream.server.problems import problems, starting
from statestream.tools.playback.stream import PlaybackStream, requested_selection

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
REPLAY: Final = web.AppKey("statestream_replay", Replay)
SHUTDOWN: Final = web.AppKey("statestream_shutdown", asyncio.Event)


def create_playback(
    path: str | os.PathLike[str], *, speed: float = 1.0, until: str | float | None = None
) -> web.Application:
    """Returns an application with `/stream/state` from a recording, and a page at `/` that shows it.

    The arguments are those of `replay`. The recording is read once before it is served, so that a damaged one is
    refused here and not in the middle of a stream. Raises Malformed, RecordingFailed.
    """
    replayed = replay(path, speed=speed, until=until)
    replica = Replica()
    if all(apply_frame(frame, replica) is None for frame in replayed.selected_frames()):
        raise Malformed(f"the recording {path} has no state that it could begin with")
    for _ in replayed.recording:
        pass
    app = web.Application(middlewares=[problems])
    app[REPLAY], app[SHUTDOWN] = replayed, asyncio.Event()
    app.router.add_get("/stream/state", stream_state, allow_head=False)
    app.router.add_get("/", file_handler("playback.html"))
    app.router.add_get("/js/{name}", client_handler())
    app.on_response_prepare.append(starting)
    app.on_shutdown.append(_end_streams)
    return app


async def _end_streams(app: web.Application) -> None:
    app[SHUTDOWN].set()


async def stream_state(request: web.Request) -> web.StreamResponse:
    """Raises Malformed and UnknownSlice before the stream begins."""
    replayed = request.config_dict[REPLAY]
    selection = requested_selection(request.query.getall("slices", None), replayed.recording)
    after = request.query.get("after") or None
    cursor = request.headers.get("Last-Event-ID") or (None if after == "earliest" else after)
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    stream = PlaybackStream(response, replayed, selection, request.config_dict[SHUTDOWN])
    try:
        await stream.play(cursor)
    except TimeoutError:  # the client reads nothing; a closing handshake would wait for it as well
        if request.transport is not None:
            request.transport.abort()
    return response
