"""How busy this process and this machine are, with everything that runs on it.

Invariants: Linux's own accounting, read-only. Latencies that were measured while all cores were busy say nothing about
the server.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

STAT: Final = Path("/proc/stat")


class CpuMeter:
    """Measures from its creation on."""

    def __init__(self) -> None:
        self._began, self._own, self._all = time.monotonic(), time.process_time(), _busy_seconds()

    def own_share(self) -> float:
        """The share of one core that this process used."""
        return (time.process_time() - self._own) / (time.monotonic() - self._began)

    def machine_percent(self) -> float | None:
        """The percentage of all cores that all processes used; None if the system does not report it."""
        busy, seconds = _busy_seconds(), time.monotonic() - self._began
        if busy is None or self._all is None:
            return None
        return min(100.0, (busy - self._all) / seconds / (os.cpu_count() or 1) * 100)


def _busy_seconds() -> float | None:
    if not STAT.exists():
        return None
    user, nice, system, _, _, *others = map(int, STAT.read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")  # others: interrupts, stolen by a neighbour
