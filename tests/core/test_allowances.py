"""Allowances: never more than the burst and what has grown back since, never less, and no memory for the idle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from statestream.core.allowances import LEAST_TIDIED, Allowances

RATES = st.sampled_from((0.01, 1.0, 7.0, 100.0))
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 20)), max_size=80)


@given(RATES, st.integers(1, 20), STEPS)
def test_as_many_as_a_bucket_of_tokens_allows(rate: float, burst: int, steps: list[tuple[str, float]]) -> None:
    allowances, now = Allowances(rate, burst), 1e6
    tokens, seen = {"a": float(burst), "b": float(burst)}, {"a": now, "b": now}
    for name, seconds in steps:
        now += seconds / rate
        tokens[name] = min(burst, tokens[name] + (now - seen[name]) * rate)
        seen[name] = now
        wait = allowances.wait(name, now)
        assert abs(wait - max(0.0, (0.999 - tokens[name]) / rate)) < 0.001 / rate
        if not wait:
            allowances.spend(name, 1, now)
            tokens[name] -= 1


def test_exactly_the_burst_is_allowed_at_once() -> None:
    for rate in (100.0, 10_000 / 3_600, 3 / 86_400):
        allowances, now = Allowances(rate, 10_000), 123_456.789
        for _ in range(10_000):
            assert allowances.wait("a", now) == 0
            allowances.spend("a", 1, now)
        assert 0 < allowances.wait("a", now) <= 1 / rate
        assert allowances.wait("a", now + 1 / rate) == 0


def test_who_does_nothing_takes_no_memory() -> None:
    allowances = Allowances(1, 5)
    for number in range(100 * LEAST_TIDIED):
        allowances.spend(str(number), 1, number / 1_000)
        assert len(allowances) <= 4 * LEAST_TIDIED


def test_what_is_given_back_can_be_spent_again() -> None:
    allowances = Allowances(1, 1)
    allowances.spend("a", 1, 0)
    assert allowances.wait("a", 0) > 0
    allowances.spend("a", -1, 0)
    assert allowances.wait("a", 0) == 0
