"""A value in the rest of a line, with what has just changed highlighted.

Invariants: pure, and as cheap as the line is short: what does not fit is never visited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from statestream.tools.console.text import cells, cut, middle, name, scalar
from statestream.tools.watch.change_marks import Mark

FRESH_SECONDS: Final = 0.4
WARM_SECONDS: Final = 1.0
MIN_TEXT: Final = 12
"""The least columns for a text in a container, if it is that long."""
BEFORE_NEWEST: Final = 4
"""How many elements are shown before the one that changed last."""
Span = tuple[str, str]
"""Safe text, and the name of its style."""
Row = list[Span]


def row_cells(row: Row) -> int:
    return sum(cells(text) for text, _ in row)


def clipped(row: Row, width: int) -> Row:
    """The part of a row that fits; for terminals that are narrower than the layout allows."""
    found, left = Row(), width
    for text, style in row:
        found.append((cut(text, left), style))
        left -= cells(found[-1][0])
    return found if row_cells(row) > width else row


def _start(value: Sequence[Any], mark: Mark | None) -> int:
    """The first element to show of a list that is too long: a few before the newest, as many lists grow at the end."""
    newest = next((step for step in mark.newest_first() if isinstance(step, int)), 0) if mark is not None else 0
    return max(0, min(newest, len(value) - 1) - BEFORE_NEWEST)


class _Full(Exception):
    """There is no room left."""


def hue(mark: Mark | None, now: float, inherited: str = "") -> str:
    """The style of a place by the age of its change, or of a change around it; empty if neither is new."""
    return "" if mark is None else aged(mark.how, now - mark.at) or inherited


def under(style: str) -> str:
    """The style that the content of a place inherits: after a removal, what remains is not new."""
    return "" if style.startswith("removed") else style


def aged(how: str, age: float) -> str:
    return f"{how} fresh" if age < FRESH_SECONDS else f"{how} warm" if age < WARM_SECONDS else ""


def whole(value: Any, mark: Mark | None, room: int, now: float, inherited: str) -> Row | None:
    """The whole value; None if there is no room for it."""
    line = _Line(room, now, None)
    try:
        line.value(value, mark, hue(mark, now, inherited) or inherited)
    except _Full:
        return None
    return line.row


def shortened(value: Any, mark: Mark | None, room: int, now: float, inherited: str) -> Row:
    """As much of the value as fits, with long texts shortened."""
    style = hue(mark, now, inherited) or inherited
    if isinstance(value, str):
        return [(middle(value, room), style or "text")]
    line = _Line(room, now, 0)
    for longest in sorted({max(MIN_TEXT, room // part) for part in (2, 3, 5)} | {MIN_TEXT}, reverse=True):
        line = _Line(room, now, longest)
        with suppress(_Full):
            line.value(value, mark, style)
            break
    return line.row  # if nothing fitted, it ends in `…`


class _Line:
    """`longest` is the limit of a text; None: texts must fit whole."""

    def __init__(self, room: int, now: float, longest: int | None) -> None:
        self.room, self.row = max(0, room), Row()
        self._now, self._longest = now, longest

    def _put(self, text: str, style: str) -> None:
        width = cells(text)
        if width > self.room:
            if not self.room and self.row:
                text, style = self.row.pop()
                text, self.room = f"{text} ", cells(text)
            self.row.append((cut(text, self.room), style))
            raise _Full
        self.row.append((text, style))
        self.room -= width

    def value(self, value: Any, mark: Mark | None, style: str) -> None:
        if isinstance(value, str):
            if self._longest is None and len(value) > 4 * self.room + 8:
                raise _Full  # it cannot fit, however narrow its characters are; so it is not measured
            longest = len(value) * 12 + 2 if self._longest is None else self._longest
            self._put(middle(value, longest), style or "text")
        elif isinstance(value, Mapping):
            self._members(value, mark, style)
        elif isinstance(value, Sequence):
            self._elements(value, mark, style)
        else:
            self._put(scalar(value), style or "scalar")

    def _members(self, value: Mapping[str, Any], mark: Mark | None, style: str) -> None:
        self._put("{", style or "quiet")
        between = ""
        for key, item in value.items():
            below, own = self._below(mark, key, style)
            self._put(between, under(style) or "quiet")
            self._put(f"{name(key)}: ", own or "key")
            self.value(item, below, own)
            between = ", "
        self._put("}", style or "quiet")

    def _elements(self, value: Sequence[Any], mark: Mark | None, style: str) -> None:
        self._put("[", style or "quiet")
        start = 0 if self._longest is None else _start(value, mark)
        if start:
            self._put(f"… {start:,}", under(style) or "quiet")
        for at in range(start, len(value)):
            below, own = self._below(mark, at, style)
            if at:
                self._put(", ", under(style) or "quiet")
            self.value(value[at], below, own)
        self._put("]", style or "quiet")

    def _below(self, mark: Mark | None, step: str | int, style: str) -> tuple[Mark | None, str]:
        below, style = mark.below.get(step) if mark is not None else None, under(style)
        return below, hue(below, self._now, style) or style
