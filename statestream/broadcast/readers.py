"""The readers of a node: who follows what, how far each has got, and what is on its way to it.

Invariants: synchronous and read-only; nothing is kept for it, so readers cost no more when nobody looks. Somebody who
looks at readers sees the slices that they may read themselves, and no others: a reader who follows none of these does
not exist for them, and how many bytes a reader received is told only if they may read all that it follows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from heapq import nsmallest
from itertools import islice
from typing import Final

from msgspec import Struct

from statestream.broadcast.hub import Hub
from statestream.broadcast.kernel_limits import bytes_sent
from statestream.broadcast.subscribers import Lag, State, Subscriber
from statestream.core.change import Position
from statestream.core.selection import Selection
from statestream.store.loaded import NotLoaded
from statestream.store.view import StoreView

MOST: Final = 200
"""Readers that are shown at once."""
LOOKED_AT: Final = 2_000
"""Readers whose slices are compared with what somebody may read."""

EVALUATED: Final = 1_000
"""Names whose rights are asked about for one answer: a millisecond or two."""


class Reader(Struct, frozen=True, kw_only=True):
    """One open stream, as somebody sees it.

    `position` is None as long as it has not been sent a position. `waiting` are bytes that its client has not
    acknowledged, `sent` those that its connection has taken; None if they are not known, or must not be.
    """

    subject: str | None
    slices: Selection
    state: str
    position: Position | None
    lag: Lag
    waiting: int | None
    sent: int | None


class Readers(Struct, frozen=True, kw_only=True):
    """The readers who are farthest behind. `more`: there may be others, or these may follow more."""

    found: Sequence[Reader]
    more: bool


def readers(hub: Hub, view: StoreView, asked: Selection) -> Readers:
    """The readers of a node as `view` may see them. `asked` is everything that it may ask for. Raises NotLoaded."""
    found: list[Reader] = []
    sight, more = _Sight(view, asked), False
    subscribers = sorted(hub.behind_since().items(), key=lambda item: item[1] or float("inf"))
    now, head = time.monotonic(), view.position
    for subscriber, since in subscribers[:LOOKED_AT]:
        slices, whole = sight.of(subscriber.subscription.selection)
        if not (slices.names or slices.families or slices.everything):
            continue
        if len(found) == MOST:
            more = True
            break
        seconds = 0.0 if since is None else now - since
        found.append(_reader(subscriber, slices, head, seconds, whole=whole))
    if sight.away:
        raise NotLoaded(sight.away)
    return Readers(found=found, more=more or sight.ended or len(subscribers) > LOOKED_AT)


class _Sight:
    """What somebody who looks may read of what readers follow. Equal selections are asked about once.

    `away` are the names whose values are needed to know it. `ended`: there was more to ask about than EVALUATED names.
    """

    def __init__(self, view: StoreView, asked: Selection) -> None:
        self._view, self._asked = view, asked
        self._known: dict[Selection, tuple[Selection, bool]] = {}
        self._left = EVALUATED
        self.away: set[str] = set()
        self.ended = False

    def of(self, followed: Selection) -> tuple[Selection, bool]:
        """What they may read, and whether that is all of it, as it is."""
        if followed not in self._known:
            self._known[followed] = self._look(followed)
        return self._known[followed]

    def _look(self, followed: Selection) -> tuple[Selection, bool]:
        names, families, everything, views = set[str](), set[str](), False, False
        for part in (self._asked if followed.everything else followed).parts():
            try:
                grant = self._view.grant(self._affordable(part))
            except NotLoaded as missing:
                self.away |= missing.names
                continue
            names |= grant.selection.names
            families |= grant.selection.families
            everything |= grant.selection.everything
            views |= bool(grant.scope.views)
        seen = Selection(names=frozenset(names), families=frozenset(families), everything=everything)
        return seen, seen == followed and not views

    def _affordable(self, part: Selection) -> Selection:
        """As many of these names as may be asked about, or the family unless it has too many instances."""
        cost, left = self._view.evaluations(part), self._left
        if cost > left:
            self.ended = True
            part = Selection(names=frozenset(islice(part.names, left)))
            cost = len(part.names)
        self._left -= cost
        return part


def _reader(subscriber: Subscriber, slices: Selection, head: Position, seconds: float, *, whole: bool) -> Reader:
    live = subscriber.state is State.LIVE
    cursor = subscriber.group.covered if live else subscriber.cursor
    position = cursor if isinstance(cursor, Position) else None
    changes = 0 if live or position is None else max(0, head.seq - position.seq)
    sink, session = subscriber.sink, subscriber.session
    sent = bytes_sent(sink.descriptor) if sink.direct and not sink.closed else sink.sent if not sink.direct else None
    return Reader(
        subject=None if session is None or session.identity is None else session.identity.subject,
        slices=slices,
        state=subscriber.state.value,
        position=position,
        lag=Lag(changes=changes, seconds=seconds),
        waiting=sink.outstanding if whole else None,
        sent=sent if whole else None,
    )


def names_of(selection: Selection, most: int) -> tuple[list[str], int]:
    """The first of them as a query spells them, and how many others there are."""
    if selection.everything:
        return ["*"], 0
    names = nsmallest(most, selection.names)
    names += [f"{family}/*" for family in nsmallest(most - len(names), selection.families)]
    return names, len(selection.names) + len(selection.families) - len(names)
