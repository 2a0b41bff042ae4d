"""The frames that bring a subscriber to the head: the whole state, or what it has missed.

Ten thousand subscribers that join together, or return with the same cursor, receive the same bytes: the newest frames
that were made at this head are kept for a moment. So are the versions of whole families as of a cursor, which
subscribers with different selections share.

Invariants: synchronous; what needs a value that is away raises NotLoaded. The head must not move between making a
frame and writing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Hashable, Iterable, Mapping
from typing import Final, Literal

import orjson
from msgspec import Struct

from statestream.broadcast.backlog import Backlog
from statestream.broadcast.kept import Kept
from statestream.broadcast.subscribers import State, Subscriber
from statestream.core.change import Position, SliceState
from statestream.core.errors import TooLarge
from statestream.core.selection import Selection, bounded, check_count
from statestream.protocol import frames
from statestream.protocol.frame_types import Reason
from statestream.store.loaded import NotLoaded
from statestream.store.view import StoreView

SINGLES: Final = 64
SINGLES_BYTES: Final = 64 << 10
"""Up to here missed changes are sent one by one; beyond, coalesced."""
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
        self._made: Kept[SyncFrame] = Kept(lambda frame: len(frame.data))
        self._versions: Kept[bytes] = Kept(len)
        self._expiring = False
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
            self._at, self._since = self._view.position, now

    def _keep(self, key: Hashable, subscriber: Subscriber, kind: Kind, data: bytes) -> SyncFrame:
        if not data:
            return NOTHING
        frame = SyncFrame(kind=kind, data=subscriber.subscription.encoding.encode(data))
        self._made.add(key, frame)
        self._expire_soon()
        return frame

    def _expire_soon(self) -> None:
        if not self._expiring and (self._made or self._versions):
            self._expiring = True
            asyncio.get_running_loop().call_later(KEPT_SECONDS, self._expire)

    def _expire(self) -> None:
        """Returns the memory even if nobody requests another frame."""
        self._expiring = False
        self._versions.clear()
        self._forget_the_past()
        self._expire_soon()

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
        if opening:
            assert isinstance(subscriber.cursor, Position)
            versions = self._versions_at(subscriber, view, held, mine)
            out.append(
                frames.resumed(subscriber.cursor, versions, self._heartbeat, view=subscriber.subscription.scope.tag)
            )
        if held == now and steady and not subscriber.subscription.scope.views:
            out.extend(frames.update(change, full=detail.payloads) for change in kept)
            return kind, b"".join(out)
        if held != now:
            changed, gained = {change.slice for change in kept}, _gained(view, held, now)
            slices = view.states({*changed, *gained})
            before = _versions_before(view.versions(held), mine)
            items = frames.coalesce(kept, slices)
            items += _moved(now, before, {name: slices[name] for name in gained}, self._view.position)
            return kind, b"".join(out + self._catchup(items, opening=opening))
        items = frames.coalesce(kept, view.states({change.slice for change in kept}))
        if not (few or detail.every_change):
            # if the state is too large for one frame, or some of it is away, the catch-up is sent
            with contextlib.suppress(TooLarge, NotLoaded):
                if _shorter(view.select(now), sum(map(len, items))):
                    return "initial", self._initial(subscriber, "lagged")
        return kind, b"".join(out + self._catchup(items, opening=opening))

    def _catchup(self, items: list[bytes], *, opening: bool) -> list[bytes]:
        """Nothing if a stream opens and nothing was missed: a long poll must go on waiting then."""
        return [frames.catchup(self._view.position, items)] if items or not opening else []

    def _versions_at(self, subscriber: Subscriber, view: StoreView, held: Selection, backlog: Backlog) -> bytes:
        """The versions that a client holds at its cursor, as JSON. Families are encoded once for all selections."""
        parts = []
        for part in held.parts():
            key = (subscriber.subscription.scope, part, subscriber.cursor)
            encoded = self._versions.get(key)
            if encoded is None:
                encoded = orjson.dumps(_versions_before(view.versions(part), part.among(backlog)))
                if not part.names:
                    self._versions.add(key, encoded)
                    self._expire_soon()
            parts.append(encoded[1:-1])
        return b"{%b}" % b",".join(filter(None, parts))


def _gained(view: StoreView, held: Selection, now: Selection) -> list[str]:
    """The slices that the subscriber may read from now on. Raises TooLarge if they exceed what one frame may hold."""
    names = [name for name in view.versions(now) if not held.matches(name)]
    check_count(len(names))
    return names


def _moved(now: Selection, before: Mapping[str, int], gained: Mapping[str, SliceState], head: Position) -> list[bytes]:
    """The items for slices that the subscriber may not read any more, and for those that it may read from now on.

    Raises TooLarge if the latter exceed what one frame may hold.
    """
    lost = [frames.lost(name, version, head) for name, version in before.items() if not now.matches(name)]
    return lost + [frames.gained(name, state) for name, state in bounded(gained.items()).items()]


NOTHING: Final = SyncFrame(kind="nothing", data=b"")


def _key(subscriber: Subscriber) -> Hashable:
    return subscriber.subscription, subscriber.cursor, subscriber.state, subscriber.held


def _shorter(slices: Iterable[tuple[str, SliceState]], size: int) -> bool:
    """Whether all these slices together are shorter than that. Stops as soon as they are not, as there may be many."""
    for _, state in slices:
        size -= state.measured
        if size <= 0:
            return False
    return True


def _versions_before(versions: dict[str, int], backlog: Backlog) -> dict[str, int]:
    """The versions at a cursor, from those of now, which are changed, and the changes since the cursor."""
    for change in reversed(backlog):
        versions[change.slice] = change.from_version
    for name in {change.slice for change in backlog}:
        if not versions[name]:
            del versions[name]
    return versions
