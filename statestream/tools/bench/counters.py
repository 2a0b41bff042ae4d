"""What one worker counts while changes come, and how its counters travel to the measurement to be summed.

Invariants: numbers only. `last` and `delivered` have an entry for each change of the run.
"""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any, Self

from msgspec import Struct, field

from statestream.tools.bench.histogram import Histogram

Positions = Counter[int]
"""How many readers are at a seq."""


class StreamCounters(Struct, kw_only=True):
    """What the readers of a worker received besides the changes of this run. `resyncs` counts pairs of (from, to) seq.

    `repeated` counts updates that came again, `breaks` updates that did not continue the reader's version.
    """

    updates: int = 0
    repeated: int = 0
    breaks: int = 0
    initials: int = 0
    catchups: int = 0
    heartbeats: int = 0
    resyncs: Counter[tuple[int, int]] = field(default_factory=Counter)


class DeliveryCounters(Struct, kw_only=True):
    """The counters of one worker, or of several in sum.

    latency    from the due time of a change until a reader had it, in µs
    last       for each change, when the last reader had it, in µs from its due time
    delivered  for each change, how many readers had it
    lost       why streams ended
    left       where the readers of those streams were
    behind     where the other readers are at the end
    ended_us   when the last delivery came, in µs from the first due time
    busy       the share of a core that the busiest worker used
    """

    latency: Histogram = field(default_factory=Histogram)
    last: array[int]
    delivered: array[int]
    stream: StreamCounters = field(default_factory=StreamCounters)
    bytes: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    left: Positions = field(default_factory=Counter)
    behind: Positions = field(default_factory=Counter)
    ended_us: int = 0
    busy: float = 0.0

    @classmethod
    def empty(cls, changes: int) -> Self:
        return cls(last=array("q", bytes(8 * changes)), delivered=array("q", bytes(8 * changes)))

    def arrived(self, number: int, late_us: int) -> None:
        """A reader received the change, `late_us` after its due time."""
        if number >= len(self.last):
            return  # an id of this run that this run did not make: impossible, and no reason to stop
        self.latency.add(late_us)
        self.delivered[number] += 1
        if late_us > self.last[number]:
            self.last[number] = late_us

    def include(self, other: DeliveryCounters) -> None:
        self.latency.include(other.latency)
        for at, late in enumerate(other.last):
            self.last[at] = max(self.last[at], late)
            self.delivered[at] += other.delivered[at]
        for name in ("updates", "repeated", "breaks", "initials", "catchups", "heartbeats"):
            setattr(self.stream, name, getattr(self.stream, name) + getattr(other.stream, name))
        self.stream.resyncs.update(other.stream.resyncs)
        self.bytes += other.bytes
        self.lost.update(other.lost)
        self.left.update(other.left)
        self.behind.update(other.behind)
        self.ended_us = max(self.ended_us, other.ended_us)
        self.busy = max(self.busy, other.busy)

    def message(self) -> dict[str, Any]:
        """The counters as JSON can express them; `of` parses it."""
        stream = {name: getattr(self.stream, name) for name in self.stream.__struct_fields__ if name != "resyncs"}
        return {
            "latency": self.latency.pairs(),
            "last": self.last.tolist(),
            "delivered": self.delivered.tolist(),
            "stream": stream,
            "resyncs": [[*span, times] for span, times in self.stream.resyncs.items()],
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
            stream=StreamCounters(**message["stream"], resyncs=resyncs),
            bytes=message["bytes"],
            lost=Counter(message["lost"]),
            left=Counter(dict(message["left"])),
            behind=Counter(dict(message["behind"])),
            ended_us=message["ended_us"],
            busy=message["busy"],
        )
