"""How much each of many people may do: a rate, and a burst at once. Work above it is refused.

Invariants: pure; the caller passes the time. Those who have done nothing lately take no memory.
"""

from __future__ import annotations

from typing import Final

LEAST_TIDIED: Final = 1_024
ROUNDING: Final = 1e-3
"""Of a unit: sums of many parts of a second are not exact."""


class Allowances:
    """An allowance for each of many names. `rate` units a second, of which `burst` may come at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst_seconds = rate, burst / rate
        self._whole_at: dict[str, float] = {}
        self._tidy_at = LEAST_TIDIED

    def __len__(self) -> int:
        """The names whose allowance may not be whole."""
        return len(self._whole_at)

    def wait(self, name: str, now: float, besides: float = 0) -> float:
        """The seconds until one more unit is allowed besides so many; 0 if it is allowed now. Spends nothing."""
        spent = max(self._whole_at.get(name, now), now) + (besides + 1 - ROUNDING) / self._rate - now
        return max(0.0, spent - self._burst_seconds)

    def spend(self, name: str, amount: float, now: float) -> None:
        """Spends that much, even if it is more than is left: then it takes longer until one more is allowed."""
        self._whole_at[name] = max(self._whole_at.get(name, now), now) + amount / self._rate
        if len(self._whole_at) >= self._tidy_at:
            self._tidy(now)

    def _tidy(self, now: float) -> None:
        """Forgets those whose allowance is whole. Costs a constant per `spend`, because it waits for twice as many."""
        self._whole_at = {name: at for name, at in self._whole_at.items() if at > now}
        self._tidy_at = max(LEAST_TIDIED, 2 * len(self._whole_at))
