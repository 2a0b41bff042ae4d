"""One client's stream of a recording: frames when they are due, heartbeats in between and after the last.

Invariants: frames about the recorded client's own connection (`state.resumed`, `stream.end`) are not passed on. A
cursor is honoured if the recording has a frame at its position; otherwise it is refused with `forked`. A slice that was
not recorded is unknown, as an undeclared slice is to a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from statestream.client.recording.lines import RecordedFrame
from statestream.client.recording.recording import Recording
from statestream.client.recording.replay import FairSleep, Replay, ReplayClock
from statestream.client.replica import Replica, Update
from statestream.client.selection import selection_of
from statestream.core.change import now_ms
from statestream.core.errors import UnknownSlice
from statestream.core.names import check_name, split_name
from statestream.core.selection import EVERYTHING, Selection
from statestream.protocol import sse


def requested_selection(values: Sequence[str] | None, recording: Recording) -> Selection:
    """The selection of the query's `slices`; without it, everything that was recorded.

    Raises Malformed, UnknownSlice.
    """
    items = [] if values is None else ",".join(values).split(",")
    if not items or "*" in items:
        return EVERYTHING
    recorded = _recorded_slices(recording)
    for item in items:
        name, slash, key = item.partition("/")
        family = f"{check_name(name)}/*" if slash else item
        if key != "*":
            split_name(item)
        if not {item, "*", family} & recorded:
            raise UnknownSlice(f"expected a slice that was recorded ({', '.join(sorted(recorded))}), got {item}")
    return selection_of(items)


def _recorded_slices(recording: Recording) -> set[str]:
    """What the recorded client asked for; if that was every plain slice, the slices of its first state."""
    if recording.slices is not None:
        return set(recording.slices)
    first = next((frame for frame in recording if frame.event.event == "state.initial"), None)
    return set() if first is None else set(orjson.loads(first.event.data)["slices"])


def selected_part(data: dict[str, Any], selection: Selection) -> dict[str, Any] | None:
    """The frame with the selected slices only; None if it is about none of them. Changes `data`."""
    match data["type"]:
        case "state.initial":
            for member in ("slices", "versions"):
                data[member] = {name: value for name, value in data[member].items() if selection.matches(name)}
        case "state.update":
            return data if selection.matches(data["slice"]) else None
        case "state.catchup":
            data["updates"] = [item for item in data["updates"] if selection.matches(item["slice"])]
            return data if data["updates"] else None
    return data


RETRY_MS: Final = 2_000
MIN_HEARTBEAT: Final = 0.1
STALLED_SECONDS: Final = 30.0
"""A client that reads nothing for so long is disconnected."""
OWN_EVENTS: Final = ("state.resumed", "stream.end")

Steps = AsyncIterator[tuple[RecordedFrame, list[Update]]]


class PlaybackStream:
    """Plays into a replica, which has what the client would have if it had selected everything."""

    def __init__(
        self, response: web.StreamResponse, replay: Replay, selection: Selection, shutdown: asyncio.Event
    ) -> None:
        self._response, self._replay, self._selection, self._shutdown = response, replay, selection, shutdown
        self._replica, self._clock, self._pause = Replica(), ReplayClock(replay.speed), FairSleep()
        self._sent_position: str | None = None
        self._sent_at = 0.0

    async def play(self, cursor: str | None) -> None:
        """Sends everything after `cursor`, or from the beginning; then heartbeats until the server shuts down.

        Raises TimeoutError if the client reads nothing.
        """
        frames = self._replay.play_into(self._replica, self._due)
        if cursor is not None and not await self._resume(frames, cursor):
            self._replica = Replica()
            frames = self._replay.play_into(self._replica, self._due)
        async for frame, _ in frames:
            if self._shutdown.is_set():
                break
            if self._sent_position is None:
                self._clock.start(frame.at)
                await self._send("state.initial", self._initial(frame, "start" if cursor is None else "forked"))
            elif (data := self._data_of(frame)) is not None:
                await self._send(frame.event.event, data)
        while not self._shutdown.is_set():
            await self._sleep(self._until_heartbeat())
            await self._heartbeat()
        end = {"type": "stream.end", "reason": "shutdown", "retry": RETRY_MS}
        await self._write(sse.encode("stream.end", orjson.dumps(end), retry=RETRY_MS))

    async def _resume(self, frames: Steps, cursor: str) -> bool:
        """Resumes at the cursor; returns False if the recording has no frame there."""
        async for frame, _ in frames:
            if self._replica.position == cursor:
                self._clock.start(frame.at)
                await self._send("state.resumed", self._resumed())
                return True
        return False

    async def _due(self, frame: RecordedFrame) -> None:
        """Waits until the frame is due, with heartbeats meanwhile. Frames before the first one sent are due at once."""
        while self._sent_position is not None and not self._shutdown.is_set():
            remaining = self._clock.remaining(frame.at)
            if remaining <= 0:
                break
            await self._sleep(min(remaining, self._until_heartbeat()))
            await self._heartbeat()
        await self._pause.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        """Sleeps, or returns early when the server shuts down."""
        try:
            async with asyncio.timeout(seconds):
                await self._shutdown.wait()
        except TimeoutError:
            pass

    # sending

    def _until_heartbeat(self) -> float:
        heartbeat = max(MIN_HEARTBEAT, (self._replica.heartbeat_ms or 0) / 1000)
        return self._sent_at + heartbeat - asyncio.get_running_loop().time()

    async def _heartbeat(self) -> None:
        """Sends a heartbeat if one is due."""
        if self._until_heartbeat() <= 0 and not self._shutdown.is_set():
            position = self._replica.position or self._sent_position
            data = {"type": "heartbeat", "position": position, "timestamp": now_ms()}
            await self._send("heartbeat", orjson.dumps(data))

    async def _send(self, event: str, data: bytes) -> None:
        """Sends a frame with the replica's position; in a gap, with the last position that was sent."""
        retry = RETRY_MS if self._sent_position is None else None
        self._sent_position = self._replica.position or self._sent_position
        await self._write(sse.encode(event, data, id=self._sent_position, retry=retry))
        self._sent_at = asyncio.get_running_loop().time()

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(STALLED_SECONDS):
            await self._response.write(data)

    def _resumed(self) -> bytes:
        replica = self._replica
        data = {
            "type": "state.resumed",
            "position": replica.position,
            "versions": {name: n for name, n in replica.versions.items() if self._selection.matches(name)},
            "heartbeat": replica.heartbeat_ms,
            "retry": RETRY_MS,
            "timestamp": now_ms(),
        }
        return orjson.dumps(data)

    def _initial(self, frame: RecordedFrame, reason: str) -> bytes:
        data = orjson.loads(frame.event.data) | {"reason": reason, "retry": RETRY_MS}
        return orjson.dumps(selected_part(data, self._selection))

    def _data_of(self, frame: RecordedFrame) -> bytes | None:
        """The data of the frame that the client receives; None if the frame is not for it."""
        if frame.event.event in OWN_EVENTS:
            return None
        if self._selection.everything:
            return frame.event.data.encode()
        data = selected_part(orjson.loads(frame.event.data), self._selection)
        return None if data is None else orjson.dumps(data)
