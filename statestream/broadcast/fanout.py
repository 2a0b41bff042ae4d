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
from collections.abc import Callable, Sequence
from typing import Final

from statestream.broadcast.groups import SubscriberGroups
from statestream.broadcast.subscribers import Subscriber, SubscriberGroup
from statestream.core.change import Change
from statestream.protocol import frames
from statestream.store.view import StoreView

ITERATION_SECONDS: Final = 0.01


class FanOut:
    """`lagging` is called with every subscriber that fell behind, or is gone, in a write."""

    def __init__(self, view: StoreView, groups: SubscriberGroups, lagging: Callable[[Subscriber], None]) -> None:
        self._view, self._groups, self._lagging = view, groups, lagging
        self._unsent: dict[SubscriberGroup, None] = {}
        self._owing: dict[SubscriberGroup, None] = {}
        self._scheduled = False

    def add(self, changes: Sequence[Change]) -> None:
        """Makes the frames of changes that were just announced, and has them written at the end of this iteration."""
        for change in changes:
            encoded: dict[bool, bytes] = {}
            for group in self._groups.following(change.slice):
                full = group.subscription.detail.payloads
                if full not in encoded:
                    encoded[full] = frames.update(change, full=full)
                group.add(encoded[full])
                self._unsent[group] = None
        self._schedule()

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
            self._scheduled = False
            self._schedule()

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
        behind = group.flush(self._view.position, now)
        if group.owes:
            self._owing[group] = None
            self._schedule()
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
