"""The frames that bring a reader to head: the state, or what it has missed.

Ten thousand that join together, or come back with the same cursor, get the same bytes: the newest of what was
made at this head are kept for a moment.

Invariants: synchronous, and the store's head must not move between making a frame and writing it.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from statestream.broadcast.reader import Reader
from statestream.broadcast.resume import Backlog, versions_at
from statestream.core.change import Position
from statestream.core.errors import TooLarge
from statestream.protocol import frames
from statestream.protocol.frames import Frame, Reason
from statestream.store.store import Store

SINGLES: Final = 64
SINGLES_BYTES: Final = 64 << 10
KEPT: Final = 64
KEPT_BYTES: Final = 32 << 20
KEPT_SECONDS: Final = 1.0
NOTHING: Final = Frame(b"")


class Openings:
    """For readers of one store. `heartbeat` in ms, as the frames say it."""

    def __init__(self, store: Store, heartbeat: int) -> None:
        self._store, self._heartbeat = store, heartbeat
        self._made: OrderedDict[Hashable, Frame] = OrderedDict()
        self._bytes = 0
        self._at: Position | None = None
        self._since = 0.0

    def known(self, reader: Reader) -> Frame | None:
        """What another one with the same cursor was given, at this head."""
        self._forget_the_past()
        return self._made.get(self._key(reader))

    def initial(self, reader: Reader, reason: Reason) -> Frame:
        """The state. Raises TooLarge."""
        self._forget_the_past()
        key = (reader.interest, reason, reader.first)
        return self._made.get(key) or self._keep(key, self._initial(reader, reason))

    def continued(self, reader: Reader, backlog: Backlog) -> Frame:
        """What the reader has missed, or the state where that is shorter."""
        return self.known(reader) or self._keep(self._key(reader), self._continued(reader, backlog))

    def _key(self, reader: Reader) -> Hashable:
        return reader.interest, reader.position, reader.first, reader.every

    def _forget_the_past(self) -> None:
        """What was made is good until the next change; its time of day, for a moment."""
        now = time.monotonic()
        if self._at is not self._store.position or now > self._since + KEPT_SECONDS:
            self._made.clear()
            self._bytes = 0
            self._at, self._since = self._store.position, now

    def _keep(self, key: Hashable, raw: bytes) -> Frame:
        if not raw:
            return NOTHING
        frame = Frame(raw)
        if len(raw) <= KEPT_BYTES:
            self._made[key] = frame
            self._bytes += len(raw)
        while self._bytes > KEPT_BYTES or len(self._made) > KEPT:
            _, oldest = self._made.popitem(last=False)
            self._bytes -= len(oldest)
        return frame

    def _initial(self, reader: Reader, reason: Reason) -> bytes:
        slices = reader.interest.selection.snapshot(self._store.slices)
        retry = frames.RETRY_MS if reader.first else None
        return frames.initial(reason, self._store.position, slices, self._heartbeat, retry=retry)

    def _continued(self, reader: Reader, backlog: Backlog) -> bytes:
        selection = reader.interest.selection
        out: list[bytes] = []
        if reader.first:
            versions = versions_at(self._store.slices, selection, backlog)
            out.append(frames.resumed(reader.position, versions, self._heartbeat))
        few = len(backlog) <= SINGLES and sum(len(change.data) for change in backlog) <= SINGLES_BYTES
        if few or reader.every:
            out.extend(frames.update(change, full=reader.interest.full) for change in backlog)
            return b"".join(out)
        items = frames.coalesce(backlog, self._store.slices)
        if sum(map(len, items)) > sum(state.measured for _, state in selection.of(self._store.slices)):
            with contextlib.suppress(TooLarge):  # where the state may not be sent at once, the catch-up is
                return self._initial(reader, "lagged")
        out.append(frames.catchup(self._store.position, items))
        return b"".join(out)
