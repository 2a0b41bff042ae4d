"""Lets a bounded number through in each turn of the event loop.

Invariants: whoever waits goes on in a later turn, in the order of coming; between two turns everything else of the loop
runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

A_TURN: Final = 16


class Turnstile:
    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def passed(self) -> None:
        """Returns in a later turn, together with at most fifteen others."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if not self._turning:
            self._turning = True
            loop.call_soon(self._turn)
        await mine

    def _turn(self) -> None:
        room = A_TURN
        while room and self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # one that was cancelled has left the queue
                first.set_result(None)
                room -= 1
        self._turning = bool(self._waiting)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)
