"""An open stream of the server under test, and the replica that its frames are applied to.

Invariants: every frame is applied as soon as it is read, so a check cannot overlook a rule that a frame breaks.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from statestream.tools.conformance.strict_replica import ParsedFrame, StrictReplica, seq_of
from statestream.tools.conformance.violation import Violation, expect

PATIENCE: Final = 10.0
READ_BYTES: Final = 1 << 16


class StreamUnderTest:
    """`frames` has all frames so far."""

    def __init__(self, response: aiohttp.ClientResponse, replica: StrictReplica) -> None:
        self.response, self.replica = response, replica
        self.frames: list[ParsedFrame] = []
        self._rest = b""

    async def next(self, seconds: float = PATIENCE) -> ParsedFrame:
        """The next frame, applied. Raises Violation if none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                while (frame := self._apply_next()) is None:
                    await self._read(READ_BYTES)
        except TimeoutError:
            raise Violation(f"expected a frame within {seconds:.1f} s, got none") from None
        return frame

    async def first(self, event: str = "state.initial") -> ParsedFrame:
        """The first frame, which must be `event`."""
        frame = await self.next()
        reason = frame.data.get("reason", "no reason")
        expect(frame.event == event, f"expected {event} as the first frame, got {frame.event}: {reason}")
        return frame

    async def until(self, position: str) -> None:
        """Reads until the replica is at the position or after it."""
        while self.replica.position is None or seq_of(self.replica.position) < seq_of(position):
            frame = await self.next()
            expect(frame.event != "stream.end", f"expected the changes up to {position}, got stream.end")

    async def some(self, size: int) -> None:
        """Reads that many bytes, wherever they end, and applies the frames that are complete."""
        while size > 0:
            try:
                async with asyncio.timeout(PATIENCE):
                    size -= await self._read(size)
            except TimeoutError:
                return
            while self._apply_next() is not None:
                pass

    async def _read(self, size: int) -> int:
        try:
            data = await self.response.content.read(size)
        except (aiohttp.ClientError, OSError) as error:
            raise Violation(f"expected the stream to continue, but it broke: {error!r}") from None
        if not data:
            raise Violation("expected the stream to continue, but it ended")
        self._rest += data
        return len(data)

    def _apply_next(self) -> ParsedFrame | None:
        """Applies the next complete frame; returns None if there is none."""
        while b"\n\n" in self._rest:
            block, self._rest = self._rest.split(b"\n\n", 1)
            frame = ParsedFrame.parse(block)
            if frame is not None:
                self.replica.apply(frame)
                self.frames.append(frame)
                return frame
        return None
