"""The sink of a long poll: it collects frames until there is news, which are then one answer.

A stream that is open at the head begins with `state.resumed`, which tells nothing new. Whatever follows is news: a
change, a heartbeat or the end. Every other first frame is news by itself.

Invariants: nothing is sent here. What was collected counts against the Budget until the answer has been taken.
"""

from __future__ import annotations

import asyncio
from typing import Final

from statestream.broadcast.budget import Budget
from statestream.broadcast.sink import Ending

FULL: Final = 1 << 20
"""Bytes beyond which a subscriber must wait. It resumes with the next poll."""
RESUMED: Final = b"event: state.resumed\n"
BEGINNING: Final = b"\nevent: "
CHANGES: Final = (b"event: state.initial\n", b"event: state.update\n", b"event: state.catchup\n")


class AnswerSink:
    """A Sink whose bytes become the answer to one request."""

    direct = False
    descriptor = -1  # never used: writing is not direct

    def __init__(self, transport: asyncio.Transport, budget: Budget) -> None:
        self._transport, self._budget = transport, budget
        self._frames: list[bytes] = []
        self._size = 0
        self._over = False
        self.ending: Ending = "left"
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when there is an answer, or nobody who waits for it."""
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        return self._over or self._transport.is_closing()

    @property
    def waiting(self) -> int:
        return 0

    @property
    def outstanding(self) -> int:
        return 0

    @property
    def sent(self) -> int:
        return self._size

    def write(self, data: bytes) -> bool:
        if self.closed:
            self._tell()
            return False
        if not self._budget.take(len(data)):
            self.abort("unread")
            return False
        first = not self._frames
        self._frames.append(data)
        self._size += len(data)
        if not first or not data.startswith(RESUMED) or BEGINNING in data:
            self._tell()
        return self._size <= FULL

    def took(self, data: bytes, sent: int) -> None:
        raise AssertionError("there is no descriptor to write to")

    async def drained(self) -> None:
        if self._size > FULL:
            await asyncio.shield(self._end)

    def take(self) -> bytes:
        """The answer. Nothing can be written after it, and what it holds is the caller's to count."""
        if not self.closed:
            self.ending = "polled"
        answer = b"".join(self._frames)
        self._budget.free(sum(map(len, self._frames)))
        self._frames = []
        self.finish()
        return answer

    def finish(self) -> None:
        """What was collected stays, to be taken."""
        self._over = True
        self._tell()
        if not self._end.done():
            self._end.set_result(None)

    def abort(self, how: Ending = "left") -> None:
        self.ending = how
        self._transport.abort()
        self.finish()

    def _tell(self) -> None:
        if not self.news.done():
            self.news.set_result(None)


def has_changes(answer: bytes) -> bool:
    """Whether an answer says more than that nothing has changed."""
    return answer.startswith(CHANGES) or any(b"\n" + each in answer for each in CHANGES)
