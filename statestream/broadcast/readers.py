"""The readers of a node: who follows what, how far each has got, and what is on its way to it.

Invariants: synchronous and read-only; nothing is kept for it, so readers cost no more when nobody looks. Somebody who
looks at readers sees the slices that they may read themselves, and no others: a reader who follows none of these does
not exist for them, and how many bytes a reader received is told only if they may read all that it follows.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from statestream.broadcast.hub import Hub, Lag
from statestream.broadcast.kernel_limits import bytes_sent
from statestream.broadcast.subscribers import State, Subscriber
from statestream.core.change import Position
from statestream.core.errors import TooLarge
from statestream.core.selection import Selection
from statestream.store.view import StoreView

MOST: Final = 200
"""Readers that are shown at once."""
LOOKED_AT: Final = 2_000
"""Readers whose slices are compared with what somebody may read."""


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
    """The readers who are farthest behind, and whether there are more."""

    found: Sequence[Reader]
    more: bool


def readers(hub: Hub, view: StoreView, asked: Selection) -> Readers:
    """The readers of a node as `view` may see them. `asked` is everything that it may ask for. Raises NotLoaded."""
    found: list[Reader] = []
    shown: dict[Selection, tuple[Selection, bool]] = {}
    subscribers = sorted(hub.behind_since().items(), key=lambda item: item[1] or float("inf"))
    now, head = time.monotonic(), view.position
    for subscriber, since in subscribers[:LOOKED_AT]:
        followed = subscriber.subscription.selection
        if followed not in shown:
            shown[followed] = _visible(view, asked, followed)
        slices, whole = shown[followed]
        if not (slices.names or slices.families or slices.everything):
            continue
        if len(found) == MOST:
            return Readers(found=found, more=True)
        seconds = 0.0 if since is None else now - since
        found.append(_reader(subscriber, slices, head, seconds, whole=whole))
    return Readers(found=found, more=len(subscribers) > LOOKED_AT)


def _visible(view: StoreView, asked: Selection, followed: Selection) -> tuple[Selection, bool]:
    """What somebody who looks may read of what a reader follows, and whether that is all of it, as it is."""
    try:
        grant = view.grant(asked if followed.everything else followed)
    except TooLarge:  # too many instances have rights of their own
        return Selection(names=frozenset()), False
    return grant.selection, grant.selection == followed and not grant.scope.views


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


def names_of(selection: Selection) -> Iterable[str]:
    """As a query spells them."""
    if selection.everything:
        return ("*",)
    return (*sorted(selection.names), *(f"{family}/*" for family in sorted(selection.families)))
