"""Brings a subscriber to the head: joining, resuming and lagging are the same work.

A value that is away is fetched first: then the subscriber waits, as if it were slow.

Invariants: between reading the store and making a subscriber live there is no await. That is why a snapshot joins the
stream without a gap and without a repeat. A thousand subscribers that return at the same time do not delay the live
ones: they take turns, see the admission.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from statestream.broadcast.admission import Admission
from statestream.broadcast.backfill import Backfill
from statestream.broadcast.backlog import Backlog, Backlogs, TooFarBehind
from statestream.broadcast.counters import Counters
from statestream.broadcast.entitlements import Entitlement
from statestream.broadcast.fanout import FanOut
from statestream.broadcast.subscribers import State, Subscriber
from statestream.broadcast.subscription import EARLIEST
from statestream.broadcast.sync_frames import NOTHING, SyncFrame, SyncFrames
from statestream.core.change import Position
from statestream.core.errors import Expired, Forked, JournalUnusable
from statestream.store.loaded import NotLoaded
from statestream.store.past import PastValues
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

DRAIN_SECONDS: Final = 30.0


class Synchronizer:
    """`heartbeat` is what the first frames announce, in ms. `settle` finds out what an unknown entitlement grants."""

    def __init__(
        self,
        view: StoreView,
        fanout: FanOut,
        admission: Admission,
        counters: Counters,
        heartbeat: int,
        settle: Callable[[Entitlement[Subscriber]], None],
    ) -> None:
        self._view, self._fanout, self._admission = view, fanout, admission
        self._counters, self._heartbeat, self._settle = counters, heartbeat, settle
        self._frames = SyncFrames(view, heartbeat)
        self._backlogs = Backlogs()
        self._past = PastValues()

    def at_once(self, subscriber: Subscriber) -> None:
        """Makes the subscriber live if this needs no waiting for the journal or for others. Raises TooLarge."""
        if self._admission.open and not _is_unknown(subscriber):
            with self._admission.working(), contextlib.suppress(NotLoaded):
                self._sync(subscriber)

    def _sync(self, subscriber: Subscriber) -> None:
        """Does nothing if this needs the journal."""
        cursor, detail = subscriber.cursor, subscriber.subscription.detail
        if not isinstance(cursor, Position):
            if cursor != EARLIEST:
                self._send(subscriber, self._frames.initial(subscriber, cursor))
            return
        if detail.every_change:
            return
        frame = self._frames.known(subscriber)
        if frame is None:
            try:
                backlog = self._backlogs.in_memory(subscriber.view, cursor, subscriber.followed)
            except Forked:
                subscriber.restart("forked")
                self._sync(subscriber)
                return
            if backlog is not None and not self._rights_then(subscriber, cursor, backlog):
                frame = self._frames.continued(subscriber, backlog)
        if frame is not None:
            self._send(subscriber, frame)

    def _rights_then(self, subscriber: Subscriber, cursor: Position, backlog: Backlog) -> set[str]:
        """Finds out what a subscriber could read at the cursor that it came with, if that may be something else.

        Returns the names of slices instead if their values at the cursor must be loaded first.
        """
        if subscriber.entitlement is None or subscriber.held is not None:
            return set()
        changed = {change.slice for change in backlog}
        found = subscriber.view.past.grant(cursor, subscriber.followed, changed, self._past)
        if isinstance(found, set):
            return found
        subscriber.held = found.selection
        return set()

    async def bring(self, subscriber: Subscriber) -> None:
        """Waits for the subscriber's socket and for the journal until it is live, or gone.

        Raises TooLarge, Unavailable.
        """
        while subscriber.state is not State.LIVE and await self.drained(subscriber):
            await self._admission.admitted()
            try:
                await self._entitled(subscriber)
                backlog = await self._missed(subscriber)
                with self._admission.working():
                    self._continue(subscriber, backlog)
            except NotLoaded as away:
                await subscriber.view.fetch(away.names)

    async def _entitled(self, subscriber: Subscriber) -> None:
        """Returns once it is known what the subscriber may read."""
        while (entitlement := subscriber.entitlement) is not None and entitlement.unknown:
            await entitlement.view.complete(partial(self._settle, entitlement))

    def _continue(self, subscriber: Subscriber, backlog: Backlog | None) -> None:
        cursor = subscriber.cursor  # read now: a reset may have replaced it while this waited
        if _is_unknown(subscriber):  # a change has come in between
            return
        if isinstance(cursor, Position) and backlog is not None:
            self._send(subscriber, self._frames.continued(subscriber, backlog))
        elif cursor != EARLIEST and not isinstance(cursor, Position):
            self._send(subscriber, self._frames.initial(subscriber, cursor))

    async def _missed(self, subscriber: Subscriber) -> Backlog | None:
        """What it has missed; None if it needs the whole state, for the reason that its cursor then is."""
        try:
            if subscriber.subscription.detail.every_change:
                await self._backfill(subscriber)
            while isinstance(cursor := subscriber.cursor, Position):
                scope, view = subscriber.subscription.scope, subscriber.view
                backlog = await self._backlogs.missed(view, scope, cursor, subscriber.followed)
                names = self._rights_then(subscriber, cursor, backlog)
                if not names:
                    return backlog
                self._past.add(cursor, names, await view.past.values_at(cursor, names))
        except TooFarBehind:
            subscriber.restart("lagged")
        except Expired:
            subscriber.restart("expired")
        except JournalUnusable as damaged:  # the changes that it missed cannot be read, as if they were trimmed
            log.warning("a subscriber receives the whole state instead of the changes that it missed: %s", damaged)
            subscriber.restart("expired")
        except Forked:
            subscriber.restart("forked")
        return None

    async def _backfill(self, subscriber: Subscriber) -> None:
        opening = subscriber.state is State.SYNCING
        await Backfill(subscriber, self.drained, self._heartbeat).run()
        if opening and subscriber.state is not State.SYNCING:
            self._counters.began["earliest"] += 1

    def _send(self, subscriber: Subscriber, frame: SyncFrame) -> None:
        """Sends what brings the subscriber to the head: from here on it receives what its group receives."""
        group, now = subscriber.group, asyncio.get_running_loop().time()
        if group.viewed is not None and not group.live:
            subscriber.view.require(group.viewed)  # from now on, each change of them is shown as it comes
        self._fanout.flush(group, now)  # what has gathered for the group is in the frame already
        self._count(subscriber, frame)
        writable = frame is NOTHING or subscriber.sink.write(frame.data)
        if not group.live:  # the heartbeats of a group that had no live subscriber begin here
            group.wrote_at = now
        subscriber.synced(self._view.position, writable=writable)

    def _count(self, subscriber: Subscriber, frame: SyncFrame) -> None:
        if subscriber.state is State.SYNCING:
            # the state may be sent although a cursor was given, if that is shorter than what was missed
            reason = subscriber.cursor if not isinstance(subscriber.cursor, Position) else "lagged"
            self._counters.began[reason if frame.kind == "initial" else "resumed"] += 1
        elif frame is not NOTHING:
            self._counters.lagged["initial" if frame.kind == "initial" else "catchup"] += 1

    async def drained(self, subscriber: Subscriber) -> bool:
        """Waits until a slow client has read; disconnects one that has read nothing for DRAIN_SECONDS. False: gone."""
        left = None
        while left is None or subscriber.sink.outstanding < left:
            left = subscriber.sink.outstanding
            with contextlib.suppress(TimeoutError):  # slow is allowed, as long as something is read
                async with asyncio.timeout(DRAIN_SECONDS):
                    await subscriber.sink.drained()
                    return not subscriber.sink.closed
        subscriber.sink.abort("unread")
        return False


def _is_unknown(subscriber: Subscriber) -> bool:
    """Whether values must be fetched before it is known what the subscriber may read."""
    return subscriber.entitlement is not None and subscriber.entitlement.unknown
