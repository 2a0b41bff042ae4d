"""Readers that follow the same slices with the same detail, and get the same bytes.

An audience gathers the frames of one loop turn and writes them to every live reader in one write of
one bytes object. It is of bounded size, so that writing to it is a bounded part of a turn: more readers
of one interest are several audiences, which share the encoded frames.

Invariants: synchronous. `covered` is the position up to which every live reader has got all that matches;
it moves only where frames are written, so that no id is ever ahead of what was sent.
"""

from __future__ import annotations

from statestream.broadcast.counts import Counts
from statestream.broadcast.live import Live, Send
from statestream.broadcast.reader import Interest, Reader
from statestream.core.change import Position
from statestream.protocol.frames import Frame


class Audience:
    """The readers of one interest: `readers` counts them all, `live` are those that get what comes."""

    __slots__ = ("_counts", "_pending", "covered", "interest", "live", "readers", "slot", "wrote_at")

    def __init__(self, interest: Interest, covered: Position, slot: int, counts: Counts, send: Send) -> None:
        self.interest, self.covered, self.slot, self._counts = interest, covered, slot, counts
        self.live = Live(send)
        self.readers = 0
        self.wrote_at = 0.0
        self._pending: list[bytes] = []

    def add(self, frame: bytes) -> None:
        self._pending.append(frame)

    def flush(self, head: Position, now: float) -> list[Reader]:
        """Writes what has gathered; every live reader has then got everything up to `head`. Gives who fell behind."""
        self.covered = head
        if not self._pending:
            return []
        frame = Frame(b"".join(self._pending) if len(self._pending) > 1 else self._pending[0])
        self._counts.deliveries += len(self._pending) * len(self.live)
        self._pending.clear()
        return self.write(frame, now)

    def write(self, frame: Frame, now: float) -> list[Reader]:
        """Gives who is live no longer: it took the frame and can take no more for now, or its sink is closed."""
        self.wrote_at = now
        self._counts.bytes += len(frame) * len(self.live)
        behind = self.live.write(frame)
        for reader in behind:
            reader.position = self.covered
        return behind

    def drop(self, reader: Reader) -> None:
        """The reader is live no longer: it has got everything up to `covered`, and nothing behind it."""
        if self.live.discard(reader):
            reader.position = self.covered
