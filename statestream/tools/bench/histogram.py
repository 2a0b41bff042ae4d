"""Quantiles of whole numbers in little memory: a log-linear histogram.

Numbers below 2 * STEPS are counted exactly; above that, each doubling is divided into STEPS buckets. A quantile is the
largest number of its bucket: never too small, and too large by less than one part in STEPS.

Invariants: pure. The sum of two histograms is the histogram of both sets of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Self

BITS: Final = 7
STEPS: Final = 1 << BITS


def bucket(number: int) -> int:
    """The bucket of a number, which must not be negative."""
    shift = number.bit_length() - BITS - 1
    return number if shift <= 0 else (shift << BITS) + (number >> shift)


def largest(at: int) -> int:
    """The largest number in the bucket."""
    if at < 2 * STEPS:
        return at
    shift = (at >> BITS) - 1
    return ((at - (shift << BITS) + 1) << shift) - 1


class Histogram:
    """`add` numbers, then read `quantile(0.99)`. Negative numbers count as 0. `most` is the largest number."""

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
        """The smallest number that at least this share of the numbers do not exceed, as precise as the buckets."""
        rank, seen = max(1, math.ceil(share * self.count)), 0
        for at in sorted(self._buckets):
            seen += self._buckets[at]
            if seen >= rank:
                return min(largest(at), self.most)
        return None

    def pairs(self) -> tuple[list[tuple[int, int]], int]:
        """The histogram as JSON can express it; `of` parses it."""
        return sorted(self._buckets.items()), self.most

    @classmethod
    def of(cls, pairs: tuple[list[tuple[int, int]], int]) -> Self:
        return cls(((at, times) for at, times in pairs[0]), pairs[1])
