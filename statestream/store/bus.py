"""Announces committed changes, in order, and keeps the newest of them for readers that come back soon.

Invariants: synchronous; a listener runs inside the commit and must not await, take long, or raise. One that
raises is logged and does not stop the others. Positions in the tail are contiguous: a hole would be
a silent hole for every reader that resumes from it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, Literal, Protocol

from statestream.core.change import START, Change, Position
from statestream.core.errors import Forked

log = logging.getLogger("statestream")

TAIL_CHANGES: Final = 10_000
TAIL_BYTES: Final = 16 << 20


Why = Literal["forked", "expired"]
"""Why the state is another one: the history was replaced, or this node had fallen behind what is kept."""


class Listener(Protocol):
    """What is told of every commit, and of a reset: the state is another one, not led to by changes."""

    def changed(self, changes: Sequence[Change]) -> None: ...
    def reset(self, why: Why) -> None: ...


class Bus:
    """The listeners, and the tail of what they were told."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._tail: deque[Change] = deque()
        self._bytes = 0
        self._earliest = START

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener; call what this gives to take it away again."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def announce(self, changes: Sequence[Change]) -> None:
        self._remember(changes)
        self._tell(lambda listener: listener.changed(changes))

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._tail.append(change)
            self._bytes += change.size
        while len(self._tail) > TAIL_CHANGES or self._bytes > TAIL_BYTES:
            oldest = self._tail.popleft()
            self._bytes -= oldest.size
            self._earliest = oldest.position

    def reset(self, since: Position, changes: Sequence[Change], why: Why) -> None:
        """Takes another tail: the `changes` behind `since`, which nobody is told of one by one."""
        self._tail.clear()
        self._bytes = 0
        self._earliest = since
        self._remember(changes)
        self._tell(lambda listener: listener.reset(why))

    def _tell(self, what: Callable[[Listener], None]) -> None:
        for listener in tuple(self._listeners):
            try:
                what(listener)
            except Exception:
                log.exception("expected a listener that does not raise, %r did", listener)

    def reaches(self, position: Position) -> bool:
        """Whether the tail begins at `position` or before."""
        return position.seq >= self._earliest.seq

    def after(self, position: Position) -> list[Change] | None:
        """The changes behind `position`, or None where the tail does not reach back so far. Raises Forked.

        The cost is that of what is given, not of the tail.
        """
        if not self.reaches(position):
            return None
        index = position.seq - self._earliest.seq
        count = len(self._tail) - index
        known = self._earliest if index == 0 else self._tail[index - 1].position if count >= 0 else None
        if known != position:
            raise Forked("expected a position of this history, got one of another; start without it")
        return list(islice(reversed(self._tail), count))[::-1]


class Each:
    """A plain function as a listener."""

    def __init__(self, function: Callable[[Change], None]) -> None:
        self._function = function

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._function(change)

    def reset(self, why: Why) -> None:
        """A function is told of changes only."""


class Signal:
    """Rings when something was committed, of one slice or of any, and at a reset."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name
        self._notified = asyncio.Event()

    def changed(self, changes: Sequence[Change]) -> None:
        if self._name is None or any(change.slice == self._name for change in changes):
            self._notified.set()

    def reset(self, why: Why) -> None:
        self._notified.set()

    async def wait(self) -> None:
        """Returns once it has rung since the last wait."""
        await self._notified.wait()
        self._notified.clear()
