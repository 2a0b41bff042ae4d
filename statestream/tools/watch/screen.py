"""What `watch` shows, as rows of styled text: the server, the health, the state, the newest changes.

Invariants: pure: equal values make equal rows. There are exactly as many rows as lines, none is wider than the
terminal, and they contain nothing but text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from statestream.tools.console.change_lines import byte_count, cause_text, short_patches, time_of_day
from statestream.tools.console.text import brief, cells, cut, safe
from statestream.tools.watch.activity import LogEntry
from statestream.tools.watch.change_marks import Mark
from statestream.tools.watch.state_tree import state_tree
from statestream.tools.watch.value_line import Row, Span, clipped, row_cells

MIN_VALUE: Final = 40
MIN_COLUMN: Final = 8
LOG_SHARE: Final = 3
"""The log has a third of the lines if the state needs the others."""
HEAD_LINES: Final = 3
MIN_WIDTH_WITH_SIZE: Final = 60


class ScreenContent(Struct, frozen=True, kw_only=True):
    """Everything that a screen is made of."""

    url: str
    slices: str
    state: Mapping[str, Any]
    versions: Mapping[str, int]
    marks: Mark
    log: Iterable[LogEntry]
    health: str
    is_open: bool
    trouble: str
    position: str | None
    opened_with: str
    changes_per_second: float
    bytes_per_second: float
    reconnects: int
    now: float


def screen(content: ScreenContent, width: int, height: int) -> list[Row]:
    """`height` rows of at most `width` columns."""
    lines = max(0, height - HEAD_LINES)
    log = list(content.log)[:lines]
    least = min(len(log), max(lines // LOG_SHARE, 1))
    state = _state(content, width, lines - least)
    log = log[: lines - len(state)]
    gap: list[Row] = [[] for _ in range(lines - len(state) - len(log))]
    rows = [_where(content, width), _health(content, width), *state, *gap, _rule(width), *_entries(log, width)]
    return [clipped(row, width) for row in rows[:height]]


def _state(content: ScreenContent, width: int, lines: int) -> list[Row]:
    if content.position is None:  # so far, no stream has begun
        return [[(cut("the state has not arrived yet", width), "quiet")]][:lines]
    return state_tree(content.state, content.versions, content.marks, content.now, width, lines)


def _where(content: ScreenContent, width: int) -> Row:
    right = "Ctrl-C ends"
    left = f"{content.url}  {content.slices}"
    room = width - cells(right) - 2
    if room < len(right):
        return [(cut(left, width), "where")]
    left = cut(left, room)
    return [(left, "where"), (" " * (width - cells(left) - cells(right)), ""), (right, "quiet")]


def _health(content: ScreenContent, width: int) -> Row:
    opened = f"opened: {safe(content.opened_with)}"
    count = f"{content.reconnects} reconnect{'' if content.reconnects == 1 else 's'}"
    rate = f"{content.changes_per_second:,.1f} changes/s"
    spans: list[Span] = [(f"● {content.health}", content.health)]
    if not content.is_open:  # then silence is not the problem, and a server that is gone is not healthy
        spans = [(f"● lost, reconnecting: {safe(content.trouble)}", "failed")]
    if content.position is None and not content.is_open:
        spans = [("● connecting", "degraded")]
    spans += [
        (safe(content.position or "no position"), "position"),
        (rate, "plain"),
        (opened, "plain"),
        (count, "plain"),
        (f"{byte_count(round(content.bytes_per_second))}/s", "quiet"),
    ]
    return fitting(spans, width)


def _rule(width: int) -> Row:
    title = "── newest changes "
    return [(cut(title + "─" * max(0, width - len(title)), width), "quiet")]


def _entries(log: Sequence[LogEntry], width: int) -> list[Row]:
    changes = [entry for entry in log if entry.slice]
    slices = _column((safe(entry.slice) for entry in changes), width // 6)
    causes = _column((cause_text(entry.cause) for entry in changes), width // 4)
    return [_entry(entry, slices, causes, width) for entry in log]


def _column(texts: Iterable[str], most: int) -> int:
    return max(MIN_COLUMN, min(most, max(map(cells, texts), default=0)))


def _in_column(text: str, width: int) -> str:
    text = cut(text, width)
    return text + " " * (width - cells(text))


def _entry(entry: LogEntry, slices: int, causes: int, width: int) -> Row:
    """The time, the slice, the cause and the effect of a frame; its size at the right."""
    size = f"{byte_count(entry.size):>9}"
    if entry.slice:
        left: list[Span] = [
            (time_of_day(entry.at), "quiet"),
            (_in_column(safe(entry.slice), slices), "slice"),
            (_in_column(cause_text(entry.cause) or "caught up", causes), "cause"),
            (_effect(entry, width - slices - causes - 28), "plain"),
        ]
    else:
        left = [(time_of_day(entry.at) if entry.at else " " * 12, "quiet"), (safe(entry.what), "event")]
    if width < MIN_WIDTH_WITH_SIZE:
        return fitting(left, width)
    row = fitting(left, width - len(size) - 1)
    return [*row, (" " * (width - len(size) - row_cells(row)), ""), (size, "quiet")]


def _effect(entry: LogEntry, room: int) -> str:
    if entry.what == "removed":
        return "removed"
    if entry.what == "value":
        return f"= {brief(entry.value, max(MIN_VALUE, room))}"
    return short_patches(entry.patches, room - 20)


def fitting(spans: Iterable[Span], width: int) -> Row:
    """The spans with two spaces between them, as far as they fit."""
    row, left = Row(), width
    for text, style in spans:
        if row:
            text = f"  {text}"
        if left < 4:
            break
        text = cut(text, left)
        row.append((text, style))
        left -= cells(text)
    return row
