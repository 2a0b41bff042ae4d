"""What replies cost, and how much one of them may use.

A price is in any currency, for a million tokens. Costs are in the same currency.

Invariants: plain data and pure functions. Without a price, there is no cost: it is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from statestream.chat.models import Usage
from statestream.core.values import check_settings

UNIT: Final = 1_000_000
DECIMALS: Final = 9
"""A token costs a few millionths at least, and sums of costs must not show how numbers are stored."""


class Price(Struct, frozen=True, kw_only=True):
    """The prices of a model for a million tokens: of its input, of input that the provider had cached, of its output.

    `cached` defaults to `input`. Raises TypeError and ValueError for a price that is not a number of 0 or more.
    """

    input: float
    output: float
    cached: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (not isinstance(value, (int, float)) or value < 0):
                raise ValueError(f"expected `{name}` to be a price of 0 or more, got {value!r}")

    def of(self, usage: Usage) -> float:
        """What these tokens cost."""
        cached = self.input if self.cached is None else self.cached
        fresh = max(0, usage.input - usage.cached)
        return (fresh * self.input + usage.cached * cached + usage.output * self.output) / UNIT


class Budget(Struct, frozen=True, kw_only=True):
    """How much one reply may use in all its steps and runs. None means no limit.

    `tokens`: input and output tokens together. `cost`: in the currency of the prices. Raises TypeError and ValueError
    for anything that is not a number above 0.
    """

    tokens: int | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        check_settings(**{name: value for name, value in asdict(self).items() if value is not None})


class Spending:
    """What a reply has used so far: `usage` and `cost` are those of the current run.

    `maker` is the model or agent that is at work, whose price counts for usage that names no model. `before` is what
    earlier runs have used. `cost` is None as long as nothing that was used has a price.
    """

    def __init__(
        self,
        prices: Mapping[str, Price],
        budget: Budget,
        maker: str,
        before: Mapping[str, int] | None = None,
        cost_before: float = 0.0,
    ) -> None:
        self._prices, self._budget, self.maker = prices, budget, maker
        self._before, self._cost_before = before or {}, cost_before
        self.usage: dict[str, int] = {}
        """Tokens, summed over the steps of the run."""
        self.cost: float | None = None

    def add(self, usage: Usage) -> None:
        """Counts what an answer has used."""
        for name, tokens in asdict(usage).items():
            if name != "model":
                self.usage[name] = self.usage.get(name, 0) + tokens
        price = self._prices.get(usage.model or self.maker)
        if price is not None:
            self.cost = added(self.cost, price.of(usage))

    def forget(self) -> None:
        """Counts nothing of this run any more."""
        self.usage, self.cost = {}, None

    @property
    def exceeded(self) -> str | None:
        """A sentence if the reply has used more than its budget."""
        tokens = sum(used.get(name, 0) for used in (self._before, self.usage) for name in ("input", "output"))
        if self._budget.tokens is not None and tokens > self._budget.tokens:
            return f"The reply has used more than its budget of {self._budget.tokens:,} tokens."
        if self._budget.cost is not None and added(self._cost_before, self.cost or 0.0) > self._budget.cost:
            return f"The reply has cost more than its budget of {self._budget.cost:,g}."
        return None


def added(before: float | None, more: float) -> float:
    """The sum of two costs."""
    return round((before or 0.0) + more, DECIMALS)
