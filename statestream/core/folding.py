"""Folding: how a run of changes becomes one.

A run is changes of one slice that follow each other and came of gradual actions. Once it is folded, its last change is
the **summary**: it assigns everything that the run has touched, so it leads to the same state from wherever in the run
a replica is. The others are **folded**: they keep their position, their slice and their `from_version`, so that the
numbers have no gap and each position remains a cursor, and they do nothing.

Readers do not see folded changes. To them, the summary continues the version that they hold, whatever that is.

Invariants: pure. A summary replaces its change before the first of the others is folded, and these are folded from the
newest to the oldest. So a history that is read in order is right at every moment: what a folded change lacks is in a
later change that has been written before. The reverse does not hold: changes as they were before folding must never
follow changes that were read after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

import orjson
from msgspec import Struct
from msgspec.structs import replace

from statestream.core.change import FOLDED, Cause, Change, Position
from statestream.core.erasing import NOTHING
from statestream.core.values import encode, escape

_GONE: Final = Cause(type=FOLDED, id="", actor=None, payload=NOTHING)
Path = tuple[str, ...]


def folded(change: Change) -> Change:
    """What remains of a change that is not the last one of its run."""
    return replace(change, kind="patches", data=b"[]", cause=_GONE)


class Run(Struct, kw_only=True):
    """Changes that follow each other, as many as `count`, up to `last`.

    `since` is a position before the first one, `before` the version of the slice there. `bytes` is what they hold, and
    `path` leads to a place that exists throughout the run, and at or below which everything is that they touch.
    """

    since: Position
    before: int
    last: Change
    count: int
    bytes: int
    path: Path

    @classmethod
    def of(cls, change: Change, since: Position) -> Run:
        size, path = len(change.data), _touched(change)
        return cls(since=since, before=change.from_version, last=change, count=1, bytes=size, path=path)

    def add(self, change: Change) -> None:
        self.last, self.count, self.bytes = change, self.count + 1, self.bytes + len(change.data)
        self.path = _common(self.path, _touched(change))

    def summary(self, value: Any) -> Change:
        """What is to replace the last change, given the value that it leads to."""
        if not self.path:
            return replace(self.last, kind="value", data=encode(value))
        for token in self.path:
            value = value[int(token)] if isinstance(value, list) else value[token]
        where = "".join(f"/{escape(token)}" for token in self.path)
        return replace(self.last, data=encode([{"op": "replace", "path": where, "value": value}]))


def is_step(change: Change, gradual: Collection[str]) -> bool:
    """Whether a change can be part of a run."""
    own = change.cause.type in gradual and change.cause.type.partition("/")[0] == change.slice.partition("/")[0]
    return own and change.from_version > 0 and change.kind != "removed"


def _touched(change: Change) -> Path:
    """The deepest place at or below which everything is that a change touches, and that exists before and after it."""
    path: Path | None = None
    for operation in orjson.loads(change.data) if change.kind == "patches" else ():
        place = tuple(segment.replace("~1", "/").replace("~0", "~") for segment in operation["path"].split("/")[1:])
        place = place if operation["op"] == "replace" else place[:-1]
        path = place if path is None else _common(path, place)
    return path or ()


def _common(one: Path, other: Path) -> Path:
    for at, pair in enumerate(zip(one, other, strict=False)):
        if pair[0] != pair[1]:
            return one[:at]
    return min(one, other, key=len)


class Merged:
    """Successive changes as readers see them: without those that are folded. Give it all pages of one reading."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        """The slices whose summary is still to come, and the versions that readers hold of them."""

    def __call__(self, changes: Iterable[Change]) -> list[Change]:
        every = list(changes)
        if not self.open and all(change.cause.type != FOLDED for change in every):  # nearly always
            return every
        seen = []
        for change in every:
            if change.is_folded:
                self.open.setdefault(change.slice, change.from_version)
                continue
            held = self.open.pop(change.slice, None) if self.open else None
            seen.append(change if held is None else replace(change, from_version=held))
        return seen
