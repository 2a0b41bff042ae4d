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
from collections.abc import Hashable
from typing import Final, Literal

from msgspec import Struct

from statestream.broadcast.backlog import Backlog
from statestream.broadcast.subscribers import State, Subscriber
from statestream.core.change import Position
from statestream.core.errors import TooLarge
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
        snapshot = subscriber.group.view.snapshot(subscriber.subscription.selection)
        retry = frames.RETRY_MS if subscriber.state is State.SYNCING else None
        return frames.initial(reason, snapshot.position, snapshot.slices, self._heartbeat, retry=retry)

    def _continued(self, subscriber: Subscriber, backlog: Backlog) -> tuple[Kind, bytes]:
        detail, selection = subscriber.subscription.detail, subscriber.subscription.selection
        few = len(backlog) <= SINGLES and sum(len(change.data) for change in backlog) <= SINGLES_BYTES
        single, opening = few or detail.every_change, subscriber.state is State.SYNCING
        view = subscriber.group.view
        kind: Kind = "resumed" if opening else "catchup"
        out: list[bytes] = []
        if opening:
            assert isinstance(subscriber.cursor, Position)
            versions = _versions_before(view.versions(selection), backlog)
            out.append(frames.resumed(subscriber.cursor, versions, self._heartbeat))
        if single:
            out.extend(frames.update(change, full=detail.payloads) for change in backlog)
            return kind, b"".join(out)
        slices = dict(view.select(selection))
        items = frames.coalesce(backlog, slices)
        if sum(map(len, items)) > sum(state.measured for state in slices.values()):
            with contextlib.suppress(TooLarge):  # if the state is too large for one frame, the catch-up is sent
                return "initial", self._initial(subscriber, "lagged")
        out.append(frames.catchup(self._view.position, items))
        return kind, b"".join(out)


NOTHING: Final = SyncFrame(kind="nothing", data=b"")


def _key(subscriber: Subscriber) -> Hashable:
    return subscriber.subscription, subscriber.cursor, subscriber.state


def _versions_before(versions: dict[str, int], backlog: Backlog) -> dict[str, int]:
    """The versions that a client holds at its cursor, from those of now, which are changed, and the backlog."""
    for change in reversed(backlog):
        versions[change.slice] = change.from_version
    for name in {change.slice for change in backlog}:
        if not versions[name]:
            del versions[name]
    return versions
