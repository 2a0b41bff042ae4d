"""Encoded bytes that are kept for a moment, because many subscribers need the same.

Invariants: bounded in number and in bytes. The oldest go first. Whoever keeps something decides when it is outdated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

V = TypeVar("V")

MOST: Final = 64
MOST_BYTES: Final = 32 << 20


class Kept(Generic[V]):
    """`size` returns the bytes of a value."""

    def __init__(self, size: Callable[[V], int]) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, V] = OrderedDict()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._values)

    def get(self, key: Hashable) -> V | None:
        return self._values.get(key)

    def add(self, key: Hashable, value: V) -> None:
        """The key must be new. A value that is larger than everything that is kept is not kept."""
        if self._size(value) > MOST_BYTES:
            return
        self._values[key] = value
        self._bytes += self._size(value)
        while self._bytes > MOST_BYTES or len(self._values) > MOST:
            _, oldest = self._values.popitem(last=False)
            self._bytes -= self._size(oldest)

    def clear(self) -> None:
        self._values.clear()
        self._bytes = 0
