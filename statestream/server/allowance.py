"""How much a client may do in a time: at a rate, and a burst at once.

Invariants: pure; the time is given. What is above the allowance is not refused: the caller waits, so that a client is
slowed down before it is disconnected. An allowance costs a few numbers, whatever was spent of it.
"""

from __future__ import annotations


class Allowance:
    """`rate` units a second, of which `burst` may come at once."""

    __slots__ = ("_burst_seconds", "_exceeded_at", "_rate", "_whole_at")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst_seconds = rate, burst / rate
        self._whole_at = 0.0
        self._exceeded_at: float | None = None

    def spend(self, amount: float, now: float) -> float:
        """For how many seconds to wait until so much is allowed; 0 if it is."""
        self._whole_at = max(self._whole_at, now) + amount / self._rate
        spent = self._whole_at - now
        if spent > self._burst_seconds and self._exceeded_at is None:
            self._exceeded_at = now
        elif spent <= self._burst_seconds / 2:
            self._exceeded_at = None
        return max(0.0, spent - self._burst_seconds)

    def exceeded_for(self, now: float) -> float:
        """For how many seconds more was to be spent than is allowed. Half a burst of rest ends it.

        If less ended it, a caller who waits a moment longer than told, because the machine is busy, would end it.
        """
        return 0.0 if self._exceeded_at is None else now - self._exceeded_at
