"""A count of whole numbers that keeps quantiles in little space: a log-linear histogram.

Numbers below 2 * STEPS are counted exactly; above, each doubling is cut into STEPS buckets. A quantile is
the largest number of its bucket: never too small, and too large by less than one part in STEPS.

Invariants: pure. Two histograms that are added up are the histogram of both sets of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Self

BITS: Final = 7
STEPS: Final = 1 << BITS


def bucket(number: int) -> int:
    """The bucket that holds a number of at least 0."""
    shift = number.bit_length() - BITS - 1
    return number if shift <= 0 else (shift << BITS) + (number >> shift)


def largest(at: int) -> int:
    """The largest number that the bucket holds."""
    if at < 2 * STEPS:
        return at
    shift = (at >> BITS) - 1
    return ((at - (shift << BITS) + 1) << shift) - 1


class Histogram:
    """`add` numbers, ask for `quantile(0.99)`. Numbers below 0 count as 0."""

    __slots__ = ("_buckets", "count", "most")

    def __init__(self, pairs: Iterable[tuple[int, int]] = (), most: int = 0) -> None:
        self._buckets: dict[int, int] = dict(pairs)
        self.count = sum(self._buckets.values())
        self.most = most

    def add(self, number: int) -> None:
        number = max(number, 0)
        at = bucket(number)
        self._buckets[at] = self._buckets.get(at, 0) + 1
        self.count += 1
        if number > self.most:
            self.most = number

    def include(self, other: Histogram) -> None:
        for at, times in other._buckets.items():
            self._buckets[at] = self._buckets.get(at, 0) + times
        self.count += other.count
        self.most = max(self.most, other.most)

    def quantile(self, share: float) -> int | None:
        """The smallest number that at least this share of them do not exceed, as far as buckets tell."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for at in sorted(self._buckets):
            seen += self._buckets[at]
            if seen >= rank:
                return min(largest(at), self.most)
        return None

    def pairs(self) -> tuple[list[tuple[int, int]], int]:
        """What `of` makes the same histogram from."""
        return sorted(self._buckets.items()), self.most

    @classmethod
    def of(cls, pairs: tuple[list[tuple[int, int]], int]) -> Self:
        return cls(((at, times) for at, times in pairs[0]), pairs[1])
