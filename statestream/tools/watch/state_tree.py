"""The state in a given number of lines: what changed last is preferred, the rest is counted.

Invariants: pure. What is not shown is not visited, beyond the size of containers. How many lines a value receives
depends on sizes only, so that the layout stays the same while values change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from statestream.tools.console.text import cells, cut, name, safe
from statestream.tools.watch.change_marks import Mark
from statestream.tools.watch.value_line import Row, aged, clipped, hue, shortened, under, whole

INDENT: Final = "  "
MIN_WIDTH: Final = 24
"""The least columns for the content of a container that is shown in several lines."""
Step = str | int


def state_tree(
    state: Mapping[str, Any], versions: Mapping[str, int], root: Mark, now: float, width: int, lines: int
) -> list[Row]:
    """At most `lines` rows of at most `width` columns."""
    if lines < 1:
        return []
    if not state:
        return [[(cut("none of the selected slices exists", width), "quiet")]]
    layout = _TreeLayout(versions, now, width)
    return [clipped(row, width) for row in layout.children(state, root, "", 0, lines)]


def chosen(count: int, newest_first: Iterable[int], lines: int) -> list[int]:
    """Which of `count` elements are shown in `lines` lines. If some are not, one line is left to count them.

    The ones that changed last, then the neighbours of the newest; without changes, the first ones.
    """
    if count <= lines:
        return list(range(count))
    room = lines - 1
    newest = [at for at in newest_first if 0 <= at < count][:room]
    found = set(newest)
    before = after = newest[0] if newest else -1
    while len(found) < room:
        before, after = before - 1, after + 1
        for at in (before, after):
            if 0 <= at < count and len(found) < room:
                found.add(at)
    return sorted(found)


def shares(needs: Sequence[int], lines: int) -> list[int]:
    """Divides `lines` lines by need: at least one for each, and the rest in equal parts."""
    found = [1] * len(needs)
    left = lines - len(needs)
    hungry = [at for at, need in enumerate(needs) if need > 1]
    while left > 0 and hungry:
        each = max(1, left // len(hungry))
        for at in hungry:
            more = min(each, needs[at] - found[at], left)
            found[at] += more
            left -= more
        hungry = [at for at in hungry if found[at] < needs[at]]
    return found


class _TreeLayout:
    """The tree of one screen."""

    def __init__(self, versions: Mapping[str, int], now: float, width: int) -> None:
        self._versions, self._now, self._width = versions, now, width

    def children(self, value: Any, mark: Mark | None, style: str, depth: int, lines: int) -> list[Row]:
        """The members of a container in at most `lines` rows, which must be at least one."""
        steps = _steps(value)
        shown = [steps[at] for at in chosen(len(steps), _newest(steps, mark, lines), lines)]
        hidden = len(steps) - len(shown)
        room = lines - (1 if hidden else 0)
        needs = [self._need(value[step], self._label(step, depth), depth, room - len(shown) + 1) for step in shown]
        rows: list[Row] = []
        for step, share in zip(shown, shares(needs, room), strict=True):
            below = mark.below.get(step) if mark is not None else None
            rows += self._block(step, value[step], below, style, depth, share)
        return [*rows, self._more(hidden, bool(shown), depth, mark, shown)] if hidden else rows

    def _block(self, step: Step, value: Any, mark: Mark | None, style: str, depth: int, lines: int) -> list[Row]:
        style = hue(mark, self._now, style) or style
        label = self._label(step, depth)
        head: Row = [(INDENT * depth, ""), (label, style or ("slice" if depth == 0 else "key"))]
        room = self._width - len(INDENT) * depth - cells(label)
        if (short := whole(value, mark, room, self._now, style)) is not None:
            return [head + short]
        if not self._opens(value, depth) or lines < 1 + min(len(value), 2):  # a line with `… 9` alone is of no use
            within = "" if mark is None else aged("changed", self._now - mark.newest)
            head[1] = (label, style or within or head[1][1])
            return [head + shortened(value, mark, room, self._now, style)]
        size = f"[{len(value):,}]" if isinstance(value, list) else f"{{{len(value):,}}}"
        version = f"  version {self._versions.get(step, 0)}" if depth == 0 and isinstance(step, str) else ""
        head.append((cut(size + version, room), style or "quiet"))
        return [head, *self.children(value, mark, under(style), depth + 1, lines - 1)]

    def _opens(self, value: Any, depth: int) -> bool:
        """Whether its members may have lines of their own."""
        return isinstance(value, (dict, list)) and self._width - len(INDENT) * (depth + 1) >= MIN_WIDTH

    def _need(self, value: Any, label: str, depth: int, limit: int) -> int:
        """How many lines would show all of it, counted up to `limit`."""
        if limit < 2 or not self._opens(value, depth):
            return 1
        room = self._width - len(INDENT) * depth - cells(label)
        if whole(value, None, room, self._now, "") is not None:
            return 1
        need = 1 + len(value)
        for step in _steps(value):
            if need >= limit:
                return limit
            need += self._need(value[step], self._label(step, depth + 1), depth + 1, limit - need + 1) - 1
        return min(need, limit)

    def _label(self, step: Step, depth: int) -> str:
        text = f"{step:,}: " if isinstance(step, int) else f"{safe(step) if depth == 0 else name(step)}: "
        return cut(text, max(8, self._width // 3))

    def _more(self, hidden: int, some: bool, depth: int, mark: Mark | None, shown: Sequence[Step]) -> Row:
        unseen = [below.newest for step, below in mark.below.items() if step not in shown] if mark else []
        style = aged("changed", self._now - max(unseen)) if unseen else ""
        text = f"… {hidden:,} more" if some else f"… {hidden:,}"
        return [(INDENT * depth, ""), (cut(text, self._width - len(INDENT) * depth), style or "quiet")]


def _steps(value: Any) -> Sequence[Step]:
    return range(len(value)) if isinstance(value, list) else list(value)


def _newest(steps: Sequence[Step], mark: Mark | None, lines: int) -> list[int]:
    """The indices of the members that changed last, newest first; none if all are shown anyway."""
    if mark is None or not mark.below or len(steps) <= lines:
        return []
    newest = mark.newest_first()
    if isinstance(steps, range):
        return [step for step in newest if isinstance(step, int) and step in steps][:lines]
    places = {step: at for at, step in enumerate(steps)}
    return [places[step] for step in newest if step in places][:lines]
