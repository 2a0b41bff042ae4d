"""The clock by which ages are measured: it determines what is old enough to be forgotten.

The wall clock jumps: somebody sets it, a time server corrects it, a virtual machine wakes up. Times that are shown to
people can follow it. Idempotency records and a week of history must not: one jump would delete all of them.

Invariants: an AgeClock never goes back. It advances exactly as the monotonic clock of the process does; it only moves
ahead to a time that another node has recorded. Across a restart it continues from the last recorded time, and trusts
the wall clock for at most STEP_MS of the time in between. Its readings are only compared with each other, and never
shown.
"""

from __future__ import annotations

import time
from typing import Final

from statestream.core.change import now_ms

STEP_MS: Final = 3600 * 1000
"""How far one restart may move the time ahead. This is longer than a node waits until it records the time again."""


class AgeClock:
    """Begins at the time of the wall clock. If a time was recorded before, call `continue_from`."""

    def __init__(self) -> None:
        self._ahead = now_ms() - _steady_ms()

    def now(self) -> int:
        """The time in ms: close to Unix time as a rule, but nothing may rely on that."""
        return self._ahead + _steady_ms()

    def continue_from(self, recorded: int) -> None:
        """Continues from a time that was recorded before a restart."""
        self._ahead = min(max(now_ms(), recorded), recorded + STEP_MS) - _steady_ms()

    def advance_to(self, at: int) -> None:
        """Moves ahead to a time that another node has recorded; does nothing if that has passed."""
        self._ahead = max(self._ahead, at - _steady_ms())


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000
