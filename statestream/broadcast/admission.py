"""Shares the iterations of the event loop among subscribers that join, resume or catch up at the same time.

Invariants: admitted work takes at most ITERATION_SECONDS of an iteration, plus one piece of work. All other work of the
loop runs in between. A caller that waits continues in a later iteration, in the order of arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

PER_ITERATION: Final = 16
ITERATION_SECONDS: Final = 0.005


class Admission:
    """Use `with admission.working():` for work that a thousand subscribers may need at the same time. Enter it if the
    admission is `open`, or after `await admission.admitted()`.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._room = PER_ITERATION
        self._spent = 0.0
        self._scheduled = False

    @property
    def open(self) -> bool:
        """Whether no caller waits, and this iteration has time left."""
        return not self._waiting and self._spent < ITERATION_SECONDS

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Counts the time that is spent inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._spent += time.perf_counter() - began
            self._schedule()

    async def admitted(self) -> None:
        """Returns in a later iteration, with at most PER_ITERATION - 1 others, or fewer if their work is long."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._schedule()
        await waiter

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        """Runs after the callers that it admitted before, so `_spent` is the time that they took."""
        self._room = max(1, self._room // 2) if self._spent > ITERATION_SECONDS else min(PER_ITERATION, self._room * 2)
        self._spent = 0.0
        room = self._room
        while room and self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # a waiter that was cancelled has left the queue
                first.set_result(None)
                room -= 1
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._admit)
