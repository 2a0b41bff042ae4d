"""Where in the state something has changed, and when: a tree of the places that patches named.

Invariants: pure. Places move with the elements of their list: what is inserted or removed before one shifts it. What is
remembered is bounded: the places that changed longest ago are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from statestream.core.patch import Op

How = Literal["added", "changed", "removed"]
NEVER: Final = float("-inf")
MOST: Final = 2_048
"""Changed places that are remembered when some are forgotten, which is done once as many marks have been made anew."""


class Mark:
    """A place: when itself was changed (`at`, `how`), and when the newest of it and of all below was."""

    __slots__ = ("at", "below", "how", "newest")

    def __init__(self) -> None:
        self.at = self.newest = NEVER
        self.how: How = "changed"
        self.below: dict[str | int, Mark] = {}

    def newest_first(self) -> list[str | int]:
        """The places right below, the one that changed last first."""
        return sorted(self.below, key=lambda step: self.below[step].newest, reverse=True)

    def times(self) -> Iterator[float]:
        """When each place that was changed itself was, here and below."""
        if self.at > NEVER:
            yield self.at
        for mark in self.below.values():
            yield from mark.times()

    def forget(self, before: float) -> None:
        """Whatever was not changed since, here and below."""
        self.below = {step: mark for step, mark in self.below.items() if mark.newest >= before}
        for mark in self.below.values():
            mark.forget(before)

    def shift(self, at: int, by: int) -> None:
        """The elements of a list from `at` on have moved."""
        if any(isinstance(step, int) and step >= at for step in self.below):
            self.below = {
                step + by if isinstance(step, int) and step >= at else step: mark for step, mark in self.below.items()
            }


class Marks:
    """The root's mark, and how new ones are made. Below the root stand the slices, by their names."""

    def __init__(self) -> None:
        self.root = Mark()
        self._room = 2 * MOST

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
            mark.below = {}  # what is there now is another value
        if self._room < 0:
            self._forget()

    def drop(self, path: Sequence[str | int]) -> None:
        """What was there is gone."""
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
        self.root.forget(times[min(MOST, len(times)) - 1])
        self._room = MOST


def _steps(pointer: str, value: Any) -> list[str | int] | None:
    """A pointer's segments, numbers where `value` has a list there; None where `value` has nothing like it any more."""
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
