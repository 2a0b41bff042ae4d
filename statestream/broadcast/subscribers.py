"""Subscribers and the groups that receive the same bytes.

The life of a subscriber:

    syncing ──► live ◄──► lagging      it receives what the group receives, or is behind and must be brought to the head
       │         │          │
       └─────────┴──────────┴──► closing ──► closed      the end was sent and must be read; nothing is left of it

A syncing subscriber has been sent nothing yet; its first frame decides whether it resumes or starts again. Only a live
one costs nothing beyond its socket: no task, no queue, no timer. All others have a `cursor`, from which they continue.

A group gathers the frames of one iteration of the loop and writes them to every live subscriber as one bytes object.
Its size is bounded, so that writing to it is a bounded part of an iteration: more subscribers with the same
subscription are several groups. Large frames are written to a few subscribers at a time; the group owes them to the
others. If it owes too much, those others fall behind, and are sent the coalesced changes.

Invariants: synchronous, no I/O of its own. Only the methods of Subscriber change its state, and `live` of a group has
exactly the live ones. `covered` is a position: the subscribers to whom the group has just written have everything they
follow up to it. It moves only with a write, so no id is ever ahead of what was sent. Frames are owed to live
subscribers only: one that falls behind is owed nothing, and when it is live again, it has these frames already, as has
one that joins.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import islice
from typing import Final

from msgspec import Struct

from statestream.broadcast.counters import Counters
from statestream.broadcast.entitlements import Entitlement
from statestream.broadcast.ring import Send
from statestream.broadcast.sessions import Session
from statestream.broadcast.sink import Sink
from statestream.broadcast.subscription import Cursor, Subscription
from statestream.core.change import START, Position
from statestream.core.selection import Selection
from statestream.protocol.frame_types import Reason
from statestream.store.view import StoreView

AT_ONCE: Final = 4 << 20
"""Bytes that a group writes at once: a few milliseconds. More is owed."""
PORTION: Final = 1 << 20
"""Bytes that a group which owes frames writes in a piece of a turn; one frame at least."""
MAX_OWED: Final = 8 << 20
"""Bytes of frames that a group may owe, if it is more than one. The tail of the bus is longer, so that those who fall
behind do not need the journal.
"""


class State(Enum):
    """See the module."""

    SYNCING = "syncing"
    LIVE = "live"
    LAGGING = "lagging"
    CLOSING = "closing"
    CLOSED = "closed"


class Lag(Struct, frozen=True, kw_only=True):
    """How far a subscriber is behind: the changes since its cursor, and the seconds since it was last at the head."""

    changes: int
    seconds: float


class StreamEnd(Struct, frozen=True, kw_only=True, gc=False):
    """How a stream ended: see `ended` in `Counters`. `sent` is the number of bytes, if it is known."""

    reason: str
    sent: int | None


class Subscriber:
    """One open stream.

    `cursor` has a meaning while the subscriber is not live. `place` is its key in the group's live set, `task` what
    brings it to the head while that takes waiting. `on_closed` is called once, when the stream has ended. If what it
    may read depends on the state, it has an `entitlement`, and `held` is what it could read at its cursor, unless that
    is what its group follows, or not known yet. It has a `session` if its client has an identity.
    """

    __slots__ = ("cursor", "entitlement", "group", "held", "on_closed", "place", "session", "sink", "state", "task")

    def __init__(
        self,
        sink: Sink,
        group: SubscriberGroup,
        cursor: Cursor,
        on_closed: Callable[[StreamEnd], None] | None,
        entitlement: Entitlement[Subscriber] | None,
    ) -> None:
        self.sink, self.group, self.cursor, self.on_closed = sink, group, cursor, on_closed
        self.entitlement = entitlement
        self.held: Selection | None = None
        self.session: Session | None = None
        self.state = State.SYNCING
        self.place = -1
        self.task: asyncio.Task[None] | None = None

    @property
    def subscription(self) -> Subscription:
        return self.group.subscription

    @property
    def view(self) -> StoreView:
        """The store as it sees it."""
        return self.group.view if self.entitlement is None else self.entitlement.view

    @property
    def followed(self) -> Selection:
        """What concerns it: what it asked for if its rights may change, else what it may read."""
        return self.subscription.selection if self.entitlement is None else self.entitlement.asked

    @property
    def open(self) -> bool:
        """Whether it may still be sent something."""
        return self.state in (State.SYNCING, State.LIVE, State.LAGGING)

    def started(self, position: Position) -> None:
        """It was sent its first frame, but not everything up to the head."""
        self.state, self.cursor = State.LAGGING, position

    def synced(self, position: Position, *, writable: bool) -> None:
        """It was sent everything up to `position`, the head. If its socket takes more, it is live from here on."""
        self.state, self.cursor, self.held = State.LAGGING, position, None
        if writable:
            self.state = State.LIVE
            self.group.live.add(self)

    def lag(self) -> None:
        """It is sent no more for now. It continues after what its group has sent it."""
        if self.state is State.LIVE:
            self.group.live.discard(self)
            self.state, self.cursor = State.LAGGING, self.group.forgive(self)

    def restart(self, reason: Reason) -> None:
        """Changes do not lead from what it has to the state of now: it needs the whole state."""
        self.lag()
        if self.open:
            self.cursor, self.held = reason, None

    def move(self, group: SubscriberGroup) -> None:
        """What it may read has changed: from now on it belongs to another group, and is behind."""
        behind = self.state is State.LAGGING
        self.lag()
        if behind and self.subscription.detail.every_change:
            self.restart("lagged")  # it is half-way through the past
        elif self.state is State.LAGGING and self.held is None and isinstance(self.cursor, Position):
            self.held = self.subscription.selection
        self.group = group

    def closing(self) -> None:
        """The end was sent; what waits for its socket must still be read."""
        self.lag()
        self.state = State.CLOSING

    def closed(self) -> None:
        """Nothing is left of it."""
        self.lag()
        self.state = State.CLOSED


class LiveSet:
    """The live subscribers of a group, in the form in which writing to them is cheapest.

    Sockets of our own are a flat list of descriptors: sending to a thousand of them touches nothing but numbers and the
    frame. A descriptor is in here only as long as its sink is open: closing the sink of a live subscriber takes it out
    before anything else can open a descriptor of the same number.
    """

    __slots__ = ("_direct", "_others", "_send")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._direct: dict[int, Subscriber] = {}
        self._others: dict[int, Subscriber] = {}

    def add(self, subscriber: Subscriber) -> None:
        direct = subscriber.sink.direct
        subscriber.place = subscriber.sink.descriptor if direct else id(subscriber)
        (self._direct if direct else self._others)[subscriber.place] = subscriber

    def discard(self, subscriber: Subscriber) -> None:
        members = self._direct if subscriber.sink.direct else self._others
        if members.get(subscriber.place) is subscriber:  # it may never have been added
            del members[subscriber.place]

    def members(self) -> list[Subscriber]:
        return [*self._direct.values(), *self._others.values()]

    def __len__(self) -> int:
        return len(self._direct) + len(self._others)

    def write(self, data: bytes) -> list[Subscriber]:
        """Writes to all. Returns those that can take no more for now, or are gone."""
        return self.took(data, self._send([(self.descriptors, data)]) if self._direct else ()) + self.write_others(data)

    def write_to(self, members: Sequence[Subscriber], data: bytes) -> list[Subscriber]:
        """Writes to some of the members."""
        places = [each.place for each in members if each.sink.direct]
        behind = [each for each in members if not each.sink.direct and not each.sink.write(data)]
        return behind + self.took(data, self._send([(places, data)]) if places else ())

    # for somebody who writes to several groups at once

    @property
    def descriptors(self) -> list[int]:
        """Of the members that have one."""
        return list(self._direct)

    def took(self, data: bytes, short: Iterable[tuple[int, int]]) -> list[Subscriber]:
        """Gives the members the outcome of a write to their descriptors. Returns those that did not take all."""
        behind = []
        for descriptor, sent in short:
            subscriber = self._direct[descriptor]
            subscriber.sink.took(data, sent)
            behind.append(subscriber)
        return behind

    def write_others(self, data: bytes) -> list[Subscriber]:
        """Writes to the members that have no descriptor. Returns those that can take no more for now, or are gone."""
        return [subscriber for subscriber in self._others.values() if not subscriber.sink.write(data)]


class Owed(Struct, kw_only=True):
    """Encoded frames that lead from `base` to `head`, and the subscribers to whom they have not been written yet."""

    data: bytes
    base: Position
    head: Position
    left: dict[Subscriber, None]


class SubscriberGroup:
    """Up to MEMBERS subscribers with one subscription. `members` counts them all, `live` has those that are live."""

    __slots__ = (
        "_counters",
        "_owed",
        "_pending",
        "covered",
        "live",
        "members",
        "release",
        "since",
        "slot",
        "subscription",
        "view",
        "viewed",
        "wrote_at",
    )

    def __init__(self, subscription: Subscription, view: StoreView, slot: int, counters: Counters, send: Send) -> None:
        self.subscription, self.view, self.slot, self._counters = subscription, view, slot, counters
        self.covered = START
        self.viewed = viewed = subscription.viewed
        self.release: Callable[[], None] | None = None if viewed is None else view.hold(viewed)
        """Of what the members see through views."""
        self.live = LiveSet(send)
        self.members = 0
        self.wrote_at = 0.0
        self.since = math.inf
        """By the performance counter, when the oldest change was committed that is not written to all live ones yet."""
        self._pending: list[bytes] = []
        self._owed: deque[Owed] = deque()

    @property
    def owes(self) -> bool:
        """Whether frames were written only to a part of the live subscribers. `pay` continues."""
        return bool(self._owed)

    def add(self, frame: bytes, now: float) -> None:
        """Gathers the frame of a change that was committed `now`."""
        if now < self.since:
            self.since = now
        self._pending.append(frame)

    def flush(self, head: Position, now: float) -> list[Subscriber]:
        """Writes the gathered frames, or owes them if they are large. Returns the subscribers that fell behind.

        Unless the group then `owes` frames, every live subscriber has everything up to `head`.
        """
        data = self.take(head, now)
        return self.written(self.live.write(data)) if data else self.give_up()

    def take(self, head: Position, now: float) -> bytes:
        """The gathered frames, encoded, which must be written to every live subscriber at once.

        Empty if there are none, or if they are large and so are owed: then `give_up` must be called.
        """
        if not self._pending:
            self.covered = self.covered if self._owed else head
            return b""
        frames = b"".join(self._pending) if len(self._pending) > 1 else self._pending[0]
        self._counters.deliveries += len(self._pending) * len(self.live)
        self._pending.clear()
        if not self._owed and len(frames) * len(self.live) <= AT_ONCE:
            self.covered = head
            return self._encoded(frames, now)
        base = self._owed[-1].head if self._owed else self.covered
        data = self.subscription.encoding.encode(frames)
        self._owed.append(Owed(data=data, base=base, head=head, left=dict.fromkeys(self.live.members())))
        return b""

    def give_up(self) -> list[Subscriber]:
        """If too much is owed, all to whom more than the newest frames are owed fall behind. Returns them."""
        behind: list[Subscriber] = []
        if sum(len(owed.data) for owed in self._owed) <= MAX_OWED:
            return behind
        while len(self._owed) > 1:
            owed = self._owed[0]
            behind += owed.left
            for subscriber in tuple(owed.left):
                subscriber.lag()
            self._settle()
        return behind

    def pay(self, now: float) -> list[Subscriber]:
        """Writes the oldest owed frames to some of the subscribers to whom they are owed. Returns those that fell
        behind.
        """
        while self._owed and not self._owed[0].left:
            self._settle()
        if not self._owed:
            return []
        owed = self._owed[0]
        portion = tuple(islice(owed.left, max(1, PORTION // len(owed.data))))
        for subscriber in portion:
            del owed.left[subscriber]
        self.wrote_at = now
        self._counters.bytes += len(owed.data) * len(portion)
        behind = self.live.write_to(portion, owed.data)
        for subscriber in behind:
            subscriber.lag()
        if not owed.left:
            self._settle()
        return behind

    def _settle(self) -> None:
        """The oldest owed frames are owed to nobody any more."""
        self.covered = self._owed.popleft().head

    def forgive(self, subscriber: Subscriber) -> Position:
        """Nothing is owed to the subscriber any more. Returns how far it was sent everything."""
        reached = self._owed[-1].head if self._owed else self.covered
        for owed in reversed(self._owed):
            if subscriber in owed.left:
                del owed.left[subscriber]
                reached = owed.base
        return reached

    def write(self, frames: bytes, now: float) -> list[Subscriber]:
        """Writes to every live subscriber. Those that it returns were sent the frames, and are live no longer."""
        return self.written(self.live.write(self._encoded(frames, now)))

    def _encoded(self, frames: bytes, now: float) -> bytes:
        """Frames as they are written to every live subscriber now."""
        self.wrote_at = now
        self._counters.bytes += len(frames) * len(self.live)
        return self.subscription.encoding.encode(frames)

    def written(self, behind: list[Subscriber]) -> list[Subscriber]:
        """All live subscribers were sent something, after which some can take no more. Returns these."""
        for subscriber in behind:
            subscriber.lag()
        return behind
