"""Playing a recording: the same frames through the same replica, at their pace.

    async for update in replay("run.jsonl", speed=10):
        print(update.slice, update.kind)

Invariants: a frame that was a gap for the recorded client is skipped, as that client did: nothing counts until the next
`state.initial`. The due time of a frame is computed from the beginning, not from the frame before, so that
delays do not add up.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from statestream.client.recording.lines import RecordedFrame
from statestream.client.recording.recording import Recording
from statestream.client.replica import Replica, Update
from statestream.core.errors import Gap, Malformed

FRAMES_PER_YIELD: Final = 100
"""How many frames may be played without a wait before other tasks may run."""


class ReplayClock:
    """A frame is due `at / speed` after the clock was started."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.start(0)

    def start(self, at: int) -> None:
        """Makes a frame at `at` ms after the beginning due now."""
        self._zero = asyncio.get_running_loop().time() - at / 1000 / self._speed

    def remaining(self, at: int) -> float:
        """The seconds until the frame is due; 0 or less if it is overdue."""
        return self._zero + at / 1000 / self._speed - asyncio.get_running_loop().time()


class FairSleep:
    """Sleeps, and yields to other tasks now and then even if there is nothing to sleep for."""

    def __init__(self) -> None:
        self._since_yield = 0

    async def sleep(self, seconds: float) -> None:
        self._since_yield += 1
        if seconds > 0 or self._since_yield >= FRAMES_PER_YIELD:
            self._since_yield = 0
            await asyncio.sleep(max(0.0, seconds))


def replay(path: str | os.PathLike[str], *, speed: float = 1.0, until: str | float | None = None) -> Replay:
    """Returns a recording as a stream: iterate over it with `async for`; `state` is the state after the last update.

    `speed` 2.0 is twice the recorded pace, `math.inf` is without pauses. `until` is a position (a string) or the
    seconds from the beginning (a number): the replay ends with the frame that reaches the position, or with the last
    frame within that time. Raises Malformed if the file is not a recording, RecordingFailed if it cannot be read.
    """
    return Replay(Recording(path), speed, until)


class Replay:
    """A recording that is played, returned by `replay`.

    Each loop over it starts at the beginning. `state`, `versions` and `position` belong to the loop that was started
    last.
    """

    def __init__(self, recording: Recording, speed: float, until: str | float | None) -> None:
        if not speed > 0:
            raise Malformed(f"expected a speed above 0, or math.inf to play without pauses; got {speed}")
        if isinstance(until, (int, float)) and not until >= 0:
            raise Malformed(f"expected `until` in seconds from the beginning, got {until}")
        if isinstance(until, str) and not recording.reaches(until):
            raise Malformed(f"the recording has no frame at the position of `until`, {until!r}")
        self.recording, self.speed, self.until = recording, speed, until
        self._replica = Replica()

    @property
    def state(self) -> Mapping[str, Any]:
        """The value of each slice after the last update, by name."""
        return self._replica.state

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice, by name."""
        return self._replica.versions

    @property
    def position(self) -> str | None:
        """The position of the last frame; None before the first, and between a gap and the next `state.initial`."""
        return self._replica.position

    def __aiter__(self) -> AsyncIterator[Update]:
        return self._updates()

    async def _updates(self) -> AsyncIterator[Update]:
        async for _, updates in self.frames():
            for update in updates:
                yield update

    async def frames(self) -> AsyncIterator[tuple[RecordedFrame, list[Update]]]:
        """Each frame that counts, when it is due, with the updates that it leads to."""
        clock, pause = ReplayClock(self.speed), FairSleep()

        async def due(frame: RecordedFrame) -> None:
            await pause.sleep(clock.remaining(frame.at))

        self._replica = Replica()
        async for frame, updates in self.play_into(self._replica, due):
            yield frame, updates

    async def play_into(
        self, replica: Replica, due: Callable[[RecordedFrame], Awaitable[None]]
    ) -> AsyncIterator[tuple[RecordedFrame, list[Update]]]:
        """Applies each frame up to `until` to `replica` after `due(frame)` has returned; yields those that count."""
        for frame in self.selected_frames():
            await due(frame)
            updates = apply_frame(frame, replica)
            if updates is not None:
                yield frame, updates
                if replica.position == self.until:
                    return

    def selected_frames(self) -> Iterator[RecordedFrame]:
        """The frames within the seconds of `until`; all frames if `until` is a position or None."""
        last_ms = math.inf if self.until is None or isinstance(self.until, str) else self.until * 1000
        return itertools.takewhile(lambda frame: frame.at <= last_ms, self.recording)


def apply_frame(frame: RecordedFrame, replica: Replica) -> list[Update] | None:
    """The updates that the frame leads to; None if it does not count."""
    if replica.position is None and frame.event.event != "state.initial":
        return None
    try:
        return replica.apply(frame.event)
    except Gap:
        replica.forget_position()
        return None
