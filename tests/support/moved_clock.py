"""A wall clock that a file moves, for a server in a process of its own.

Invariants: it moves what Python reads of the wall clock, in the whole process, and nothing else: not the monotonic
clock. The file has the seconds by which the clock is ahead; without a file, it is right.
"""

from __future__ import annotations

import time
from pathlib import Path


def follow(path: str) -> None:
    """From now on, the wall clock of this process is as far ahead as the file says."""
    file = Path(path)
    real, real_ns = time.time, time.time_ns

    def ahead() -> int:
        return int((file.read_text() if file.exists() else "") or 0)

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + ahead() * 1_000_000_000


def move(path: Path, seconds: int) -> None:
    """Sets the clocks that follow the file so far ahead, all at once."""
    new = path.with_suffix(".new")
    new.write_text(str(seconds))
    new.rename(path)
