"""How many replies, tokens and bytes of files each person may have in a day, and what their replies may cost.

Invariants: a reply counts when it begins. Its tokens and its cost count when it has ended, and a file when it is
stored, so the last one may use more than was left. Each process counts for itself and begins anew when it starts. Who
has no name is not limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from time import monotonic

from statestream.chat.prices import UNIT, Spending
from statestream.core.allowances import Allowances
from statestream.core.errors import RateLimited

SPENT: Mapping[str, str] = {
    "runs": "You have used all the replies that you may have in a day.",
    "tokens": "You have used all the tokens that you may have in a day.",
    "cost": "Your replies have cost as much as they may in a day.",
    "uploads": "You have uploaded all that you may in a day.",
}
"""What is limited, and what people are told."""


class Quota:
    """`runs`, `tokens`, `costs` and `uploads` are the allowances of everybody; None means no limit. `costs` are in
    millionths, `uploads` in bytes. `limited` counts the refusals.
    """

    def __init__(
        self,
        runs: Allowances | None = None,
        tokens: Allowances | None = None,
        costs: Allowances | None = None,
        uploads: Allowances | None = None,
        limited: Counter[str] | None = None,
    ) -> None:
        self._runs, self._tokens, self._costs, self._uploads = runs, tokens, costs, uploads
        self._limited = Counter[str]() if limited is None else limited

    def check(self, person: str | None) -> None:
        """Raises RateLimited if this person may have no reply now."""
        if person is None:
            return
        for name, allowances in (("runs", self._runs), ("tokens", self._tokens), ("cost", self._costs)):
            self._check(name, allowances, person)

    def take(self, person: str | None) -> None:
        """Counts a reply that this person asks for. Raises RateLimited if there may be none now."""
        self.check(person)
        if person is not None and self._runs is not None:
            self._runs.spend(person, 1, monotonic())

    def _check(self, name: str, allowances: Allowances | None, person: str) -> None:
        if allowances is not None and (wait := allowances.wait(person, monotonic())):
            self._limited[name] += 1  # here, because some protocols answer with an event
            raise RateLimited(_sentence(name, wait), limit=None, retry_after=wait)

    def check_uploads(self, person: str | None) -> None:
        """Raises RateLimited if this person may upload nothing now."""
        if person is not None:
            self._check("uploads", self._uploads, person)

    def uploaded(self, person: str | None, size: int) -> None:
        """Counts the bytes of a file."""
        if person is not None and self._uploads is not None:
            self._uploads.spend(person, size, monotonic())

    def give_back(self, person: str | None) -> None:
        """The reply was not begun."""
        if person is not None and self._runs is not None:
            self._runs.spend(person, -1, monotonic())

    def used(self, person: str | None, spending: Spending) -> None:
        """Counts what a run has used that has ended."""
        tokens = spending.usage.get("input", 0) + spending.usage.get("output", 0)
        if person is not None and self._tokens is not None and tokens:
            self._tokens.spend(person, tokens, monotonic())
        if person is not None and self._costs is not None and spending.cost:
            self._costs.spend(person, spending.cost * UNIT, monotonic())


def _sentence(name: str, wait: float) -> str:
    return f"{SPENT[name]} Try again in {_duration(wait)}."


def _duration(seconds: float) -> str:
    """For people: in seconds, minutes or hours, rounded up."""
    for unit, length in (("hours", 3_600), ("minutes", 60)):
        if seconds > 2 * length:
            return f"{-int(-seconds // length)} {unit}"
    return f"{-int(-seconds // 1)} seconds"
