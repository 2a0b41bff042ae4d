"""The order in which the workers of a test run begin: each of them with some of the longest tests.

Invariants: xdist gives each worker a part of the tests in their order, all parts of one size; workers that have ended
theirs take from those of others. Every worker computes the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def longest_first(tests: Sequence[T], longest: Sequence[T], workers: int) -> list[T]:
    """The tests, with a share of the longest ones at the beginning of each worker's part."""
    others = [test for test in tests if test not in longest]
    ordered: list[T] = []
    for worker in range(workers):
        share = list(longest[worker::workers])
        size = (len(tests) - len(ordered)) // (workers - worker)
        rest = max(0, size - len(share))
        ordered += share + others[:rest]
        del others[:rest]
    return ordered + others
