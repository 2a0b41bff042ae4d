"""The subscribers of one node: they join, are brought to the head, and leave.

The hub owns the parts of the broadcast and the tasks of subscribers that are behind. A live subscriber has no task, no
queue and no timer.

Invariants: every subscriber that joined leaves once, whatever happens, and its `on_closed` is called once. If the
server ends a stream, it sends the reason (`stream.end`), unless the client does not read. However a stream ends, it is
counted once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from statestream.broadcast.admission import Admission
from statestream.broadcast.budget import Budget
from statestream.broadcast.counters import Counters
from statestream.broadcast.encoding import Encoding
from statestream.broadcast.entitlements import Entitlement, Entitlements
from statestream.broadcast.fanout import FanOut
from statestream.broadcast.groups import SubscriberGroups
from statestream.broadcast.heartbeats import Heartbeats
from statestream.broadcast.sessions import Session, Sessions
from statestream.broadcast.sink import Sink
from statestream.broadcast.sockets import Sockets
from statestream.broadcast.subscribers import Lag, State, StreamEnd, Subscriber, SubscriberGroup
from statestream.broadcast.subscription import Cursor, Detail, Subscription, Wanted
from statestream.broadcast.synchronizer import Synchronizer
from statestream.core.change import Change, Position
from statestream.core.errors import TooLarge, Unavailable
from statestream.protocol import frames
from statestream.protocol.frame_types import EndReason
from statestream.store.bus import ResetReason
from statestream.store.grant import Grant
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

CLOSE_SECONDS: Final = 2.0
AGE_SECONDS: Final = 0.1
AGED_AT_ONCE: Final = 100
"""So often the server looks for old streams, and so many it ends then."""
FOR_GOOD: Final = ("too_large", "revoked")


class Hub:
    """`view` is the server's own. `heartbeat` in seconds; at most `max_subscribers` streams at a time.

    Streams end after `max_age` seconds; None means never.
    """

    def __init__(
        self,
        view: StoreView,
        budget: Budget,
        sessions: Sessions,
        *,
        heartbeat: float,
        max_subscribers: int,
        max_age: float | None = None,
    ) -> None:
        self.counters, self._sessions = Counters(), sessions
        self.sockets: Sockets[Subscriber] = Sockets(self.leave, budget)
        self._view = view
        self._max_subscribers, self._max_age = max_subscribers, max_age
        self._groups = SubscriberGroups(self.counters, self.sockets.send)
        admission = Admission()
        self._fanout = FanOut(view, self._groups, admission, self._lagging, self.counters.writing, self.sockets.send)
        self._synchronizer = Synchronizer(
            view, self._fanout, admission, self.counters, int(heartbeat * 1000), self._settle
        )
        self._heartbeats = Heartbeats(view, self._groups, self._fanout, heartbeat)
        self._subscribers: dict[Subscriber, float] = {}  # as they joined, with the time if it matters
        self._entitlements: Entitlements[Subscriber] = Entitlements()
        self._behind: dict[Subscriber, float] = {}
        self._ends: dict[Subscriber, EndReason] = {}
        self.closing = False
        """Whether the streams are being ended, because the server stops."""
        self._empty = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    @property
    def subscribers(self) -> int:
        return len(self._subscribers)

    @property
    def held(self) -> int:
        """The streams and WebSockets that identities have open."""
        return self._sessions.held

    @property
    def full(self) -> bool:
        """Whether as many streams are open as are allowed."""
        return len(self._subscribers) >= self._max_subscribers

    @property
    def behind(self) -> int:
        """Subscribers that wait for the journal or for their client to read."""
        return len(self._behind)

    def behind_since(self) -> dict[Subscriber, float | None]:
        """All open streams, with the monotonic time since when each has been behind; None for those at the head."""
        return {subscriber: self._behind.get(subscriber) for subscriber in self._subscribers}

    def lag(self) -> Lag:
        """How far the subscriber is behind that is farthest behind."""
        head = self._view.position.seq
        cursors = (subscriber.cursor for subscriber in self._behind)
        changes = max((head - cursor.seq for cursor in cursors if isinstance(cursor, Position)), default=0)
        seconds = max((time.monotonic() - since for since in self._behind.values()), default=0.0)
        return Lag(changes=max(0, changes), seconds=seconds)

    async def run(self) -> None:
        """Follows the store and sends heartbeats, until cancelled."""
        unsubscribe = self._view.subscribe(self, self._parts)
        self._fanout.begin()
        self.sockets.open()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                if self._max_age is not None:
                    self._tasks.create_task(self._end_aged(self._max_age))
                await self._heartbeats.run()
        finally:
            unsubscribe()
            self.sockets.close()

    # called by the bus

    def _parts(self, changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
        """A commit in parts, in which neither rights nor what a view shows are other ones in between."""
        for part in self._entitlements.parts(changes) if self._entitlements else (changes,):
            yield from self._view.parts(part)

    def changed(self, changes: Sequence[Change]) -> None:
        moved = self._move(self._entitlements.changed_by(changes)) if self._entitlements else ()
        self._fanout.add(changes)
        for subscriber in moved:
            if subscriber.task is None and subscriber.open:
                self._at_once(subscriber)

    def reset(self, reason: ResetReason) -> None:
        self._fanout.begin()
        self._move(self._entitlements.renew_all())
        for subscriber in tuple(self._subscribers):
            subscriber.restart(reason)
            self._lagging(subscriber)

    def _move(self, entitlements: Sequence[Entitlement[Subscriber]]) -> list[Subscriber]:
        """Moves subscribers whose rights have changed to other groups, before the changes of the commit are sent."""
        moved: list[Subscriber] = []
        for entitlement in entitlements:
            for subscriber in tuple(entitlement.members):
                if entitlement.too_large:
                    self._end(subscriber, "too_large")
                    continue
                self._fanout.settle(subscriber.group)
                before, wanted = subscriber.group, subscriber.subscription
                subscriber.move(self._enter(entitlement.view, entitlement.grant, wanted.detail, wanted.encoding))
                self._leave_group(before)
                moved.append(subscriber)
        return moved

    def _settle(self, entitlement: Entitlement[Subscriber]) -> None:
        """Finds out what an unknown entitlement grants, and moves its members. Raises NotLoaded."""
        if self._entitlements.settle(entitlement):
            self._move([entitlement])

    def _enter(self, view: StoreView, grant: Grant, detail: Detail, encoding: Encoding) -> SubscriberGroup:
        subscription = Subscription(scope=grant.scope, selection=grant.selection, detail=detail, encoding=encoding)
        return self._groups.enter(subscription, view)

    def _leave_group(self, group: SubscriberGroup) -> None:
        self._groups.leave(group)
        if not group.members:
            self._fanout.forget(group)

    # a stream

    def join(
        self,
        sink: Sink,
        view: StoreView,
        wanted: Wanted,
        cursor: Cursor,
        session: Session | None = None,
        on_closed: Callable[[StreamEnd], None] | None = None,
    ) -> Subscriber | None:
        """Begins a stream at a cursor. None if it was ended at once. `on_closed` is called when it has ended.

        The session is closed then as well.
        """
        subscriber, refused = None, self._refusal(view)
        if refused is None:
            try:
                subscriber = self._joined(sink, view, wanted, cursor, session, on_closed)
            except TooLarge:
                refused = "too_large"
        if subscriber is not None:
            self._at_once(subscriber)
            return subscriber
        reason = refused or "busy"
        self._refuse(sink, wanted.encoding, reason)
        if session is not None:
            self._sessions.close(session)
        if on_closed is not None:
            on_closed(StreamEnd(reason=reason, sent=sink.sent))
        return None

    def _refusal(self, view: StoreView) -> EndReason | None:
        """Why somebody cannot join now."""
        if self.closing:
            return "shutdown"
        if self.full:
            return "busy"
        identity = view.principal.identity
        return None if identity is None else self._sessions.why_not(identity)

    def _joined(
        self,
        sink: Sink,
        view: StoreView,
        wanted: Wanted,
        cursor: Cursor,
        session: Session | None,
        on_closed: Callable[[StreamEnd], None] | None,
    ) -> Subscriber:
        """Raises TooLarge."""
        grant, entitlement = wanted.lasting, None
        if grant is None:
            grant, entitlement = self._entitlements.granted(view, wanted.selection)
        group = self._enter(view, grant, wanted.detail, wanted.encoding)
        subscriber = Subscriber(sink, group, cursor, on_closed, entitlement)
        if entitlement is not None:
            entitlement.members[subscriber] = None
        if session is not None:
            subscriber.session = session
            session.end = lambda reason: self._end(subscriber, reason)
        self._subscribers[subscriber] = 0.0 if self._max_age is None else time.monotonic()
        self._empty.clear()
        return subscriber

    def _at_once(self, subscriber: Subscriber) -> None:
        """Makes a subscriber live now if that needs no waiting, else soon."""
        try:
            self._synchronizer.at_once(subscriber)
        except TooLarge:
            self._end(subscriber, "too_large")
        except Exception:
            log.exception("the first frame of a subscriber could not be sent; the subscriber is disconnected")
            subscriber.sink.abort("failed")
        if subscriber.open and subscriber.state is not State.LIVE:
            self._lagging(subscriber)

    def hand_off(
        self,
        transport: asyncio.Transport,
        view: StoreView,
        wanted: Wanted,
        cursor: Cursor,
        session: Session | None = None,
        on_closed: Callable[[StreamEnd], None] | None = None,
    ) -> bool:
        """Takes a connection from aiohttp and begins a stream on it. False if the connection must stay with aiohttp."""
        sink = self.sockets.hand_off(transport, wanted.encoding)
        if sink is None:
            return False
        self.counters.handed_off += 1
        subscriber = self.join(sink, view, wanted, cursor, session, on_closed)
        if not sink.closed:  # otherwise it was ended at once, and the two must not hold each other
            sink.owner = subscriber
        return True

    def _lagging(self, subscriber: Subscriber) -> None:
        """The subscriber is not live: brings it to the head, unless somebody does already or it is gone."""
        if subscriber.sink.closed:
            self.leave(subscriber)
        elif subscriber.task is None and subscriber.open:
            subscriber.task = self._tasks.create_task(self._bring(subscriber))
            self._behind[subscriber] = time.monotonic()

    async def _bring(self, subscriber: Subscriber) -> None:
        """Owns a subscriber that is behind until it is live, or gone."""
        reason: EndReason | None = None
        try:
            await self._synchronizer.bring(subscriber)
        except TooLarge:
            reason = "too_large"
        except Unavailable:
            reason = "unavailable"
        except Exception:
            log.exception("a subscriber could not be brought to the head and is disconnected")
            subscriber.sink.abort("failed")
        finally:
            if subscriber.task is asyncio.current_task():
                subscriber.task = None
                self._at_head(subscriber)
        if subscriber.sink.closed:
            self.leave(subscriber)
        elif reason is not None:
            self._end(subscriber, reason)

    def _at_head(self, subscriber: Subscriber) -> None:
        """Notes that the subscriber is not behind any more, or gone."""
        self._behind.pop(subscriber, None)
        if not self._behind:
            self._behind.clear()  # returns the memory that it took when thousands joined

    # ends

    def _refuse(self, sink: Sink, encoding: Encoding, reason: EndReason) -> None:
        self.counters.ended[reason] += 1
        sink.write(encoding.encode(_end_frame(reason)))
        sink.finish()

    def _end(self, subscriber: Subscriber, reason: EndReason) -> None:
        """Sends the reason, and closes the stream as soon as the client has read it."""
        if not subscriber.open:
            return
        subscriber.closing()
        self._ends[subscriber] = reason
        subscriber.sink.write(subscriber.subscription.encoding.encode(_end_frame(reason)))
        if subscriber.task is not None:
            subscriber.task.cancel()
        if subscriber.sink.waiting:
            subscriber.task = self._tasks.create_task(self._last_frame(subscriber))
            self._behind.setdefault(subscriber, time.monotonic())
        else:
            self.leave(subscriber)

    async def _last_frame(self, subscriber: Subscriber) -> None:
        await self._synchronizer.drained(subscriber)
        self.leave(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Forgets the subscriber, and ends its response if its connection is still open. May be called again."""
        if subscriber not in self._subscribers:
            return
        del self._subscribers[subscriber]
        self._at_head(subscriber)
        sink = subscriber.sink
        reason = self._ends.pop(subscriber, sink.ending if sink.closed else "left")
        self.counters.ended[reason] += 1
        subscriber.closed()
        self._leave_group(subscriber.group)
        if subscriber.entitlement is not None:
            self._entitlements.leave(subscriber.entitlement, subscriber)
        if subscriber.session is not None:
            self._sessions.close(subscriber.session)
        if subscriber.task is not None and subscriber.task is not asyncio.current_task():
            subscriber.task.cancel()
        sink.finish()
        if subscriber.on_closed is not None:
            subscriber.on_closed(StreamEnd(reason=reason, sent=sink.sent))
        if not self._subscribers:
            self._empty.set()

    async def _end_aged(self, max_age: float) -> None:
        """Ends streams when they are old, a few at a time."""
        while True:
            await asyncio.sleep(min(AGE_SECONDS, max_age / 10))
            before = time.monotonic() - max_age
            aged = (each for each, since in islice(self._subscribers.items(), AGED_AT_ONCE) if since <= before)
            for subscriber in tuple(aged):
                self._end(subscriber, "aged")

    async def close(self) -> None:
        """Ends every stream and waits until the clients have read that."""
        self.closing = True
        for subscriber in tuple(self._subscribers):
            self._end(subscriber, "shutdown")
        if self._subscribers:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._empty.wait()
            except TimeoutError:
                for subscriber in tuple(self._subscribers):
                    subscriber.sink.abort()
                    self.leave(subscriber)


def _end_frame(reason: EndReason) -> bytes:
    """Clients return at random times, so that they do not all return at once; from the end for good they do not."""
    spread = random.randint(frames.RETRY_MS // 2, frames.RETRY_MS * 2)  # noqa: S311
    return frames.end(reason, None if reason in FOR_GOOD else spread)
