"""The frames that bring a subscriber to the head: the whole state, or what it has missed.

Ten thousand subscribers that join together, or return with the same cursor, receive the same bytes: the newest frames
that were made at this head are kept for a moment.

Invariants: synchronous. The head must not move between making a frame and writing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Final, Literal

from msgspec import Struct

from statestream.broadcast.backlog import Backlog
from statestream.broadcast.subscribers import State, Subscriber
from statestream.core.change import Position, SliceState
from statestream.core.errors import TooLarge
from statestream.core.selection import Selection, bounded
from statestream.protocol import frames
from statestream.protocol.frames import Reason
from statestream.store.view import StoreView

SINGLES: Final = 64
SINGLES_BYTES: Final = 64 << 10
"""Up to here missed changes are sent one by one; beyond, coalesced."""
KEPT: Final = 64
KEPT_BYTES: Final = 32 << 20
KEPT_SECONDS: Final = 1.0

Kind = Literal["initial", "resumed", "catchup", "nothing"]


class SyncFrame(Struct, frozen=True, kw_only=True, gc=False):
    """Encoded frames. `initial` and `resumed` open a stream; `initial` and `catchup` continue one."""

    kind: Kind
    data: bytes


class SyncFrames:
    """Makes them for the subscribers of one node. `heartbeat` is what the frames announce, in ms."""

    def __init__(self, view: StoreView, heartbeat: int) -> None:
        self._view, self._heartbeat = view, heartbeat
        self._made: OrderedDict[Hashable, SyncFrame] = OrderedDict()
        self._bytes = 0
        self._at: Position | None = None
        self._since = 0.0

    def known(self, subscriber: Subscriber) -> SyncFrame | None:
        """What another subscriber with the same cursor was sent at this head."""
        self._forget_the_past()
        if subscriber.entitlement is not None and subscriber.held is None:
            return None
        return self._made.get(_key(subscriber))

    def initial(self, subscriber: Subscriber, reason: Reason) -> SyncFrame:
        """The whole state. Raises TooLarge."""
        self._forget_the_past()
        key = (subscriber.subscription, reason, subscriber.state)
        return self._made.get(key) or self._keep(key, subscriber, "initial", self._initial(subscriber, reason))

    def continued(self, subscriber: Subscriber, backlog: Backlog) -> SyncFrame:
        """What the subscriber has missed since its cursor, or the whole state if that is shorter."""
        known = self.known(subscriber)
        if known is not None:
            return known
        kind, data = self._continued(subscriber, backlog)
        return self._keep(_key(subscriber), subscriber, kind, data)

    def _forget_the_past(self) -> None:
        """A frame is valid until the next change, and its timestamp for a moment."""
        now = time.monotonic()
        # comparing identities is enough: each commit sets a new position object
        if self._at is not self._view.position or now > self._since + KEPT_SECONDS:
            self._made.clear()
            self._bytes = 0
            self._at, self._since = self._view.position, now

    def _keep(self, key: Hashable, subscriber: Subscriber, kind: Kind, data: bytes) -> SyncFrame:
        if not data:
            return NOTHING
        frame = SyncFrame(kind=kind, data=subscriber.subscription.encoding.encode(data))
        if len(data) <= KEPT_BYTES:
            if not self._made:
                asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire)
            self._made[key] = frame
            self._bytes += len(frame.data)
        while self._bytes > KEPT_BYTES or len(self._made) > KEPT:
            _, oldest = self._made.popitem(last=False)
            self._bytes -= len(oldest.data)
        return frame

    def _expire(self) -> None:
        """Returns the memory even if nobody requests another frame."""
        self._forget_the_past()
        if self._made:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire)

    def _initial(self, subscriber: Subscriber, reason: Reason) -> bytes:
        snapshot = subscriber.view.snapshot(subscriber.subscription.selection)
        retry = frames.RETRY_MS if subscriber.state is State.SYNCING else None
        return frames.initial(
            reason,
            snapshot.position,
            snapshot.slices,
            self._heartbeat,
            retry=retry,
            view=subscriber.subscription.scope.tag,
        )

    def _continued(self, subscriber: Subscriber, backlog: Backlog) -> tuple[Kind, bytes]:
        detail, now = subscriber.subscription.detail, subscriber.subscription.selection
        held, view, opening = subscriber.held or now, subscriber.view, subscriber.state is State.SYNCING
        mine = backlog if subscriber.entitlement is None else held.among(backlog)
        kept = mine if held == now else now.among(mine)
        few = len(kept) <= SINGLES and sum(len(change.data) for change in kept) <= SINGLES_BYTES
        # what somebody could see may have changed to and fro, and what a view shows is known for the head only
        steady = detail.every_change or (few and subscriber.entitlement is None)
        kind: Kind = "resumed" if opening else "catchup"
        out: list[bytes] = []
        before = _versions_before(view.versions(held), mine) if opening or held != now else {}
        if opening:
            assert isinstance(subscriber.cursor, Position)
            out.append(
                frames.resumed(subscriber.cursor, before, self._heartbeat, view=subscriber.subscription.scope.tag)
            )
        if held == now and steady and not subscriber.subscription.scope.views:
            out.extend(frames.update(change, full=detail.payloads) for change in kept)
            return kind, b"".join(out)
        slices = dict(view.select(now))
        items = frames.coalesce(kept, slices)
        if held != now:
            items += _moved(held, now, before, slices, self._view.position)
        elif not (few or detail.every_change) and sum(map(len, items)) > sum(
            state.measured for state in slices.values()
        ):
            with contextlib.suppress(TooLarge):  # if the state is too large for one frame, the catch-up is sent
                return "initial", self._initial(subscriber, "lagged")
        out.append(frames.catchup(self._view.position, items))
        return kind, b"".join(out)


def _moved(
    held: Selection, now: Selection, before: Mapping[str, int], slices: Mapping[str, SliceState], head: Position
) -> list[bytes]:
    """The items for slices that the subscriber may not read any more, and for those that it may read from now on.

    Raises TooLarge if the latter exceed what one frame may hold.
    """
    gained = bounded((name, state) for name, state in slices.items() if not held.matches(name))
    lost = [frames.lost(name, version, head) for name, version in before.items() if not now.matches(name)]
    return lost + [frames.gained(name, state) for name, state in gained.items()]


NOTHING: Final = SyncFrame(kind="nothing", data=b"")


def _key(subscriber: Subscriber) -> Hashable:
    return subscriber.subscription, subscriber.cursor, subscriber.state, subscriber.held


def _versions_before(versions: dict[str, int], backlog: Backlog) -> dict[str, int]:
    """The versions that a client holds at its cursor, from those of now, which are changed, and the backlog."""
    for change in reversed(backlog):
        versions[change.slice] = change.from_version
    for name in {change.slice for change in backlog}:
        if not versions[name]:
            del versions[name]
    return versions
