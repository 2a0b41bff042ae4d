"""A command on a terminal of its own: a pty, and what stands on its screen.

Invariants: it knows the few sequences that `watch` may write. Any other is an error: that is how text of others would
show that reached the terminal raw.
"""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Callable
from typing import Any, Self

from tests.support import eventually
from tests.support.nursery import Grown, plant

_SEQUENCE = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")
_MODES = {"1049", "25", "7", "2026"}


class Terminal:
    """`statestream …` on a pty. `lines` is what its screen shows."""

    def __init__(self, *arguments: str, columns: int = 100, rows: int = 24) -> None:
        self.arguments = arguments
        self.master, self.slave = pty.openpty()
        self.modes: dict[str, bool] = {}
        self.pictures = 0
        self.before = termios.tcgetattr(self.slave)
        self._screen: dict[int, str] = {}
        self._at = 0
        self.trouble: AssertionError | None = None
        self._rest = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self.text_before = ""
        self.resize(columns, rows)

    async def __aenter__(self) -> Self:
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")
        }
        environment["TERM"] = "xterm-256color"
        self.process = Grown(plant(self.arguments, environment, (self.slave,) * 3, on_terminal=True))
        asyncio.get_running_loop().add_reader(self.master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.ended()
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    @property
    def lines(self) -> list[str]:
        last = max(self._screen, default=-1)
        return [self._screen.get(at, "") for at in range(last + 1)]

    async def shows(self, what: str | Callable[[list[str]], Any]) -> None:
        """Waits until it stands on the screen."""
        check = (
            (lambda: any(what in line for line in self.lines)) if isinstance(what, str) else lambda: what(self.lines)
        )
        try:
            await eventually(check)
        except AssertionError:
            raise AssertionError(
                "\n".join([f"expected {what}, the screen shows", *self.lines, self.text_before])
            ) from self.trouble
        self._check()

    def _check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    async def ends(self, number: int | None = None) -> int:
        """Its exit code, after the signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.ended(), 60)
        self._read_all()
        self._check()
        return code

    def is_as_before(self) -> bool:
        """Whether screen, cursor, wrapping and keys are as they were found."""
        left = {mode: on for mode, on in self.modes.items() if mode != "2026"}
        return left == {"1049": False, "25": True, "7": True} and termios.tcgetattr(self.slave) == self.before

    def _read_all(self) -> None:
        os.set_blocking(self.master, False)
        while self._read():
            pass

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 1 << 16)
        except (BlockingIOError, OSError):
            return False
        self._rest += self._decode(data)
        whole, escape, begun = self._rest.rpartition("\x1b")
        if not escape or _SEQUENCE.match(escape + begun):
            whole, self._rest = self._rest, ""
        else:
            self._rest = escape + begun
        try:
            self._take(whole)
        except AssertionError as error:
            self.trouble = self.trouble or error
        return True

    def _take(self, text: str) -> None:
        at = 0
        for match in _SEQUENCE.finditer(text):
            self._print(text[at : match.start()])
            self._sequence(*match.groups())
            at = match.end()
        self._print(text[at:])

    def _sequence(self, private: str, numbers: str, final: str) -> None:
        if private:
            assert numbers in _MODES, f"an unknown mode: {numbers}"
            self.modes[numbers] = final == "h"
            self.pictures += numbers == "2026" and final == "h"
        elif final == "H":
            self._at = int(numbers.split(";")[0]) - 1
            self._screen[self._at] = ""
        elif final == "J":
            self._screen.clear()
        else:
            assert final in "mK", f"an unknown sequence: {numbers}{final}"

    def _print(self, text: str) -> None:
        if not text:
            return
        if self.modes.get("1049"):
            assert text.isprintable(), f"raw text on the terminal: {text!r}"
            self._screen[self._at] = self._screen.get(self._at, "") + text
        else:
            self.text_before += text
