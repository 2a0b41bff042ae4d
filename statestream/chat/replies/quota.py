"""How many replies, and how many tokens, each person may have in a day.

Invariants: a reply counts when it begins. Its tokens count when it has ended, so the last reply may use more than was
left. Each process counts for itself and begins anew when it starts. Who has no name is not limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic

from statestream.core.allowances import Allowances
from statestream.core.errors import RateLimited

COUNTED: Mapping[str, str] = {"runs": "replies", "tokens": "tokens"}
"""What is limited, and what its sentence calls it."""


class Quota:
    """`runs` and `tokens` are the allowances of everybody; None means no limit. `limited` counts the refusals."""

    def __init__(
        self, runs: Allowances | None = None, tokens: Allowances | None = None, limited: Counter[str] | None = None
    ) -> None:
        self._runs, self._tokens = runs, tokens
        self._limited = Counter[str]() if limited is None else limited

    def check(self, person: str | None) -> None:
        """Raises RateLimited if this person may have no reply now."""
        if person is None:
            return
        for name, allowances in (("runs", self._runs), ("tokens", self._tokens)):
            if allowances is not None and (wait := allowances.wait(person, monotonic())):
                self._limited[name] += 1  # here, because some protocols answer with an event
                raise RateLimited(_sentence(name, wait), limit=None, retry_after=wait)

    def take(self, person: str | None) -> None:
        """Counts a reply that this person asks for. Raises RateLimited if there may be none now."""
        self.check(person)
        if person is not None and self._runs is not None:
            self._runs.spend(person, 1, monotonic())

    def give_back(self, person: str | None) -> None:
        """The reply was not begun."""
        if person is not None and self._runs is not None:
            self._runs.spend(person, -1, monotonic())

    def used(self, person: str | None, usage: Mapping[str, int]) -> None:
        """Counts the tokens of a reply that has ended."""
        tokens = usage.get("input", 0) + usage.get("output", 0)
        if person is not None and self._tokens is not None and tokens:
            self._tokens.spend(person, tokens, monotonic())


def _sentence(name: str, wait: float) -> str:
    return f"You have used all the {COUNTED[name]} that you may have in a day. Try again in {_duration(wait)}."


def _duration(seconds: float) -> str:
    """For people: in seconds, minutes or hours, rounded up."""
    for unit, length in (("hours", 3_600), ("minutes", 60)):
        if seconds > 2 * length:
            return f"{-int(-seconds // length)} {unit}"
    return f"{-int(-seconds // 1)} seconds"
