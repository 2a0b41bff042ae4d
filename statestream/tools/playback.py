"""A recording served as if it happened now: `GET /stream/state` from the beginning, at its pace, for each viewer.

    statestream replay run.jsonl --serve

Invariants: what a viewer gets is the protocol's, so any client follows it. Frames that speak of the recorded client's
own connection (`state.resumed`, `stream.end`) are not passed on; a cursor is honoured where the recording has its
position, or refused with `forked`. Behind the last frame heartbeats go on. Nothing here writes to the recording.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import resources
from typing import Any, Final

import orjson
from aiohttp import web

from statestream.client.recording import Frame
from statestream.client.replaying import Pace, Replay, Turns, replay, taken
from statestream.client.replica import Replica, Update
from statestream.core.change import now_ms
from statestream.core.errors import Malformed, UnknownSlice
from statestream.core.names import check_name, split_name
from statestream.protocol import sse
from statestream.server.problems import problems, starting

RETRY_MS: Final = 2_000
LEAST_HEARTBEAT: Final = 0.1
SILENT_SECONDS: Final = 30.0
"""A viewer that takes nothing for so long is cut."""
HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
OWN: Final = ("state.resumed", "stream.end")
REPLAY: Final = web.AppKey("statestream_replay", Replay)
OVER: Final = web.AppKey("statestream_over", asyncio.Event)

Wanted = Callable[[str], bool]
Steps = AsyncIterator[tuple[Frame, list[Update]]]


def create_playback(
    path: str | os.PathLike[str], *, speed: float = 1.0, until: str | float | None = None
) -> web.Application:
    """An application with `/stream/state` from a recording, and a page at `/` that shows it.

    The arguments are those of `replay`. The recording is read once before it is served, so that a broken one is
    refused here and not in the middle of a stream.
    """
    played = replay(path, speed=speed, until=until)
    replica = Replica()
    if all(taken(frame, replica) is None for frame in played.within()):
        raise Malformed(f"expected a recording with a state to begin with, {path} ends before it")
    for _ in played.recording:
        pass
    app = web.Application(middlewares=[problems])
    app[REPLAY], app[OVER] = played, asyncio.Event()
    app.router.add_get("/stream/state", stream_state, allow_head=False)
    app.router.add_get("/", _file("playback.html", "text/html"))
    app.router.add_get("/statestream.js", _file("statestream.js", "text/javascript"))
    app.on_response_prepare.append(starting)
    app.on_shutdown.append(_end_streams)
    return app


async def _end_streams(app: web.Application) -> None:
    app[OVER].set()


def _file(name: str, content_type: str) -> Callable[[web.Request], Any]:
    policy = "default-src 'self'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; img-src data:"
    text = resources.files("statestream.browser").joinpath(name).read_text(encoding="utf-8")

    async def serve(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type=content_type, headers=headers)

    return serve


async def stream_state(request: web.Request) -> web.StreamResponse:
    """Raises Malformed and UnknownSlice; after that it ends in the stream."""
    played = request.config_dict[REPLAY]
    wanted = _wanted(request.query.getall("slices", None), played)
    after = request.query.get("after") or None
    cursor = request.headers.get("Last-Event-ID") or (None if after == "earliest" else after)
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    viewer = Viewer(response, played, wanted, request.config_dict[OVER])
    try:
        await viewer.play(cursor)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    return response


class Viewer:
    """One who looks: a replica that knows where they stand, and when they last heard something."""

    def __init__(
        self, response: web.StreamResponse, played: Replay, wanted: Wanted | None, over: asyncio.Event
    ) -> None:
        self._response, self._played, self._wanted, self._over = response, played, wanted, over
        self._replica, self._pace, self._turns = Replica(), Pace(played.speed), Turns()
        self._said: str | None = None
        self._heard_at = 0.0

    async def play(self, cursor: str | None) -> None:
        """Everything behind `cursor`, or from the beginning; then heartbeats, until the server ends."""
        frames = self._played.played(self._replica, self._due)
        if cursor is not None and not await self._resume(frames, cursor):
            self._replica = Replica()
            frames = self._played.played(self._replica, self._due)
        async for frame, _ in frames:
            if self._over.is_set():
                break
            if self._said is None:
                self._pace.begin(frame.at)
                await self._say("state.initial", self._first(frame, "start" if cursor is None else "forked"))
            elif (data := self._shown(frame)) is not None:
                await self._say(frame.event.event, data)
        while not self._over.is_set():
            await self._rest(self._until_heartbeat())
            await self._heartbeat()
        end = {"type": "stream.end", "reason": "shutdown", "retry": RETRY_MS}
        await self._write(sse.encode("stream.end", orjson.dumps(end), retry=RETRY_MS))

    async def _resume(self, frames: Steps, cursor: str) -> bool:
        """Goes on where the viewer was, if the recording passes there."""
        async for frame, _ in frames:
            if self._replica.position == cursor:
                self._pace.begin(frame.at)
                await self._say("state.resumed", self._resumed())
                return True
        return False

    async def _due(self, frame: Frame) -> None:
        """Waits for the frame's time, with heartbeats; not before the first that is sent."""
        while self._said is not None and not self._over.is_set():
            left = self._pace.left(frame.at)
            if left <= 0:
                break
            await self._rest(min(left, self._until_heartbeat()))
            await self._heartbeat()
        await self._turns.wait(0)

    async def _rest(self, seconds: float) -> None:
        """So long, or until the server ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    # what is said

    def _until_heartbeat(self) -> float:
        heartbeat = max(LEAST_HEARTBEAT, (self._replica.heartbeat_ms or 0) / 1000)
        return self._heard_at + heartbeat - asyncio.get_running_loop().time()

    async def _heartbeat(self) -> None:
        """Where it is time for one."""
        if self._until_heartbeat() <= 0 and not self._over.is_set():
            position = self._replica.position or self._said
            data = {"type": "heartbeat", "position": position, "timestamp": now_ms()}
            await self._say("heartbeat", orjson.dumps(data))

    async def _say(self, event: str, data: bytes) -> None:
        """A frame at the replica's position; after a gap, at the last that was said."""
        retry = RETRY_MS if self._said is None else None
        self._said = self._replica.position or self._said
        await self._write(sse.encode(event, data, id=self._said, retry=retry))
        self._heard_at = asyncio.get_running_loop().time()

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(SILENT_SECONDS):
            await self._response.write(data)

    def _resumed(self) -> bytes:
        replica, wanted = self._replica, self._wanted
        data = {
            "type": "state.resumed",
            "position": replica.position,
            "versions": {name: n for name, n in replica.versions.items() if wanted is None or wanted(name)},
            "heartbeat": replica.heartbeat_ms,
            "timestamp": now_ms(),
        }
        return orjson.dumps(data)

    def _first(self, frame: Frame, reason: str) -> bytes:
        data = orjson.loads(frame.event.data) | {"reason": reason}
        return orjson.dumps(data if self._wanted is None else _chosen(data, self._wanted))

    def _shown(self, frame: Frame) -> bytes | None:
        """What the viewer gets of a frame; None: nothing."""
        if frame.event.event in OWN:
            return None
        if self._wanted is None:
            return frame.event.data.encode()
        data = _chosen(orjson.loads(frame.event.data), self._wanted)
        return None if data is None else orjson.dumps(data)


def _chosen(data: dict[str, Any], wanted: Wanted) -> dict[str, Any] | None:
    """The frame with the wanted slices only; None where it has none of them."""
    match data["type"]:
        case "state.initial":
            for part in ("slices", "versions"):
                data[part] = {name: value for name, value in data[part].items() if wanted(name)}
        case "state.update":
            return data if wanted(data["slice"]) else None
        case "state.catchup":
            data["updates"] = [item for item in data["updates"] if wanted(item["slice"])]
            return data if data["updates"] else None
    return data


def _wanted(asked: Sequence[str] | None, played: Replay) -> Wanted | None:
    """What the query's `slices` asks for; None is all that was recorded. Raises Malformed, UnknownSlice."""
    items = [] if asked is None else ",".join(asked).split(",")
    if not items or "*" in items:
        return None
    recorded = _recorded(played)
    names, families = set(), []
    for item in items:
        name, slash, key = item.partition("/")
        family = f"{check_name(name)}/" if slash else ""
        if slash and key == "*":
            families.append(family)
        else:
            split_name(item)
            names.add(item)
        if not {item, "*", f"{family}*" if slash else item} & recorded:
            raise UnknownSlice(f"expected a slice that was recorded ({', '.join(sorted(recorded))}), got {item}")
    return lambda full: full in names or full.startswith(tuple(families))


def _recorded(played: Replay) -> set[str]:
    """What the recorded client asked for; where that was every plain slice, those that it got at first."""
    if played.recording.slices is not None:
        return set(played.recording.slices)
    first = next((frame for frame in played.recording if frame.event.event == "state.initial"), None)
    return set() if first is None else set(orjson.loads(first.event.data)["slices"])
