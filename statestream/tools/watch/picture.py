"""What `watch` shows, as rows of styled text: where, how it goes, the state, the newest changes.

Invariants: pure: the same values make the same rows. There are exactly as many as there are lines, none is wider than
the terminal, and nothing in them but text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.tools.commands.lines import amount, by, clock, short_patches
from statestream.tools.commands.text import brief, cells, cut, safe
from statestream.tools.watch.inline import Piece, Row, clipped, row_cells
from statestream.tools.watch.marks import Mark
from statestream.tools.watch.news import Entry
from statestream.tools.watch.tree import tree

VALUE: Final = 40
MIN_COLUMN: Final = 8
LOG_SHARE: Final = 3
"""A third of the lines is for the log, if the state needs the rest."""
HEADS: Final = 3


class View(Struct, frozen=True, kw_only=True):
    """All that a picture is made of."""

    url: str
    slices: str
    state: Mapping[str, Any]
    versions: Mapping[str, int]
    marks: Mark
    log: Iterable[Entry]
    health: str
    is_open: bool
    trouble: str
    position: str | None
    opening: str
    changes_per_second: float
    bytes_per_second: float
    reconnects: int
    now: float


def picture(view: View, width: int, height: int) -> list[Row]:
    """`height` rows of at most `width` columns."""
    lines = max(0, height - HEADS)
    log = list(view.log)[:lines]
    least = min(len(log), max(lines // LOG_SHARE, 1))
    state = tree(view.state, view.versions, view.marks, view.now, width, lines - least)
    log = log[: lines - len(state)]
    gap: list[Row] = [[] for _ in range(lines - len(state) - len(log))]
    rows = [_where(view, width), _health(view, width), *state, *gap, _rule(width), *_entries(log, width)]
    return [clipped(row, width) for row in rows[:height]]


def _where(view: View, width: int) -> Row:
    right = "Ctrl-C ends"
    left = f"{view.url}  {view.slices}"
    room = width - cells(right) - 2
    if room < len(right):
        return [(cut(left, width), "where")]
    left = cut(left, room)
    return [(left, "where"), (" " * (width - cells(left) - cells(right)), ""), (right, "quiet")]


def _health(view: View, width: int) -> Row:
    opening = f"opened: {safe(view.opening)}"
    count = f"{view.reconnects} reconnect{'' if view.reconnects == 1 else 's'}"
    rate = f"{view.changes_per_second:,.1f} changes/s"
    pieces: list[Piece] = [(f"● {view.health}", view.health)]
    if not view.is_open:
        pieces.append((f"lost, coming back: {safe(view.trouble)}", "failed"))
    pieces += [
        (safe(view.position or "no position"), "position"),
        (rate, "plain"),
        (opening, "plain"),
        (count, "plain"),
        (f"{amount(round(view.bytes_per_second))}/s", "quiet"),
    ]
    return fitting(pieces, width)


def _rule(width: int) -> Row:
    title = "── newest changes "
    return [(cut(title + "─" * max(0, width - len(title)), width), "quiet")]


def _entries(log: Sequence[Entry], width: int) -> list[Row]:
    changes = [entry for entry in log if entry.slice]
    slices = _column((safe(entry.slice) for entry in changes), width // 6)
    causes = _column((by(entry.cause) for entry in changes), width // 4)
    return [_entry(entry, slices, causes, width) for entry in log]


def _column(texts: Iterable[str], most: int) -> int:
    return max(MIN_COLUMN, min(most, max(map(cells, texts), default=0)))


def _in_column(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - cells(text))


def _entry(entry: Entry, slices: int, causes: int, width: int) -> Row:
    """Time and place, why, what, how long; the size stands at the right."""
    size = f"{amount(entry.size):>9}"
    if entry.slice:
        left: list[Piece] = [
            (clock(entry.at), "quiet"),
            (_in_column(safe(entry.slice), slices), "slice"),
            (_in_column(by(entry.cause) or "caught up", causes), "cause"),
            (_did(entry, width - slices - causes - 28), "plain"),
        ]
    else:
        left = [(clock(entry.at) if entry.at else " " * 12, "quiet"), (safe(entry.what), "event")]
    if width < 60:
        return fitting(left, width)
    row = fitting(left, width - len(size) - 1)
    return [*row, (" " * (width - len(size) - row_cells(row)), ""), (size, "quiet")]


def _did(entry: Entry, room: int) -> str:
    if entry.what == "removed":
        return "removed"
    if entry.what == "value":
        return f"= {brief(entry.value, max(VALUE, room))}"
    return short_patches(entry.patches, room - 20)


def fitting(pieces: Iterable[Piece], width: int) -> Row:
    """The pieces with two spaces between them, as far as there is room."""
    row, left = Row(), width
    for text, style in pieces:
        if row:
            text = f"  {text}"
        if left < 4:
            break
        text = cut(text, left)
        row.append((text, style))
        left -= cells(text)
    return row
