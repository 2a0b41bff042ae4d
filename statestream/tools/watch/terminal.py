"""Rows on a terminal: only those that differ are written, in one piece, and the terminal is restored in the end.

Invariants: it does not know what is shown. Whatever happens in between, the screen, the cursor, the wrapping of lines
and the echo of keys are restored as they were.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from rich.text import Text

from statestream.tools.watch.value_line import Row, row_cells

STYLES: Final = {
    "": "",
    "plain": "",
    "quiet": "bright_black",
    "where": "bold",
    "slice": "bold cyan",
    "key": "cyan",
    "text": "",
    "scalar": "magenta",
    "cause": "blue",
    "event": "yellow",
    "position": "bold",
    "healthy": "bold green",
    "degraded": "bold yellow",
    "failed": "bold red",
    "added fresh": "reverse green",
    "added warm": "green",
    "changed fresh": "reverse yellow",
    "changed warm": "yellow",
    "removed fresh": "reverse red",
    "removed warm": "red",
}
_OPEN: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_CLOSE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_BEGIN: Final = "\x1b[?2026h"
_END: Final = "\x1b[?2026l"
"""A terminal that supports these shows everything between them at once."""
_COLOR_SYSTEMS: Final = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def as_text(rows: list[Row]) -> Text:
    """The rows as rich's text, for an image and for tests."""
    text = Text(no_wrap=True, end="")
    for at, row in enumerate(rows):
        text.append("\n" if at else "")
        for piece, style in row:
            text.append(piece, STYLES[style])
    return text


class Terminal:
    """The screen of stdout, inside `with terminal.shown():`."""

    def __init__(self) -> None:
        console = Console(file=sys.stdout)
        self.can_draw = console.is_terminal and not console.is_dumb_terminal
        self._system = _COLOR_SYSTEMS.get(console.color_system or "")
        self._plain = console.no_color or self._system is None
        self._codes: dict[str, tuple[str, str]] = {}
        self._last: list[str] = []
        self._size = (0, 0)

    def size(self) -> tuple[int, int]:
        """Returns (columns, lines)."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        return columns or 80, lines or 24

    @contextmanager
    def shown(self) -> Iterator[None]:
        with _quiet_keys():
            try:
                self._write(_OPEN)
                yield
            finally:
                self._write(_CLOSE)

    def draw(self, rows: list[Row], size: tuple[int, int]) -> None:
        """Writes what differs from the last screen; everything if the size of the terminal has changed."""
        lines = [self._line(row, size[0]) for row in rows]
        if size != self._size:
            self._size, self._last = size, [""] * len(lines)
            parts = ["\x1b[0m\x1b[2J"]
        else:
            parts = []
        for at, (line, last) in enumerate(zip(lines, self._last, strict=True)):
            if line != last:
                parts.append(f"\x1b[{at + 1};1H{line}")
        self._last = lines
        if parts:
            self._write("".join([_BEGIN, *parts, _END]))

    def _line(self, row: Row, width: int) -> str:
        """Clears the rest of the line, except behind a full one, where the cursor is still on the last column."""
        styled = "".join(self._styled(text, style) for text, style in row)
        return styled if row_cells(row) >= width else f"{styled}\x1b[K"

    def _styled(self, text: str, style: str) -> str:
        if style not in self._codes:
            parsed = Style.parse(STYLES[style])
            parsed = parsed.without_color if self._plain else parsed
            before, _, after = parsed.render("|", color_system=self._system or ColorSystem.STANDARD).partition("|")
            self._codes[style] = before, after
        before, after = self._codes[style]
        return f"{before}{text}{after}"

    def _write(self, text: str) -> None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


@contextmanager
def _quiet_keys() -> Iterator[None]:
    """Keys are not echoed and do not end up in the shell. Ctrl-Z is off, because it would not restore the screen."""
    try:
        stdin = sys.stdin.fileno()
        before = termios.tcgetattr(stdin)
    except (termios.error, ValueError, OSError):
        yield  # stdin is not a terminal
        return
    quiet = termios.tcgetattr(stdin)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    quiet[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSAFLUSH, before)
