"""Rows on a terminal: only those that differ are written, in one piece; and the terminal as it was, in the end.

Invariants: nothing is known of what is shown. Whoever opens it closes it, whatever happens between: the screen, the
cursor, the wrapping of lines and the echo of keys are given back as they were found.
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

from statestream.tools.watch.inline import Row, row_cells

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
"""Where a terminal knows these, it shows everything between them at once."""
_SYSTEMS: Final = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


def as_text(rows: list[Row]) -> Text:
    """The same rows for rich: for a file with a picture, and for tests."""
    text = Text(no_wrap=True, end="")
    for at, row in enumerate(rows):
        text.append("\n" if at else "")
        for piece, style in row:
            text.append(piece, STYLES[style])
    return text


class Terminal:
    """The screen of `stdout`, for as long as `shown()` is open."""

    def __init__(self) -> None:
        console = Console(file=sys.stdout)
        self.can_draw = console.is_terminal and not console.is_dumb_terminal
        self._system = _SYSTEMS.get(console.color_system or "")
        self._plain = console.no_color or self._system is None
        self._codes: dict[str, tuple[str, str]] = {}
        self._last: list[str] = []
        self._size = (0, 0)

    def size(self) -> tuple[int, int]:
        """(columns, lines)."""
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
        """Writes what differs from the last picture, or all of it if the terminal has another size now."""
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
        """A full line must not be cleared behind its end: the cursor still stands on its last column then."""
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
    """Keys are not echoed, and those that were pressed do not end up in the shell; Ctrl-C works, Ctrl-Z does not."""
    try:
        stdin = sys.stdin.fileno()
        before = termios.tcgetattr(stdin)
    except (termios.error, ValueError, OSError):
        yield  # stdin is no terminal
        return
    quiet = termios.tcgetattr(stdin)
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    quiet[6][termios.VSUSP] = b"\0"
    termios.tcsetattr(stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSAFLUSH, before)
