"""All subscriber groups, and the index from a slice to the groups that follow it.

Invariants: what a change costs depends on who follows its slice, never on how many follow others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final

from statestream.broadcast.counters import Counters
from statestream.broadcast.ring import Send
from statestream.broadcast.subscribers import SubscriberGroup
from statestream.broadcast.subscription import Subscription
from statestream.core.selection import Selection
from statestream.store.schemas import is_note
from statestream.store.view import StoreView

MEMBERS: Final = 1_024
"""Subscribers in one group: some five milliseconds of writing."""
SLOTS: Final = 16


class SubscriberGroups:
    """Found by subscription, by the slices they follow, and by the slot of time in which their heartbeat is due."""

    def __init__(self, counters: Counters, send: Send) -> None:
        self._counters, self._send = counters, send
        self._by_subscription: dict[Subscription, list[SubscriberGroup]] = {}
        self._by_name: dict[str, dict[SubscriberGroup, None]] = {}
        self._by_family: dict[str, dict[SubscriberGroup, None]] = {}
        self._everything: dict[SubscriberGroup, None] = {}
        self._slots: list[dict[SubscriberGroup, None]] = [{} for _ in range(SLOTS)]
        self._numbers = count()

    def enter(self, subscription: Subscription, view: StoreView) -> SubscriberGroup:
        """Counts one more member, in a group with room."""
        known = self._by_subscription.setdefault(subscription, [])
        group = next((each for each in known if each.members < MEMBERS), None)
        if group is None:
            shared = known[0].subscription if known else subscription
            group = SubscriberGroup(shared, view, next(self._numbers) % SLOTS, self._counters, self._send)
            known.append(group)
            for index in self._indexes(subscription.selection):
                index[group] = None
            self._slots[group.slot][group] = None
        group.members += 1
        return group

    def leave(self, group: SubscriberGroup) -> None:
        """Counts one member less. A group without members is forgotten."""
        group.members -= 1
        if group.members:
            return
        self._by_subscription[group.subscription].remove(group)
        if not self._by_subscription[group.subscription]:
            del self._by_subscription[group.subscription]
        for index in self._indexes(group.subscription.selection):
            del index[group]
        self._tidy(group.subscription.selection)
        if group.release is not None:
            group.release()
        del self._slots[group.slot][group]

    def following(self, name: str) -> Iterator[SubscriberGroup]:
        yield from self._by_name.get(name, ())
        if not is_note(name):
            yield from self._everything
        if "/" in name:
            yield from self._by_family.get(name.partition("/")[0], ())

    def in_slot(self, number: int) -> list[SubscriberGroup]:
        return list(self._slots[number])

    def _indexes(self, selection: Selection) -> Iterator[dict[SubscriberGroup, None]]:
        if selection.everything:
            yield self._everything
        for name in selection.names:
            yield self._by_name.setdefault(name, {})
        for family in selection.families:
            yield self._by_family.setdefault(family, {})

    def _tidy(self, selection: Selection) -> None:
        """Empty entries would stay for ever: names of instances come and go."""
        for name in selection.names:
            if not self._by_name[name]:
                del self._by_name[name]
        for family in selection.families:
            if not self._by_family[family]:
                del self._by_family[family]
