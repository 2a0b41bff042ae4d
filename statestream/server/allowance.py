"""How much a client may do: a rate, and a burst at once.

Invariants: pure; the caller passes the time. An allowance takes constant memory, and allowances by name take none for
those who have done nothing lately.
"""

from __future__ import annotations

from typing import Final

FLOOD_SECONDS: Final = 30.0
"""A client that exceeds its allowance for so long is disconnected."""
LEAST_TIDIED: Final = 1_024
ROUNDING_SECONDS: Final = 1e-9
"""Sums of many parts of a second are not exact."""


class Allowance:
    """`rate` units a second, of which `burst` may come at once.

    Work above it is not refused: the caller waits, so that a client is slowed down before it is disconnected.
    """

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


class Allowances:
    """An allowance for each of many names. Work above it is refused: the caller learns how long to wait."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst_seconds = rate, burst / rate
        self._whole_at: dict[str, float] = {}
        self._tidy_at = LEAST_TIDIED

    def __len__(self) -> int:
        """The names whose allowance may not be whole."""
        return len(self._whole_at)

    def wait(self, name: str, now: float) -> float:
        """The seconds until one more unit is allowed; 0 if it is allowed now. Spends nothing."""
        spent = self._whole_at.get(name, now) + 1 / self._rate - now
        return max(0.0, spent - self._burst_seconds - ROUNDING_SECONDS)

    def spend(self, name: str, amount: float, now: float) -> None:
        """Spends that much, even if it is more than is left: then it takes longer until one more is allowed."""
        self._whole_at[name] = max(self._whole_at.get(name, now), now) + amount / self._rate
        if len(self._whole_at) >= self._tidy_at:
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        """Forgets those whose allowance is whole. Costs a constant per `spend`, because it waits for twice as many."""
        self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
        self._tidy_at = max(LEAST_TIDIED, 2 * len(self._whole_at))
