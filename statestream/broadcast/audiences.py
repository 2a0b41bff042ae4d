"""All audiences, and the index that finds those that a change is for.

Invariants: what a change costs depends on who follows its slice, never on how many others there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Final

from statestream.broadcast.audience import Audience
from statestream.broadcast.counts import Counts
from statestream.broadcast.live import Send
from statestream.broadcast.reader import Interest
from statestream.core.change import Position
from statestream.core.selection import Selection

ROOM: Final = 1_024
"""Readers in one audience: some five milliseconds of writing."""
SLOTS: Final = 16


class Audiences:
    """Found by interest, by the slices they follow, and by the slot of time that their heartbeat has."""

    def __init__(self, counts: Counts, send: Send) -> None:
        self._counts, self._send = counts, send
        self._by_interest: dict[Interest, list[Audience]] = {}
        self._by_name: dict[str, dict[Audience, None]] = {}
        self._by_family: dict[str, dict[Audience, None]] = {}
        self._everything: dict[Audience, None] = {}
        self._slots: list[dict[Audience, None]] = [{} for _ in range(SLOTS)]
        self._numbers = count()

    def __iter__(self) -> Iterator[Audience]:
        for audiences in self._by_interest.values():
            yield from audiences

    def enter(self, interest: Interest, head: Position) -> Audience:
        """Counts one more reader, in an audience that has room."""
        known = self._by_interest.setdefault(interest, [])
        audience = next((each for each in known if each.readers < ROOM), None)
        if audience is None:
            shared = known[0].interest if known else interest
            audience = Audience(shared, head, next(self._numbers) % SLOTS, self._counts, self._send)
            known.append(audience)
            for index in self._indexes(interest.selection):
                index[audience] = None
            self._slots[audience.slot][audience] = None
        audience.readers += 1
        return audience

    def leave(self, audience: Audience) -> None:
        """Counts one reader less; an audience without any is forgotten."""
        audience.readers -= 1
        if audience.readers:
            return
        self._by_interest[audience.interest].remove(audience)
        if not self._by_interest[audience.interest]:
            del self._by_interest[audience.interest]
        for index in self._indexes(audience.interest.selection):
            del index[audience]
        self._tidy(audience.interest.selection)
        del self._slots[audience.slot][audience]

    def following(self, name: str) -> Iterator[Audience]:
        yield from self._by_name.get(name, ())
        yield from self._everything
        if "/" in name:
            yield from self._by_family.get(name.partition("/")[0], ())

    def in_slot(self, number: int) -> list[Audience]:
        return list(self._slots[number])

    def _indexes(self, selection: Selection) -> Iterator[dict[Audience, None]]:
        if selection.everything:
            yield self._everything
        for name in selection.names:
            yield self._by_name.setdefault(name, {})
        for family in selection.families:
            yield self._by_family.setdefault(family, {})

    def _tidy(self, selection: Selection) -> None:
        for name in selection.names:
            if not self._by_name[name]:
                del self._by_name[name]
        for family in selection.families:
            if not self._by_family[family]:
                del self._by_family[family]
