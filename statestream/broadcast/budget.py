"""The memory that clients can make the server hold: bodies on their way in, and bytes that their readers do not take.

Each connection has limits of its own. This is the limit for all connections together, because ten thousand small
amounts can also exhaust the memory.

Invariants: every reservation is released exactly once, whatever happens. If many clients wait for the same bytes, these
are one object and are counted once.
"""

from __future__ import annotations

from typing import Final, Self

LIMIT: Final = 256 << 20


class Budget:
    """`limit` and `used` in bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.used = 0
        self._holders: dict[int, int] = {}

    def take(self, size: int) -> bool:
        """Reserves that many bytes and returns True if there is room. If so, `free` them once."""
        if self.used + size > self.limit:
            return False
        self.used += size
        return True

    def free(self, size: int) -> None:
        self.used -= size

    def hold(self, data: bytes) -> bool:
        """Reserves room for these bytes, unless another client already holds them. If so, `release` them once."""
        holders = self._holders.get(id(data), 0)
        if not holders and not self.take(len(data)):
            return False
        self._holders[id(data)] = holders + 1
        return True

    def release(self, data: bytes) -> None:
        holders = self._holders[id(data)] - 1
        if holders:
            self._holders[id(data)] = holders
        else:
            del self._holders[id(data)]
            self.free(len(data))


class Share:
    """The part of a budget that one request uses. `with Share(budget) as share:` releases all of it at the end."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._held: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.free(self._size)
        for data in self._held:
            self._budget.release(data)

    def take(self, size: int) -> bool:
        """See Budget."""
        taken = self._budget.take(size)
        self._size += size if taken else 0
        return taken

    def hold(self, data: bytes) -> bool:
        """See Budget."""
        held = self._budget.hold(data)
        if held:
            self._held.append(data)
        return held
