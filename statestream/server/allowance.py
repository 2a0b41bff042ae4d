"""How much a client may do: a rate, and a burst at once.

Invariants: pure; the caller passes the time. Work above the allowance is not refused: the caller waits, so that a
client is slowed down before it is disconnected. An allowance takes constant memory.
"""

from __future__ import annotations

from typing import Final

FLOOD_SECONDS: Final = 30.0
"""A client that exceeds its allowance for so long is disconnected."""


class Allowance:
    """`rate` units a second, of which `burst` may come at once."""

    __slots__ = ("_burst_seconds", "_exceeded_at", "_rate", "_whole_at")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst_seconds = rate, burst / rate
        self._whole_at = 0.0
        self._exceeded_at: float | None = None

    def spend(self, amount: float, now: float) -> float:
        """The seconds to wait until that much is allowed; 0 if it already is."""
        self._whole_at = max(self._whole_at, now) + amount / self._rate
        spent = self._whole_at - now
        if spent > self._burst_seconds and self._exceeded_at is None:
            self._exceeded_at = now
        elif spent <= self._burst_seconds / 2:
            self._exceeded_at = None
        return max(0.0, spent - self._burst_seconds)

    def exceeded_for(self, now: float) -> float:
        """For how many seconds the client has exceeded the allowance.

        This ends only once half a burst is available again. If less were enough, a caller on a busy machine that waits
        slightly too long would end it.
        """
        return 0.0 if self._exceeded_at is None else now - self._exceeded_at
