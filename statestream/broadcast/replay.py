"""For readers that want every single change: `after=earliest`.

Invariants: a page at a time, whatever the history's length; each page is taken by the reader before the
next is read. The hub brings the reader to head from where this leaves it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from statestream.broadcast.reader import Reader
from statestream.broadcast.resume import page_after
from statestream.core.change import Position, Snapshot
from statestream.core.errors import Expired, Unavailable
from statestream.protocol import frames
from statestream.protocol.frames import Frame
from statestream.store.store import Store

EARLIEST: Final = "earliest"
TRIES: Final = 5

Drained = Callable[[Reader], Awaitable[bool]]


class Replay:
    """One reader's way from its position to what is in memory. `drained` waits until it has taken what was written."""

    def __init__(self, store: Store, reader: Reader, drained: Drained, heartbeat: int) -> None:
        self._store, self._reader, self._drained, self._heartbeat = store, reader, drained, heartbeat

    async def run(self, *, rewind: bool) -> None:
        """Writes every change that is no longer in memory.

        `rewind` begins at the oldest position that is kept, with the state there. Raises Forked, Expired,
        TooLarge, and Unavailable where the journal or the reader is away.
        """
        reader = self._reader
        if rewind:
            await self._begin(rewind=True)
        while not self._in_memory() and reader.resync is None:
            if reader.first:
                await self._begin(rewind=False)
            page = await page_after(self._store, reader.position)
            kept = reader.interest.selection.among(page)
            updates = b"".join(frames.update(change, full=reader.interest.full) for change in kept)
            await self._write(updates or frames.heartbeat(page[-1].position))
            reader.position = page[-1].position

    def _in_memory(self) -> bool:
        position = self._reader.position
        return position.seq >= self._store.position.seq or self._store.bus.reaches(position)

    async def _begin(self, *, rewind: bool) -> None:
        reader, selection = self._reader, self._reader.interest.selection
        snapshot = await self._earliest() if rewind else await self._at(reader.position)
        if rewind:
            reader.position = at = snapshot.position
            slices = selection.snapshot(snapshot.slices)
            frame = frames.initial("start", at, slices, self._heartbeat, retry=frames.RETRY_MS)
        else:
            versions = {name: state.version for name, state in snapshot.slices.items()}
            frame = frames.resumed(reader.position, versions, self._heartbeat)
        reader.first = False
        await self._write(frame)

    async def _at(self, position: Position) -> Snapshot:
        return await self._store.journal.load(position, self._reader.interest.selection.matches)

    async def _earliest(self) -> Snapshot:
        """The oldest state that is kept. It may be trimmed between asking where it is and reading it."""
        for _ in range(TRIES):
            with contextlib.suppress(Expired):
                return await self._at(await self._store.journal.earliest())
        raise Unavailable("expected to read the oldest state, it was trimmed again and again; come back")

    async def _write(self, data: bytes) -> None:
        """One write, and the wait until the reader has taken it: the hub goes on without one."""
        if not data:
            return
        self._reader.sink.write(Frame(data))
        if not await self._drained(self._reader):
            raise Unavailable("expected a reader that takes its frames, it has gone")
