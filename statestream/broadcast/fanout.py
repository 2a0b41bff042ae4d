"""Fan-out: every commit to every live subscriber that follows one of its slices.

A change becomes a frame once for each requested detail, and is added to the groups that follow its slice. An index
finds these groups without visiting any subscriber. The frames of one iteration of the event loop are written at its
end.

Invariants: synchronous, and bounded: an iteration writes for ITERATION_SECONDS at most and leaves the rest to the next
one, so that everything else in the loop keeps its latency. A group that had to wait writes all frames that arrived in
the meantime at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from statestream.broadcast.groups import SubscriberGroups
from statestream.broadcast.subscribers import Subscriber, SubscriberGroup
from statestream.core.change import START, Change, Position
from statestream.core.histogram import Histogram
from statestream.protocol import frames
from statestream.store import tracing
from statestream.store.tracing import Span
from statestream.store.view import StoreView

ITERATION_SECONDS: Final = 0.01


class FanOut:
    """`lagging` is called with every subscriber that fell behind, or is gone, in a write. `writing`: see Counters."""

    def __init__(
        self, view: StoreView, groups: SubscriberGroups, lagging: Callable[[Subscriber], None], writing: Histogram
    ) -> None:
        self._view, self._groups, self._lagging, self._writing = view, groups, lagging, writing
        self._oldest = math.inf
        self._traced: list[tuple[Span, int]] = []
        self._unsent: dict[SubscriberGroup, None] = {}
        self._owing: dict[SubscriberGroup, None] = {}
        self._scheduled = False
        self._announced = START

    def add(self, changes: Sequence[Change]) -> None:
        """Makes the frames of changes that were just announced, and has them written at the end of this iteration."""
        now = perf_counter()  # a loop's own time may stand still within an iteration
        viewed: Viewed | None = None
        for change in changes:
            encoded: dict[bool, bytes] = {}
            for group in self._groups.following(change.slice):
                if group.subscription.scope.guarded:
                    viewed = viewed or Viewed(changes)
                    frame = viewed.frame(change, group)
                    if frame is None:
                        continue
                else:
                    full = group.subscription.detail.payloads
                    if full not in encoded:
                        encoded[full] = frames.update(change, full=full)
                    frame = encoded[full]
                group.add(frame, now)
                self._unsent[group] = None
        self._announced = changes[-1].position if changes else self._announced
        if self._unsent and (spans := self._view.vitals.announcing):
            self._traced += [(span, tracing.now()) for span in spans]
        self._schedule()

    def begin(self) -> None:
        """The state is as it is: the changes that lead to it are not sent as such."""
        self._announced = self._view.position

    def settle(self, group: SubscriberGroup) -> None:
        """Writes what has gathered for a group before a commit whose changes are not added yet."""
        self._flush_to(group, self._announced, asyncio.get_running_loop().time())

    def _schedule(self) -> None:
        if (self._unsent or self._owing) and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Large frames come last, so that the others do not wait for them, but they come."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ITERATION_SECONDS
        try:
            self._flush_some(self._unsent, until)
            self._flush_some(self._owing, until)
        finally:
            if self._oldest < math.inf:
                self._writing.observe(perf_counter() - self._oldest)
                self._oldest = math.inf
            if self._traced and not self._unsent and not self._owing:
                self._end_traced()
            self._scheduled = False
            self._schedule()

    def _end_traced(self) -> None:
        """Everything is written, and so are the changes of the requests that are traced."""
        for span, began in self._traced:
            span.part("statestream.broadcast", began, tracing.now())
        self._traced.clear()

    def _flush_some(self, groups: dict[SubscriberGroup, None], until: float) -> None:
        """Flushes groups until it is late, but one at least."""
        loop = asyncio.get_running_loop()
        while groups:
            now = loop.time()
            group = next(iter(groups))
            del groups[group]
            self.flush(group, now)
            if now > until:
                return

    def flush(self, group: SubscriberGroup, now: float) -> None:
        """Writes what has gathered for a group: its live subscribers are then at the head, unless it `owes` frames."""
        self._flush_to(group, self._view.position, now)

    def _flush_to(self, group: SubscriberGroup, head: Position, now: float) -> None:
        behind = group.flush(head, now)
        if group.owes:
            self._owing[group] = None
            self._schedule()
        elif group.since < math.inf:
            if group.since < self._oldest:
                self._oldest = group.since
            group.since = math.inf
        for subscriber in behind:
            self._lagging(subscriber)

    def write(self, group: SubscriberGroup, frame: bytes, now: float) -> None:
        """Writes a frame that is no change to the live subscribers of a group."""
        for subscriber in group.write(frame, now):
            self._lagging(subscriber)

    def forget(self, group: SubscriberGroup) -> None:
        """The group has no members any more."""
        self._unsent.pop(group, None)
        self._owing.pop(group, None)


class Viewed:
    """The frames of one commit for groups to which rules apply: of each change, one for each way of seeing it."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes
        self._seen: dict[tuple[str, int], dict[Position, Change]] = {}
        self._made: dict[tuple[Position, int | None, bool], bytes | None] = {}

    def frame(self, change: Change, group: SubscriberGroup) -> bytes | None:
        """None if the group does not see this change, because a later one of the commit includes it."""
        number, full = group.subscription.scope.view_of(change.slice), group.subscription.detail.payloads
        key = (change.position, number, full)
        if key not in self._made:
            seen = group.view.caused(change) if number is None else self._through(number, change, group)
            self._made[key] = None if seen is None else frames.update(seen, full=full)
        return self._made[key]

    def _through(self, number: int, change: Change, group: SubscriberGroup) -> Change | None:
        key = (change.slice, number)
        if key not in self._seen:
            own = [each for each in self._changes if each.slice == change.slice]
            self._seen[key] = {each.position: each for each in group.view.seen(number, own)}
        return self._seen[key].get(change.position)
