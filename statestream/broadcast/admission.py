"""Lets a bounded number of waiters through in each iteration of the event loop.

Invariants: a waiter continues in a later iteration, in the order of arrival. Everything else of the loop runs in
between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PER_ITERATION: Final = 16


class Admission:
    """`await admission.admitted()` before work that a thousand may want to do at the same time."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._scheduled = False

    async def admitted(self) -> None:
        """Returns in a later iteration, together with at most PER_ITERATION - 1 others."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._admit)
        await waiter

    def _admit(self) -> None:
        room = PER_ITERATION
        while room and self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # a waiter that was cancelled has left the queue
                first.set_result(None)
                room -= 1
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._admit)
