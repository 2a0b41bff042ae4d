"""Readers that follow the same slices with the same detail, and get the same bytes.

An audience gathers the frames of one loop turn and writes them to every live reader in one write of
one bytes object. A reader is live, or behind: a reader whose sink refuses leaves the live set with
the position up to which it has got everything, and is woken to catch up by itself.

Law: synchronous. `covered` is the position up to which every live reader has got all that matches;
it moves only where frames are written, so that no id is ever ahead of what was sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from statestream.broadcast.frames import EndReason, Frame, Reason
from statestream.broadcast.selection import Selection
from statestream.broadcast.sink import Sink
from statestream.change import START, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Interest:
    """What makes two readers the same to us: the slices, and whether causes carry the payload."""

    selection: Selection
    full: bool


class Reader:
    """One open stream. `position` is meaningful only while it is behind.

    `every` is for readers that want each change by itself, never squashed, however many they have missed.
    """

    __slots__ = ("_stirred", "end", "every", "interest", "position", "resync", "sink")

    def __init__(self, sink: Sink, interest: Interest, *, every: bool = False) -> None:
        self.sink, self.interest, self.every = sink, interest, every
        self.position = START
        self.resync: Reason | None = None
        self.end: EndReason | None = None
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Wakes the reader's own coroutine: it is behind, or its stream ends."""
        self._stirred.set()

    async def stirred(self) -> None:
        await self._stirred.wait()
        self._stirred.clear()


class Audience:
    """The live readers of one interest."""

    def __init__(self, interest: Interest, covered: Position) -> None:
        self.interest = interest
        self.live: set[Reader] = set()
        self.readers = 0
        self.covered = covered
        self.wrote_at = 0.0
        self._pending: list[bytes] = []

    def add(self, frame: bytes) -> None:
        self._pending.append(frame)

    def flush(self, head: Position, now: float) -> None:
        """Writes what has gathered; every live reader has then got everything up to `head`."""
        if self._pending:
            frame = Frame(b"".join(self._pending) if len(self._pending) > 1 else self._pending[0])
            self._pending.clear()
            self.write(frame, now)
        self.covered = head

    def write(self, frame: Frame, now: float) -> None:
        self.wrote_at = now
        refused = [reader for reader in self.live if not reader.sink.write(frame)]
        for reader in refused:
            self.drop(reader)
            reader.stir()

    def drop(self, reader: Reader) -> None:
        """The reader is live no longer: it has got everything up to `covered`, and nothing behind it."""
        self.live.discard(reader)
        reader.position = self.covered
