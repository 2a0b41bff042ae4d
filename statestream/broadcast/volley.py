"""What has gathered for several groups, written to all of them at once.

A commit often concerns many groups: readers with different rights, or who follow different slices. If each is written
to on its own, readers wake up in between, and the same sends take the kernel half as long again.

Invariants: synchronous, and bounded like a write to one large group: see `full`. A subscriber is told what its socket
took when everything is sent, so nothing that follows from it comes between two groups.
"""

from __future__ import annotations

from typing import Final

from statestream.broadcast.ring import ROOM, Send
from statestream.broadcast.subscribers import Subscriber, SubscriberGroup
from statestream.core.change import Position

BYTES: Final = 1 << 20


class Volley:
    """Use `add` while there is room, then `send`."""

    def __init__(self, send: Send, head: Position, now: float) -> None:
        self._send, self._head, self._now = send, head, now
        self._data: dict[SubscriberGroup, bytes] = {}
        self._count = self._bytes = 0

    def has_room_for(self, group: SubscriberGroup) -> bool:
        """Always for the first group, else as long as it is short."""
        return not self._data or (self._bytes < BYTES and self._count + len(group.live) <= ROOM)

    def add(self, group: SubscriberGroup) -> None:
        data = self._data[group] = group.take(self._head, self._now)
        self._count += len(group.live)
        self._bytes += len(data) * len(group.live)

    @property
    def groups(self) -> list[SubscriberGroup]:
        return list(self._data)

    def send(self) -> list[Subscriber]:
        """Returns the subscribers that fell behind. After that, each group is as after its `flush`."""
        short = self._short(self._send([(group.live.descriptors, data) for group, data in self._data.items() if data]))
        behind: list[Subscriber] = []
        for group, data in self._data.items():
            if data:
                behind += group.written(group.live.took(data, short.get(group, ())) + group.live.write_others(data))
            else:
                behind += group.give_up()
        return behind

    def _short(self, outcome: list[tuple[int, int]]) -> dict[SubscriberGroup, list[tuple[int, int]]]:
        """What is short, by the group to which the descriptor belongs."""
        found: dict[SubscriberGroup, list[tuple[int, int]]] = {}
        if outcome:  # rarely
            owners = {descriptor: group for group in self._data for descriptor in group.live.descriptors}
            for descriptor, sent in outcome:
                found.setdefault(owners[descriptor], []).append((descriptor, sent))
        return found
