"""Brings every commit to every reader: joins, resumes, fans out, ends.

The bus tells the hub of a commit; each change is encoded once for each detail that somebody wants,
given to the audiences that follow its slice (an index finds them, no reader is asked), and all that
one loop turn brought is written at its end. A live reader has no task, no queue and no timer. One that
is behind has a task while it waits for the journal or for its socket; it becomes live synchronously, at head,
after a flush.

Invariants: between reading the store and adding a reader to the live set there is no await. That is why a
snapshot joins the stream without a gap and without a repeat. What is done for many readers in one turn of
the loop is bounded, so that the others keep their latency.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from statestream.broadcast.audience import Audience
from statestream.broadcast.audiences import SLOTS, Audiences
from statestream.broadcast.counts import Counts
from statestream.broadcast.openings import NOTHING, Openings
from statestream.broadcast.reader import Interest, Reader
from statestream.broadcast.replay import Replay
from statestream.broadcast.resume import Backlog, Backlogs, TooFarBehind
from statestream.broadcast.sink import Sink
from statestream.broadcast.sockets import Sockets
from statestream.broadcast.turnstile import Turnstile
from statestream.core.change import Change, Position
from statestream.core.errors import Expired, Forked, Malformed, TooLarge, Unavailable
from statestream.protocol import frames
from statestream.protocol.frames import EndReason, Frame
from statestream.store.bus import Why
from statestream.store.store import Store

log = logging.getLogger("statestream")

DRAIN_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
TURN_SECONDS: Final = 0.01
TICKS: Final = 8


class Hub:
    """The readers of one store. `heartbeat` in seconds; at most `max_subscribers` streams at a time."""

    def __init__(self, store: Store, *, heartbeat: float, max_subscribers: int) -> None:
        self.counts = Counts()
        self.sockets = Sockets(self.leave)
        self._store = store
        self._heartbeat = heartbeat
        self._max_subscribers = max_subscribers
        self._audiences = Audiences(self.counts, self.sockets.send)
        self._openings = Openings(store, int(heartbeat * 1000))
        self._backlogs = Backlogs(store)
        self._readers: dict[Reader, None] = {}
        self._dirty: dict[Audience, None] = {}
        self._flushing = False
        self._closing = False
        self._empty = asyncio.Event()
        self._turnstile = Turnstile()
        self._tasks: asyncio.TaskGroup

    @property
    def readers(self) -> int:
        return len(self._readers)

    @property
    def behind(self) -> int:
        """Readers that wait for the journal or for their socket."""
        return sum(reader.task is not None for reader in self._readers)

    # told by the bus

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            encoded: dict[bool, bytes] = {}
            for audience in self._audiences.following(change.slice):
                full = audience.interest.full
                if full not in encoded:
                    encoded[full] = frames.update(change, full=full)
                audience.add(encoded[full])
                self._dirty[audience] = None
        if self._dirty and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def reset(self, why: Why) -> None:
        for reader in tuple(self._readers):
            reader.audience.drop(reader)
            reader.resync = why
            self._fell_behind(reader)

    def _flush(self) -> None:
        """Writes what gathered, as much as a turn has room for; who had to wait gets all that came meanwhile as one."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN_SECONDS
        while self._dirty:
            now = loop.time()
            if now > until:
                loop.call_soon(self._flush)
                return
            audience = next(iter(self._dirty))
            del self._dirty[audience]
            self._flush_to(audience, now)
        self._flushing = False

    def _flush_to(self, audience: Audience, now: float) -> None:
        for reader in audience.flush(self._store.position, now):
            self._fell_behind(reader)

    def _fell_behind(self, reader: Reader) -> None:
        if reader.sink.closed:
            self.leave(reader)
        elif reader.task is None:
            reader.task = self._tasks.create_task(self._bring(reader))

    # a reader's stream

    def join(
        self,
        sink: Sink,
        interest: Interest,
        cursor: str | None,
        *,
        every: bool,
        left: Callable[[], None] | None = None,
    ) -> Reader | None:
        """Begins a stream, from `cursor` if there is one; None where it was ended at once.

        `every`: each change by itself, never coalesced; without a cursor from the oldest that is kept. `left` is
        called once, when the stream has ended.
        """
        if self._closing or len(self._readers) >= self._max_subscribers:
            reason: EndReason = "shutdown" if self._closing else "busy"
            self.counts.ended[reason] += 1
            self._say_end(sink, reason)
            sink.finish()
            if left is not None:
                left()
            return None
        reader = Reader(sink, self._audiences.enter(interest, self._store.position), every=every)
        reader.left = left
        self._readers[reader] = None
        self._empty.clear()
        try:
            if cursor is not None:
                reader.position = Position.parse(cursor)
            elif not every:
                reader.resync = "start"
        except Malformed:
            reader.resync = "invalid"
        if not self._at_once(reader) and reader in self._readers and reader.task is None:
            reader.task = self._tasks.create_task(self._bring(reader, rewind=every and cursor is None))
        return reader

    def _at_once(self, reader: Reader) -> bool:
        """Makes the reader live without waiting for anything, where that can be."""
        try:
            if reader.resync is not None:
                return self._go_live(reader, self._openings.initial(reader, reader.resync))
            if reader.every:
                return False
            known = self._openings.known(reader)
            if known is not None:
                return self._go_live(reader, known)
            backlog = self._backlogs.in_memory(reader.position, reader.interest.selection)
            return backlog is not None and self._go_live(reader, self._openings.continued(reader, backlog))
        except Forked:
            reader.resync = "forked"
            return self._at_once(reader)
        except TooLarge:
            self._end(reader, "too_large")
            return False

    async def _bring(self, reader: Reader, *, rewind: bool = False) -> None:
        """Owns a reader that is behind until it is live, or gone."""
        reason: EndReason | None = None
        try:
            await self._to_head(reader, rewind=rewind)
        except TooLarge:
            reason = "too_large"
        except Unavailable:
            reason = "unavailable"
        except Exception:
            log.exception("expected to bring a reader to head, got an error; it is cut")
            reader.sink.abort()
        finally:
            if reader.task is asyncio.current_task():
                reader.task = None
        if reader.sink.closed:
            self.leave(reader)
        elif reason is not None:
            self._end(reader, reason)

    async def _to_head(self, reader: Reader, *, rewind: bool) -> None:
        """Waits for the reader's socket and for the journal until it is live, or closed."""
        while not reader.live and await self._drained(reader):
            await self._turnstile.passed()  # a thousand that come back must not hold up the live
            backlog = await self._missed(reader, rewind=rewind)
            rewind = False
            if reader.resync is not None or backlog is None:
                self._go_live(reader, self._openings.initial(reader, reader.resync or "lagged"))
            else:
                self._go_live(reader, self._openings.continued(reader, backlog))

    async def _missed(self, reader: Reader, *, rewind: bool) -> Backlog | None:
        """What it has missed; None where it is to get the state, for the reason that `resync` then says."""
        try:
            if reader.every and reader.resync is None:
                opening = reader.first
                await Replay(self._store, reader, self._drained, int(self._heartbeat * 1000)).run(rewind=rewind)
                self.counts.began["earliest"] += opening and not reader.first
            if reader.resync is None:
                return await self._backlogs.missed(reader.position, reader.interest.selection)
        except TooFarBehind:
            reader.resync = "lagged"
        except Expired:
            reader.resync = "expired"
        except Forked:
            reader.resync = "forked"
        return None

    def _go_live(self, reader: Reader, frame: Frame) -> bool:
        """The reader has got all up to head with this frame: from here on it gets what all get. False: not yet."""
        audience, now = reader.audience, asyncio.get_running_loop().time()
        self._flush_to(audience, now)
        self._count(reader, frame)
        reader.first, reader.resync, reader.position = False, None, self._store.position
        if frame is not NOTHING and not reader.sink.write(frame):
            return False
        if not audience.live:
            audience.wrote_at = now
        audience.live.add(reader)
        return True

    def _count(self, reader: Reader, frame: Frame) -> None:
        initial = frame.raw.startswith(b"event: state.initial")
        if reader.first:
            self.counts.began[(reader.resync or "lagged") if initial else "resumed"] += 1
        elif frame is not NOTHING:
            self.counts.lagged["initial" if initial else "catchup"] += 1

    async def _drained(self, reader: Reader) -> bool:
        """Waits for a slow reader; cuts one that has taken nothing for too long."""
        left = None
        while left is None or reader.sink.outstanding < left:
            left = reader.sink.outstanding
            with contextlib.suppress(TimeoutError):  # slow is allowed, as long as something is taken
                async with asyncio.timeout(DRAIN_SECONDS):
                    await reader.sink.drained()
                    return not reader.sink.closed
        self.counts.cut += 1
        reader.sink.abort()
        return False

    # ends

    def _end(self, reader: Reader, reason: EndReason) -> None:
        """Says why, and ends the stream as soon as the reader has taken that."""
        if reader.ending:
            return
        reader.ending = True
        reader.audience.drop(reader)
        self.counts.ended[reason] += 1
        self._say_end(reader.sink, reason)
        if reader.task is not None:
            reader.task.cancel()
        if reader.sink.waiting:
            reader.task = self._tasks.create_task(self._last_words(reader))
        else:
            self.leave(reader)

    def _say_end(self, sink: Sink, reason: EndReason) -> None:
        retry = None if reason == "too_large" else random.randint(frames.RETRY_MS // 2, frames.RETRY_MS * 2)  # noqa: S311
        sink.write(Frame(frames.end(reason, retry)))

    async def _last_words(self, reader: Reader) -> None:
        await self._drained(reader)
        self.leave(reader)

    def leave(self, reader: Reader) -> None:
        """Forgets the reader, and ends its response if its connection still stands. May be called again."""
        if reader not in self._readers:
            return
        del self._readers[reader]
        reader.audience.live.discard(reader)
        self._audiences.leave(reader.audience)
        if not reader.audience.readers:
            self._dirty.pop(reader.audience, None)
        if reader.task is not None and reader.task is not asyncio.current_task():
            reader.task.cancel()
        reader.sink.finish()
        if reader.left is not None:
            reader.left()
        if not self._readers:
            self._empty.set()

    # time

    async def run(self) -> None:
        """Follows the store and sends heartbeats, until cancelled."""
        unsubscribe = self._store.bus.subscribe(self)
        self.sockets.open()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                while True:
                    for slot in range(SLOTS):
                        await asyncio.sleep(self._heartbeat / TICKS / SLOTS)
                        try:
                            await self._beat(slot)
                        except Exception:
                            log.exception("a heartbeat failed; the next one comes")
        finally:
            unsubscribe()
            self.sockets.close()

    async def _beat(self, slot: int) -> None:
        """A heartbeat to every audience of the slot that would else be silent for longer than was promised."""
        loop = asyncio.get_running_loop()
        until = loop.time() + TURN_SECONDS
        for audience in self._audiences.in_slot(slot):
            now = loop.time()
            if audience.wrote_at > now - self._heartbeat * (TICKS - 2) / TICKS:
                continue
            if now > until:
                await asyncio.sleep(0)
                until = loop.time() + TURN_SECONDS
            self._flush_to(audience, now)
            for reader in audience.write(Frame(frames.heartbeat(self._store.position)), now):
                self._fell_behind(reader)

    async def close(self) -> None:
        """Ends every stream and waits until they have said so."""
        self._closing = True
        for reader in tuple(self._readers):
            self._end(reader, "shutdown")
        if self._readers:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._empty.wait()
            except TimeoutError:
                for reader in tuple(self._readers):
                    reader.sink.abort()
                    self.leave(reader)
