"""When a frame of a replay is due, and how to wait for it.

Invariants: the due time is computed from the beginning, not from the frame before, so that delays do not add up.
"""

from __future__ import annotations

import asyncio
from typing import Final

FRAMES_PER_YIELD: Final = 100
"""How many frames may be played without a wait before other tasks get a turn of the event loop."""


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
