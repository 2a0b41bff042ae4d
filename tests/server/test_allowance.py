"""How much a client may do over time: the arithmetic, for any history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from statestream.server.allowance import Allowance

Spent = st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 20)), min_size=1, max_size=60)


@given(spent=Spent, rate=st.floats(0.5, 100), burst=st.floats(0, 50))
def test_who_waits_as_told_never_does_more_than_allowed(
    spent: list[tuple[float, float]], rate: float, burst: float
) -> None:
    allowance, now, done = Allowance(rate, burst), 0.0, []
    for pause, amount in spent:
        now += pause
        now += allowance.spend(amount, now)
        done.append((now, amount))
    for first in range(len(done)):
        total = 0.0
        for at, amount in done[first:]:
            total += amount
            assert total <= burst + rate * (at - done[first][0]) + done[first][1] + 1e-6


@given(amounts=st.lists(st.floats(0.01, 1), max_size=50))
def test_a_burst_and_then_the_rate_are_free(amounts: list[float]) -> None:
    allowance, now = Allowance(10, 5), 100.0
    assert [allowance.spend(1, now) for _ in range(5)] == [0] * 5
    for amount in amounts:
        now += amount / 10 + 1e-9
        assert allowance.spend(amount, now) <= 1e-6


def test_it_is_known_for_how_long_too_much_has_come() -> None:
    allowance = Allowance(10, 1)
    assert (allowance.spend(1, 0), allowance.exceeded_for(0)) == (0, 0)
    for tenth in range(50):
        assert allowance.spend(2, tenth / 10) > 0
    assert allowance.exceeded_for(5) == 5
    now = 5.0
    for _ in range(50):
        now += allowance.spend(1, now) + 0.001  # as told, and a moment longer
    assert allowance.exceeded_for(now) == now
    assert allowance.spend(0.1, 100) == 0
    assert allowance.exceeded_for(100) == 0
