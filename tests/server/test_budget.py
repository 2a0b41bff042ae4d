"""The memory budget: every reservation is released, and bytes with many holders count once."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from statestream.broadcast.budget import Budget, Share

LIMIT = 100
DATA = [bytes(size) for size in (1, 10, 40, 70)]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(LIMIT)
        self.shares: list[tuple[Share, list[bytes], int]] = []

    @property
    def model(self) -> int:
        held = {id(data): len(data) for _, kept, _ in self.shares for data in kept}
        return sum(held.values()) + sum(taken for _, _, taken in self.shares)

    @rule()
    def begin(self) -> None:
        self.shares.append((Share(self.budget).__enter__(), [], 0))

    @rule(which=st.integers(0, 9), size=st.integers(0, 60))
    def take(self, which: int, size: int) -> None:
        if self.shares:
            at = which % len(self.shares)
            share, kept, taken = self.shares[at]
            fits = self.model + size <= LIMIT
            assert share.take(size) is fits
            self.shares[at] = (share, kept, taken + (size if fits else 0))

    @rule(which=st.integers(0, 9), data=st.sampled_from(DATA))
    def hold(self, which: int, data: bytes) -> None:
        if self.shares:
            share, kept, _ = self.shares[which % len(self.shares)]
            shared = any(other is data for _, others, _ in self.shares for other in others)
            fits = shared or self.model + len(data) <= LIMIT
            assert share.hold(data) is fits
            kept += [data] if fits else []

    @rule(which=st.integers(0, 9))
    def end(self, which: int) -> None:
        if self.shares:
            self.shares.pop(which % len(self.shares))[0].__exit__()

    @invariant()
    def counts_what_is_held(self) -> None:
        assert self.budget.used == self.model


TestBudget = Machine.TestCase
