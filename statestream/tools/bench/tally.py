"""What one worker counts while changes come, and how it crosses the pipe to be added to the others'.

Invariants: numbers only. `last` and `delivered` have a place for each change of the run: when the last reader of
this worker had it (µs from when it was due), and how many had it.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, Self

from msgspec import Struct, field

from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.reader import Counts

Places = Counter[int]
"""How many readers stand at a seq."""


class Tally(Struct, kw_only=True):
    """One worker's, or several that were added up. `lost`: why streams ended; `left`: where those readers were;
    `behind`: where the others are at the end. `busy` is the share of a core that the busiest worker used.
    """

    latency: Histogram = field(default_factory=Histogram)
    last: array[int]
    delivered: array[int]
    counts: Counts = field(default_factory=Counts)
    bytes: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    left: Places = field(default_factory=Counter)
    behind: Places = field(default_factory=Counter)
    ended_us: int = 0
    busy: float = 0.0

    @classmethod
    def empty(cls, changes: int) -> Self:
        return cls(last=array("q", bytes(8 * changes)), delivered=array("q", bytes(8 * changes)))

    def arrived(self, number: int, late_us: int) -> None:
        """A reader has got the change, so long after it was due."""
        if number >= len(self.last):
            return  # of another run with our name: cannot be, and must not stop us
        self.latency.add(late_us)
        self.delivered[number] += 1
        if late_us > self.last[number]:
            self.last[number] = late_us

    def include(self, other: Tally) -> None:
        self.latency.include(other.latency)
        for at, late in enumerate(other.last):
            self.last[at] = max(self.last[at], late)
            self.delivered[at] += other.delivered[at]
        for name in ("updates", "repeated", "breaks", "initials", "catchups", "heartbeats"):
            setattr(self.counts, name, getattr(self.counts, name) + getattr(other.counts, name))
        self.counts.resyncs.update(other.counts.resyncs)
        self.bytes += other.bytes
        self.lost.update(other.lost)
        self.left.update(other.left)
        self.behind.update(other.behind)
        self.ended_us = max(self.ended_us, other.ended_us)
        self.busy = max(self.busy, other.busy)

    def message(self) -> dict[str, Any]:
        """As JSON has it; `of` reads it."""
        counts = {name: getattr(self.counts, name) for name in self.counts.__struct_fields__ if name != "resyncs"}
        return {
            "latency": self.latency.pairs(),
            "last": self.last.tolist(),
            "delivered": self.delivered.tolist(),
            "counts": counts,
            "resyncs": [[*span, times] for span, times in self.counts.resyncs.items()],
            "bytes": self.bytes,
            "lost": dict(self.lost),
            "left": list(self.left.items()),
            "behind": list(self.behind.items()),
            "ended_us": self.ended_us,
            "busy": self.busy,
        }

    @classmethod
    def of(cls, message: dict[str, Any]) -> Self:
        resyncs = Counter({(since, to): times for since, to, times in message["resyncs"]})
        return cls(
            latency=Histogram.of(message["latency"]),
            last=array("q", message["last"]),
            delivered=array("q", message["delivered"]),
            counts=Counts(**message["counts"], resyncs=resyncs),
            bytes=message["bytes"],
            lost=Counter(message["lost"]),
            left=Counter(dict(message["left"])),
            behind=Counter(dict(message["behind"])),
            ended_us=message["ended_us"],
            busy=message["busy"],
        )
