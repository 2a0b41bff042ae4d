"""Fan-out: every commit to every live subscriber that follows one of its slices.

A change becomes a frame once for each requested detail, and is added to the groups that follow its slice. An index
finds these groups without visiting any subscriber. The frames of one iteration of the event loop are written at its
end, to as many groups at once as one system call can write to.

Invariants: synchronous, and bounded: an iteration writes for ITERATION_SECONDS at most and leaves the rest to the next
one, so that everything else in the loop keeps its latency. A group that had to wait writes all frames that arrived in
the meantime at once. Large frames wait for their turns in the admission, so small frames never wait for them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import perf_counter
from typing import Final

from statestream.broadcast.admission import Admission
from statestream.broadcast.groups import SubscriberGroups
from statestream.broadcast.ring import Send
from statestream.broadcast.subscribers import Subscriber, SubscriberGroup
from statestream.broadcast.volley import Volley
from statestream.core.change import START, Change, Position
from statestream.core.histogram import Histogram
from statestream.protocol import frames
from statestream.store import tracing
from statestream.store.loaded import NotLoaded
from statestream.store.tracing import Span
from statestream.store.view import StoreView

ITERATION_SECONDS: Final = 0.01


class FanOut:
    """`lagging` is called with every subscriber that fell behind, or is gone, in a write. `writing`: see Counters."""

    def __init__(
        self,
        view: StoreView,
        groups: SubscriberGroups,
        admission: Admission,
        lagging: Callable[[Subscriber], None],
        writing: Histogram,
        send: Send,
    ) -> None:
        self._view, self._groups, self._admission, self._lagging = view, groups, admission, lagging
        self._writing, self._oldest, self._send = writing, math.inf, send
        self._traced: list[tuple[Span, int]] = []
        self._unsent: dict[SubscriberGroup, None] = {}
        self._owing: set[SubscriberGroup] = set()
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
                    viewed = viewed or Viewed()
                    try:
                        frame = viewed.frame(change, group)
                    except NotLoaded:
                        self._restart(group)
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

    def _restart(self, group: SubscriberGroup) -> None:
        """What a change looks like is not known: the members are sent the whole state.

        What they see is held in memory, so this happens only while somebody fetches it.
        """
        for subscriber in group.live.members():
            subscriber.restart("lagged")
            self._lagging(subscriber)

    def begin(self) -> None:
        """The state is as it is: the changes that lead to it are not sent as such."""
        self._announced = self._view.position

    def settle(self, group: SubscriberGroup) -> None:
        """Writes what has gathered for a group before a commit whose changes are not added yet."""
        self._flush_to(group, self._announced, asyncio.get_running_loop().time())

    def _schedule(self) -> None:
        if self._unsent and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Flushes groups until it is late, but one at least."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ITERATION_SECONDS
        try:
            while self._unsent:
                now = loop.time()
                self._flush_some(now)
                if now > until:
                    return
        finally:
            self._note_written()
            self._scheduled = False
            self._schedule()

    def _flush_some(self, now: float) -> None:
        """Writes what has gathered for the next groups, for as many as may be written at once."""
        volley = Volley(self._send, self._view.position, now)
        while self._unsent and volley.has_room_for(group := next(iter(self._unsent))):
            del self._unsent[group]
            volley.add(group)
        self._after(volley.groups, volley.send())

    def _written(self, group: SubscriberGroup) -> None:
        """Everything that has gathered for a group is written."""
        if group.since < self._oldest:
            self._oldest = group.since
        group.since = math.inf

    def _note_written(self) -> None:
        """Notes how long it took from the commit to the sockets, at the end of an iteration."""
        if self._oldest < math.inf:
            self._writing.observe(perf_counter() - self._oldest)
            self._oldest = math.inf
        if self._traced and not self._unsent and not self._owing:
            for span, began in self._traced:
                span.part("statestream.broadcast", began, tracing.now())
            self._traced.clear()

    def flush(self, group: SubscriberGroup, now: float) -> None:
        """Writes what has gathered for a group: its live subscribers are then at the head, unless it `owes` frames."""
        self._flush_to(group, self._view.position, now)

    def _flush_to(self, group: SubscriberGroup, head: Position, now: float) -> None:
        self._after((group,), group.flush(head, now))

    def _after(self, groups: Iterable[SubscriberGroup], behind: Sequence[Subscriber]) -> None:
        """Groups were flushed, and subscribers fell behind in that."""
        for group in groups:
            if not group.owes:
                self._written(group)
            elif group not in self._owing:
                self._owing.add(group)
                self._admission.soon(partial(self._pay, group))
        for subscriber in behind:
            self._lagging(subscriber)

    def _pay(self, group: SubscriberGroup) -> None:
        """Writes a portion of what a group owes."""
        with self._admission.working():
            behind = group.pay(asyncio.get_running_loop().time())
        if group.owes:
            self._admission.soon(partial(self._pay, group))
        else:
            self._owing.discard(group)
            self._written(group)
            self._note_written()
        for subscriber in behind:
            self._lagging(subscriber)

    def write(self, group: SubscriberGroup, frame: bytes, now: float) -> None:
        """Writes a frame that is no change to the live subscribers of a group."""
        for subscriber in group.write(frame, now):
            self._lagging(subscriber)

    def forget(self, group: SubscriberGroup) -> None:
        """The group has no members any more."""
        self._unsent.pop(group, None)


class Viewed:
    """The frames of one commit for groups to which rules apply: of each change, one for each way of seeing it."""

    def __init__(self) -> None:
        self._made: dict[tuple[Position, int | None, bool], bytes] = {}

    def frame(self, change: Change, group: SubscriberGroup) -> bytes:
        number, full = group.subscription.scope.view_of(change.slice), group.subscription.detail.payloads
        key = (change.position, number, full)
        if key not in self._made:
            seen = group.view.caused(change) if number is None else group.view.seen(number, change)
            self._made[key] = frames.update(seen, full=full)
        return self._made[key]
