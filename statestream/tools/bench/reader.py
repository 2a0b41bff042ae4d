"""One stream: which changes of this run came, and whether anything is missing.

A reader keeps its cursor and the versions that it has, but no state.

Invariants: pure, no I/O, no clock: bytes in, numbers out, the same however the bytes are split.
"""

from __future__ import annotations

from collections.abc import Sequence

from statestream.core.errors import TooLarge
from statestream.protocol.sse import MAX_EVENT
from statestream.tools.bench.counters import StreamCounters
from statestream.tools.bench.frame_summary import NOT_OURS, FrameSummary, SummaryCache
from statestream.tools.bench.response_body import ResponseBody


class Reader:
    """`joined` is true after the first state, `end` is set when the stream has ended, with the reason."""

    __slots__ = ("_body", "_cache", "_counters", "_last", "_rest", "_versions", "cursor", "end", "joined")

    def __init__(self, cache: SummaryCache, counters: StreamCounters) -> None:
        self._cache, self._counters = cache, counters
        self._body = ResponseBody()
        self._rest = bytearray()
        self._versions: dict[str, int] = {}
        self._last = NOT_OURS
        self.cursor = 0
        self.joined = False
        self.end: str | None = None

    def feed(self, data: bytes) -> Sequence[int]:
        """The numbers of this run's changes that `data` completes, each once. Raises StreamRefused, TooLarge."""
        body, frames = self._body, None
        at_boundary = not self._rest and body.at_boundary
        if at_boundary:
            frames = self._cache.pieces.get((data, body.chunked))
        if frames is None:
            frames = self._cache.of(self._blocks(body.feed(data)))
            if at_boundary and not self._rest and body.at_boundary and not body.ended:
                self._cache.keep(data, body.chunked, frames)
            if body.ended and self.end is None:
                self.end = "the response ended"
        numbers: list[int] = []
        for frame in frames:
            if frame.event == "state.update":
                self._update(frame, numbers)
            else:
                self._other(frame)
        return numbers

    def _blocks(self, data: bytes) -> list[bytes]:
        """The blocks that `data` completes; the rest is kept."""
        seam = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", seam)
        if end < 0:
            if len(self._rest) > MAX_EVENT:
                raise TooLarge(f"expected events of at most {MAX_EVENT} bytes, got a longer event")
            return []
        whole = bytes(memoryview(self._rest)[:end])
        del self._rest[: end + 2]
        return whole.split(b"\n\n")

    def _update(self, frame: FrameSummary, numbers: list[int]) -> None:
        counters = self._counters
        counters.updates += 1
        name, since, version = frame.changes[0]
        held = self._versions.get(name, 0)
        if version <= held:
            counters.repeated += 1
            return
        if since != held or frame.seq <= self.cursor:
            counters.breaks += 1
        self._versions[name] = version
        if frame.removed:
            del self._versions[name]
        if frame.seq > self.cursor:
            self.cursor = frame.seq
        if frame.number not in (self._last, NOT_OURS):  # an action may change several slices, and counts once
            self._last = frame.number
            numbers.append(frame.number)

    def _other(self, frame: FrameSummary) -> None:
        counters = self._counters
        match frame.event:
            case "state.initial":
                if self.joined:
                    counters.initials += 1
                    counters.resyncs[self.cursor, frame.seq] += 1
                self._versions, self.joined = dict(frame.versions), True
                self.cursor = frame.seq
            case "state.catchup":
                counters.catchups += 1
                counters.resyncs[self.cursor, frame.seq] += 1
                for change in frame.changes:
                    self._caught_up(*change, removed=change[0] in frame.removed)
                self.cursor = max(self.cursor, frame.seq)
            case "heartbeat":
                counters.heartbeats += 1
                self.cursor = max(self.cursor, frame.seq)
            case "stream.end":
                self.end = frame.end

    def _caught_up(self, name: str, since: int, version: int, *, removed: bool) -> None:
        held = self._versions.get(name, 0)
        self._counters.repeated += version <= held
        self._counters.breaks += since != held < version
        self._versions[name] = version
        if removed:
            del self._versions[name]
