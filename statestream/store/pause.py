"""A pause between two portions of long work: everything else in the event loop gets at least as much time as the work.

Invariants: a pause lasts ITERATIONS iterations of the loop without work, which is microseconds; or as long as the
portion before it, but at least ITERATIONS iterations. Whoever pauses asks `over` in each iteration, and never waits;
a coroutine that has nothing else to do calls `rest`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

ITERATIONS: Final = 8
"""An action needs about as many from its request to its subscribers, so long work delays it by one or two portions, not
by one in each of its own iterations.
"""
IDLE_SECONDS: Final = 0.0001
"""An iteration that takes less had no work."""


class Pause:
    """Begins when `over` is first called."""

    __slots__ = ("_asked", "_began", "_idle", "_iterations")

    def __init__(self) -> None:
        self._began = self._asked = 0.0
        self._iterations = self._idle = 0

    def over(self, seconds: float) -> bool:
        """`seconds`: how long the portion before it took."""
        now = time.perf_counter()
        self._began = self._began or now
        self._iterations += 1
        self._idle = self._idle + 1 if now - self._asked < IDLE_SECONDS else 0
        self._asked = now
        return self._idle >= ITERATIONS or (self._iterations > ITERATIONS and now - self._began >= seconds)


async def rest(seconds: float) -> None:
    """Returns when the pause after a portion is over. `seconds`: how long the portion took."""
    pause = Pause()
    while not pause.over(seconds):
        await asyncio.sleep(0)
