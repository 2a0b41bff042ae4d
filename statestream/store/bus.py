"""Announces committed changes in order, and keeps the newest of them for subscribers that return soon.

Invariants: synchronous. A listener runs inside the commit and must not await, take long, or raise; one that raises is
logged and does not stop the others, and one that takes long is named in the log. Positions in the tail are contiguous:
a gap would be a silent gap for every subscriber that resumes from it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from time import perf_counter
from typing import Final, Literal, Protocol

from statestream.core.change import START, Change, Position, total_size
from statestream.core.erasing import without_erased
from statestream.core.errors import Forked
from statestream.store.loaded import NotLoaded
from statestream.store.slow_calls import SlowCalls, name_of

log = logging.getLogger("statestream")

TAIL_CHANGES: Final = 10_000
TAIL_BYTES: Final = 16 << 20


ResetReason = Literal["forked", "expired"]
"""Why the state was replaced: the history is another one, or this node had fallen behind what is kept."""


class Listener(Protocol):
    """Receives every commit, and a reset when changes do not lead from the old state to the new one."""

    def changed(self, changes: Sequence[Change]) -> None: ...
    def reset(self, reason: ResetReason) -> None: ...


Parts = Callable[[Sequence[Change]], Iterator[Sequence[Change]]]
"""Divides a commit into the parts of which a listener is told one after the other, as if each were a commit. A part is
asked for when those before it were announced.
"""


class Bus:
    """The listeners, and the tail of what was announced."""

    def __init__(self, slow_calls: SlowCalls) -> None:
        self._slow_calls = slow_calls
        self._listeners: list[Listener] = []
        self._dividing: list[Parts] = []
        self._tail: deque[Change] = deque()
        self._bytes = 0
        self._earliest = START

    def subscribe(self, listener: Listener, parts: Parts | None = None) -> Callable[[], None]:
        """Adds a listener. Call the returned function to remove it."""
        self._listeners.append(listener)
        if parts is not None:
            self._dividing.append(parts)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
                if parts is not None:
                    self._dividing.remove(parts)

        return unsubscribe

    def parts(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """The parts of a commit that are announced by themselves: nearly always one."""
        if len(changes) == 1 or not self._dividing:
            yield changes
        elif len(self._dividing) == 1:
            yield from self._dividing[0](changes)
        else:  # several may divide it at different places
            yield from ([change] for change in changes)

    def announce(self, changes: Sequence[Change]) -> None:
        self._keep(changes)
        self._tell(lambda listener: listener.changed(changes))

    def _keep(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._tail.append(change)
            self._bytes += change.size
        while len(self._tail) > TAIL_CHANGES or self._bytes > TAIL_BYTES:
            oldest = self._tail.popleft()
            self._bytes -= oldest.size
            self._earliest = oldest.position

    def erase(self, names: Collection[str]) -> None:
        """Leaves nothing in the tail of slices that were erased."""
        replaced = without_erased(self._tail, names)
        if replaced:
            self._tail = deque(replaced.get(change.version, change) for change in self._tail)
            self._bytes = total_size(self._tail)

    def reset(self, since: Position, changes: Sequence[Change], reason: ResetReason) -> None:
        """Replaces the tail with the changes after `since`. Listeners are not told of these one by one."""
        self._tail.clear()
        self._bytes = 0
        self._earliest = since
        self._keep(changes)
        self._tell(lambda listener: listener.reset(reason))

    def _tell(self, what: Callable[[Listener], None]) -> None:
        began = perf_counter()
        for listener in tuple(self._listeners):
            try:
                what(listener)
            except (Exception, NotLoaded):
                log.exception("the listener %s raised; listeners must not raise", listener_name(listener))
            ended = perf_counter()
            if ended - began > self._slow_calls.threshold:
                self._slow_calls.ended("listener", listener_name(listener), ended - began)
            began = ended

    def reaches(self, position: Position) -> bool:
        """Whether the tail goes back to `position`."""
        return position.seq >= self._earliest.seq

    def after(self, position: Position) -> list[Change] | None:
        """The changes after `position`; None if the tail does not go back that far. Raises Forked.

        The cost is that of what is returned, not of the tail.
        """
        if not self.reaches(position):
            return None
        index = position.seq - self._earliest.seq
        count = len(self._tail) - index
        known = self._earliest if index == 0 else self._tail[index - 1].position if count >= 0 else None
        if known != position:
            raise Forked("the position is not part of this history; start without a position")
        return list(islice(reversed(self._tail), count))[::-1]


def listener_name(listener: Listener) -> str:
    """The name of a listener in the log: for a function, its own name."""
    return name_of(listener.function if isinstance(listener, EachChange) else listener)


class EachChange:
    """A plain function as a listener. It is called with changes only, not at a reset."""

    def __init__(self, function: Callable[[Change], None]) -> None:
        self.function = function

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.function(change)

    def reset(self, reason: ResetReason) -> None:
        """Not passed on."""
