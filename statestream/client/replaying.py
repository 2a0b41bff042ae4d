"""A recording played back: the same frames through the same replica, at their pace.

    async for update in replay("run.jsonl", speed=10):
        print(update.slice, update.kind)

Invariants: what the recorded client met as a gap is passed over as it did: nothing counts until the next
`state.initial`. When a frame is due follows from the beginning, not from the frame before, so that no delay adds up.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from statestream.client.recording import Frame, Recording
from statestream.client.replica import Replica, Update
from statestream.core.errors import Gap, Malformed

A_TURN: Final = 100
"""Frames that are played without giving others a turn, where nothing is waited for."""


def replay(path: str | os.PathLike[str], *, speed: float = 1.0, until: str | float | None = None) -> Replay:
    """A recording as a stream: iterate it with `async for`; `state` is what the updates so far have made.

    `speed`: 2.0 is twice as fast as it was, `math.inf` as fast as it goes. `until`: a position (text), or seconds
    from the beginning of the recording (a number): the last frame is the one that reaches that position, or the
    last within that time. Raises Malformed for what is no recording, RecordingFailed where it cannot be read.
    """
    return Replay(Recording(path), speed, until)


class Replay:
    """What `replay` makes. Each loop over it begins at the beginning; `state` is that of the loop begun last."""

    def __init__(self, recording: Recording, speed: float, until: str | float | None) -> None:
        if not speed > 0:
            raise Malformed(f"expected a speed above 0, or math.inf for as fast as it goes; got {speed}")
        if isinstance(until, (int, float)) and not until >= 0:
            raise Malformed(f"expected seconds from the beginning in `until`, got {until}")
        if isinstance(until, str) and not recording.passes(until):
            raise Malformed(f"expected a position in `until` at which the recording has a frame, got {until!r}")
        self.recording, self.speed, self.until = recording, speed, until
        self._replica = Replica()

    @property
    def state(self) -> Mapping[str, Any]:
        """The value of each slice, as the updates so far have made it."""
        return self._replica.state

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice."""
        return self._replica.versions

    @property
    def position(self) -> str | None:
        """None before the first frame, and between a gap and the next `state.initial`."""
        return self._replica.position

    def __aiter__(self) -> AsyncIterator[Update]:
        return self._updates()

    async def _updates(self) -> AsyncIterator[Update]:
        async for _, updates in self.frames():
            for update in updates:
                yield update

    async def frames(self) -> AsyncIterator[tuple[Frame, list[Update]]]:
        """Every frame that counts, when it is due, with what it has changed."""
        pace, waited = Pace(self.speed), Turns()

        async def due(frame: Frame) -> None:
            await waited.wait(pace.left(frame.at))

        self._replica = Replica()
        async for frame, updates in self.played(self._replica, due):
            yield frame, updates

    async def played(
        self, replica: Replica, due: Callable[[Frame], Awaitable[None]]
    ) -> AsyncIterator[tuple[Frame, list[Update]]]:
        """Applies each frame up to `until` to `replica` once `due(frame)` has returned; gives those that count."""
        for frame in self.within():
            await due(frame)
            updates = taken(frame, replica)
            if updates is not None:
                yield frame, updates
                if replica.position == self.until:
                    return

    def within(self) -> Iterator[Frame]:
        """The frames within the seconds that `until` allows."""
        last_ms = math.inf if self.until is None or isinstance(self.until, str) else self.until * 1000
        return itertools.takewhile(lambda frame: frame.at <= last_ms, self.recording)


class Pace:
    """When a frame is due: `at` / `speed` after the clock began."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self.begin(0)

    def begin(self, at: int) -> None:
        """What came `at` ms after the beginning is due now."""
        self._zero = asyncio.get_running_loop().time() - at / 1000 / self._speed

    def left(self, at: int) -> float:
        """Seconds until then; 0 or less where it is over."""
        return self._zero + at / 1000 / self._speed - asyncio.get_running_loop().time()


class Turns:
    """Waits, and where there is nothing to wait for lets others have a turn now and then."""

    def __init__(self) -> None:
        self._since = 0

    async def wait(self, seconds: float) -> None:
        self._since += 1
        if seconds > 0 or self._since >= A_TURN:
            self._since = 0
            await asyncio.sleep(max(0.0, seconds))


def taken(frame: Frame, replica: Replica) -> list[Update] | None:
    """What the frame changed; None where it does not count."""
    if replica.position is None and frame.event.event != "state.initial":
        return None
    try:
        return replica.apply(frame.event)
    except Gap:
        replica.forget_position()
        return None
