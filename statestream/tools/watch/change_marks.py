"""Where in the state something has changed, and when: a tree of the places that patches named.

Invariants: pure. A mark moves with its element: an insertion or removal before it in the list shifts it. The number of
marks is bounded: the places that changed longest ago are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from statestream.core.patch import Op

How = Literal["added", "changed", "removed"]
NEVER: Final = float("-inf")
MAX_KEPT: Final = 2_048
"""How many changed places are kept when others are forgotten, which happens after as many new marks."""


class Mark:
    """A place: when it was changed itself (`at`, `how`), and when anything at or below it was (`newest`)."""

    __slots__ = ("at", "below", "how", "newest")

    def __init__(self) -> None:
        self.at = self.newest = NEVER
        self.how: How = "changed"
        self.below: dict[str | int, Mark] = {}

    def newest_first(self) -> list[str | int]:
        """The places directly below, newest first."""
        return sorted(self.below, key=lambda step: self.below[step].newest, reverse=True)

    def times(self) -> Iterator[float]:
        """The times of all changes, here and below."""
        if self.at > NEVER:
            yield self.at
        for mark in self.below.values():
            yield from mark.times()

    def forget(self, before: float) -> None:
        """Forgets everything that was not changed since, here and below."""
        self.below = {step: mark for step, mark in self.below.items() if mark.newest >= before}
        for mark in self.below.values():
            mark.forget(before)

    def shift(self, at: int, by: int) -> None:
        """Moves the elements of a list from `at` on."""
        if any(isinstance(step, int) and step >= at for step in self.below):
            self.below = {
                step + by if isinstance(step, int) and step >= at else step: mark for step, mark in self.below.items()
            }


class Marks:
    """The mark of the root, below which are the slices by name."""

    def __init__(self) -> None:
        self.root = Mark()
        self._room = 2 * MAX_KEPT

    def touch(self, path: Sequence[str | int], how: How, now: float) -> None:
        mark = self.root
        mark.newest = now
        for step in path:
            below = mark.below.get(step)
            if below is None:
                below = mark.below[step] = Mark()
                self._room -= 1
            mark = below
            mark.newest = now
        mark.at, mark.how = now, how
        if how != "removed":
            mark.below = {}  # there is another value now
        if self._room < 0:
            self._forget()

    def drop(self, path: Sequence[str | int]) -> None:
        """Forgets a place that no longer exists."""
        mark: Mark | None = self.root
        for step in path[:-1]:
            mark = mark.below.get(step) if mark else None
        if mark is not None:
            mark.below.pop(path[-1], None)

    def patched(self, name: str, value: Any, patches: Sequence[Op], now: float) -> None:
        """Marks what `patches` did to the slice `name`, which has become `value`."""
        for patch in patches:
            steps = _steps(patch["path"], value)
            if steps is None:
                self.touch([name], "changed", now)
            else:
                self._operation([name, *steps], patch["op"], now)

    def _operation(self, path: list[str | int], op: str, now: float) -> None:
        last = path[-1]
        if isinstance(last, int) and op != "replace":
            self._shift(path[:-1], last, op)
        elif op == "remove":
            self.drop(path)
        if op == "remove":
            self.touch(path[:-1], "removed", now)
        else:
            self.touch(path, "added" if op == "add" else "changed", now)

    def _shift(self, path: Sequence[str | int], at: int, op: str) -> None:
        mark: Mark | None = self.root
        for step in path:
            mark = mark.below.get(step) if mark else None
        if mark is None:
            return
        if op == "remove":
            mark.below.pop(at, None)
            mark.shift(at + 1, -1)
        else:
            mark.shift(at, 1)

    def _forget(self) -> None:
        times = sorted(self.root.times(), reverse=True)
        self.root.forget(times[min(MAX_KEPT, len(times)) - 1])
        self._room = MAX_KEPT


def _steps(pointer: str, value: Any) -> list[str | int] | None:
    """The segments of a pointer, as numbers for lists; None if `value`, which is newer, has no such place."""
    steps: list[str | int] = []
    for segment in pointer.split("/")[1:]:
        key = segment.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and key.isascii() and key.isdigit():
            steps.append(int(key))
            value = value[int(key)] if int(key) < len(value) else None
        elif isinstance(value, dict):
            steps.append(key)
            value = value.get(key)
        else:
            return None
    return steps
