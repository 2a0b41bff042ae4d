"""Brings every commit to every reader: joins, resumes, fans out, ends.

The bus tells the hub of a commit; each change is encoded once for each detail that somebody wants,
given to the audiences that follow its slice (an index finds them, no reader is asked), and all that
one loop turn brought is written at its end. A reader's own coroutine runs only while it is behind:
joining, resuming and lagging are that one state. It becomes live synchronously, at head, after a flush.

Law: between reading the store and adding a reader to the live set there is no await. That is why a
snapshot joins the stream without a gap and without a repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Final

from statestream.broadcast import frames
from statestream.broadcast.audience import Audience, Interest, Reader
from statestream.broadcast.frames import EndReason, Frame, Reason
from statestream.broadcast.replay import Replay
from statestream.broadcast.resume import Backlog, TooFarBehind, missed, versions_at
from statestream.bus import Why
from statestream.change import Change, Position
from statestream.errors import Expired, Forked, Malformed, TooLarge, Unavailable
from statestream.store import Store

log = logging.getLogger("statestream")

DRAIN_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
SINGLES: Final = 64
SINGLES_BYTES: Final = 64 << 10
TICKS: Final = 8


class Hub:
    """The readers of one store. `heartbeat` in seconds; at most `max_readers` streams at a time."""

    def __init__(self, store: Store, *, heartbeat: float, max_readers: int) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._max_readers = max_readers
        self._audiences: dict[Interest, Audience] = {}
        self._by_name: dict[str, set[Audience]] = {}
        self._by_family: dict[str, set[Audience]] = {}
        self._everything: set[Audience] = set()
        self._dirty: set[Audience] = set()
        self._readers: set[Reader] = set()
        self._flushing = False
        self._closing = False
        self._empty = asyncio.Event()

    # told by the bus

    def changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            encoded: dict[bool, bytes] = {}
            for audience in self._following(change.slice):
                full = audience.interest.full
                if full not in encoded:
                    encoded[full] = frames.update(change, full=full)
                audience.add(encoded[full])
                self._dirty.add(audience)
        if self._dirty and not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def reset(self, why: Why) -> None:
        for audience in self._audiences.values():
            for reader in tuple(audience.live):
                audience.drop(reader)
        for reader in self._readers:
            reader.resync = why
            reader.stir()

    def _following(self, name: str) -> list[Audience]:
        found = [*self._by_name.get(name, ()), *self._everything]
        if "/" in name:
            found.extend(self._by_family.get(name.partition("/")[0], ()))
        return found

    def _flush(self) -> None:
        self._flushing = False
        now = asyncio.get_running_loop().time()
        for audience in self._dirty:
            audience.flush(self._store.position, now)
        self._dirty.clear()

    # a reader's stream

    async def serve(self, reader: Reader, cursor: str | None) -> None:
        """Writes the reader's frames until its stream ends or the other side is gone. It resumes from `cursor`."""
        if self._closing or len(self._readers) >= self._max_readers:
            self._say_end(reader, "shutdown" if self._closing else "busy")
            return
        audience = self._enter(reader)
        try:
            await self._begin(reader, audience, cursor)
            while not reader.end and not reader.sink.closed:
                await reader.stirred()
                behind = not reader.end and reader not in audience.live
                if behind and await self._drained(reader):
                    await self._proceed(reader, audience)
            if reader.end:
                self._say_end(reader, reader.end)
        finally:
            self._leave(reader, audience)

    async def _begin(self, reader: Reader, audience: Audience, cursor: str | None) -> None:
        """The first frame: the state, or `state.resumed` and what was missed."""
        try:
            if cursor is not None:
                reader.position = Position.parse(cursor)
            elif not reader.every:
                reader.resync = "start"
        except Malformed:
            reader.resync = "invalid"
        await self._proceed(reader, audience, first=True, rewind=cursor is None)

    async def _proceed(self, reader: Reader, audience: Audience, *, first: bool = False, rewind: bool = False) -> None:
        """From the reader's position to head, and live; by a new snapshot where there is no other way."""
        try:
            try:
                if reader.every and reader.resync is None:
                    replay = Replay(self._store, reader, self._drained, self._heartbeat_ms)
                    first = await replay.run(first=first, rewind=rewind)
                if reader.resync is None:
                    backlog = await missed(self._store, reader.position, reader.interest.selection)
                if reader.resync is None:  # no reset came while the journal was read
                    self._continue(reader, audience, backlog, first=first)
                    return
            except TooFarBehind:
                reader.resync = "lagged"
            except Expired:
                reader.resync = "expired"
            except Forked:
                reader.resync = "forked"
            self._snapshot(reader, audience, reader.resync, first=first)
        except TooLarge:
            reader.end = "too_large"
        except Unavailable:
            reader.end = "unavailable"

    def _continue(self, reader: Reader, audience: Audience, backlog: Backlog, *, first: bool) -> None:
        selection = reader.interest.selection
        out: list[bytes] = []
        if first:
            versions = versions_at(self._store.slices, selection, backlog)
            out.append(frames.resumed(reader.position, versions, self._heartbeat_ms))
        few = len(backlog) <= SINGLES and sum(len(change.data) for change in backlog) <= SINGLES_BYTES
        if few or reader.every:
            out.extend(frames.update(change, full=reader.interest.full) for change in backlog)
        else:
            items = frames.squash(backlog, self._store.slices)
            if sum(map(len, items)) > sum(state.measured for _, state in selection.of(self._store.slices)):
                with contextlib.suppress(TooLarge):  # where the state may not be sent at once, the catch-up is
                    self._snapshot(reader, audience, "lagged", first=first)
                    return
            out.append(frames.catchup(self._store.position, items))
        self._go_live(reader, audience, b"".join(out))

    def _snapshot(self, reader: Reader, audience: Audience, reason: Reason, *, first: bool) -> None:
        """The state, and live. Raises TooLarge."""
        reader.resync = None
        slices = reader.interest.selection.snapshot(self._store.slices)
        retry = frames.RETRY_MS if first else None
        self._go_live(
            reader, audience, frames.initial(reason, self._store.position, slices, self._heartbeat_ms, retry=retry)
        )

    def _go_live(self, reader: Reader, audience: Audience, first_bytes: bytes) -> None:
        """The reader has got all up to head with these bytes: from here on it gets what all get."""
        audience.flush(self._store.position, asyncio.get_running_loop().time())
        if first_bytes and not reader.sink.write(Frame(first_bytes)):
            reader.resync = "lagged"  # it was drained a moment ago: whatever happened, the state puts it right
            reader.stir()
            return
        audience.live.add(reader)

    async def _drained(self, reader: Reader) -> bool:
        """Waits for a slow reader; cuts one that has taken nothing for too long."""
        left = None
        while left is None or reader.sink.waiting < left:
            left = reader.sink.waiting
            with contextlib.suppress(TimeoutError):  # slow is allowed, as long as something is taken
                async with asyncio.timeout(DRAIN_SECONDS):
                    await reader.sink.drained()
                    return not reader.sink.closed
        reader.sink.abort()
        return False

    # coming, going, time

    @property
    def _heartbeat_ms(self) -> int:
        return int(self._heartbeat * 1000)

    def _indexes(self, audience: Audience) -> list[tuple[dict[str, set[Audience]], str]]:
        selection = audience.interest.selection
        return [(self._by_name, name) for name in selection.names] + [(self._by_family, f) for f in selection.families]

    def _enter(self, reader: Reader) -> Audience:
        audience = self._audiences.get(reader.interest)
        if audience is None:
            audience = self._audiences[reader.interest] = Audience(reader.interest, self._store.position)
            for index, name in self._indexes(audience):
                index.setdefault(name, set()).add(audience)
            if reader.interest.selection.everything:
                self._everything.add(audience)
        audience.readers += 1
        self._readers.add(reader)
        self._empty.clear()
        return audience

    def _leave(self, reader: Reader, audience: Audience) -> None:
        audience.live.discard(reader)
        audience.readers -= 1
        self._readers.discard(reader)
        if not self._readers:
            self._empty.set()
        if audience.readers:
            return
        del self._audiences[audience.interest]
        self._dirty.discard(audience)
        self._everything.discard(audience)
        for index, name in self._indexes(audience):
            index[name].discard(audience)
            if not index[name]:
                del index[name]

    def _say_end(self, reader: Reader, reason: EndReason) -> None:
        retry = None if reason == "too_large" else random.randint(frames.RETRY_MS // 2, frames.RETRY_MS * 2)  # noqa: S311
        reader.sink.write(Frame(frames.end(reason, retry)))

    async def run(self) -> None:
        """Follows the store and sends heartbeats, until cancelled."""
        unsubscribe = self._store.bus.subscribe(self)
        try:
            while True:
                await asyncio.sleep(self._heartbeat / TICKS)
                try:
                    self._tick()
                except Exception:
                    log.exception("a heartbeat failed; the next one comes")
        finally:
            unsubscribe()

    def _tick(self) -> None:
        """A heartbeat to every audience that would else be silent for longer than was promised."""
        self._flush()
        now = asyncio.get_running_loop().time()
        due = now - self._heartbeat * (TICKS - 2) / TICKS
        frame = Frame(frames.heartbeat(self._store.position))
        for audience in self._audiences.values():
            if audience.wrote_at <= due:
                audience.flush(self._store.position, now)
                audience.write(frame, now)

    async def close(self) -> None:
        """Ends every stream and waits until they have said so."""
        self._closing = True
        for reader in self._readers:
            reader.end = "shutdown"
            reader.stir()
        if self._readers:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._empty.wait()
            except TimeoutError:
                for reader in tuple(self._readers):
                    reader.sink.abort()
