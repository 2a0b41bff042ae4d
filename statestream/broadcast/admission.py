"""Shares the event loop between work that many subscribers cause at the same time, and everything else.

Subscribers that join, resume or catch up, and large frames to many subscribers, could each occupy the loop for seconds.
This work takes turns: together it gets TURN_SECONDS, and then everything else gets at least as much time, unless it
needs less.

Invariants: one admission for all subscribers of a node, so a turn is bounded whatever they do. A turn takes at most
TURN_SECONDS, plus one piece of work. In a turn each piece has an iteration of its own. The pieces are in the order of
arrival. After each turn there is a Pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from statestream.store.pause import Pause

TURN_SECONDS: Final = 0.005


class Admission:
    """Use `with admission.working():` for work that a thousand subscribers may need at the same time. Enter it if the
    admission is `open`, after `await admission.admitted()`, or in what is called by `soon`.
    """

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()
        self._spent = 0.0
        self._pause = Pause()
        self._scheduled = False

    @property
    def open(self) -> bool:
        """Whether nobody waits, and this turn has time left."""
        return not self._waiting and self._spent < TURN_SECONDS

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
        """Returns in a turn, in an iteration of its own."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.soon(partial(_wake, waiter))
        await waiter

    def soon(self, work: Callable[[], object]) -> None:
        """Calls `work` in a later iteration, in a turn."""
        self._waiting.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._iterate)

    def _iterate(self) -> None:
        """Once in each iteration until nobody waits and a pause is over. What it admits runs before its next call."""
        self._scheduled = False
        try:
            if self._waiting and self._spent < TURN_SECONDS:
                self._pause = Pause()
                self._waiting.popleft()()
            elif self._pause.over(self._spent):
                self._pause, self._spent = Pause(), 0.0
        finally:
            if self._waiting or self._spent:
                self._schedule()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():  # otherwise it was cancelled
        waiter.set_result(None)
