"""Histograms: how often something took how long, for monitoring.

Invariants: an observation costs less than a microsecond and never allocates. The numbers only grow. The bounds are
fixed, because a monitoring system adds up the histograms of many processes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

SECONDS: Final = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bounds for work of the server itself: from the call of a handler to a journal that hardly answers."""


class Histogram:
    """`counts` has the observations up to each of the `bounds` and above the one before, and last those above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Each bound as text, with the number of observations up to it; `+Inf` comes last."""
        names = [*(f"{bound:.10g}" for bound in self.bounds), "+Inf"]
        return zip(names, accumulate(self.counts), strict=True)
