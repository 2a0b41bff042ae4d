"""The age clock with arbitrary wall clocks."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from statestream.core.change import now_ms
from statestream.core.clock import STEP_MS, AgeClock
from statestream.testing.journals import wall_clock_ahead

A_MOMENT = 60_000
jumps = st.integers(-(10**8), 10**8)


@given(jumps=st.lists(jumps, max_size=5))
def test_no_jump_of_the_wall_clock_moves_it(jumps: list[int]) -> None:
    clock = AgeClock()
    before = clock.now()
    for seconds in jumps:
        with wall_clock_ahead(seconds):
            assert before <= clock.now() < before + A_MOMENT


@given(jumps=st.lists(jumps, min_size=1, max_size=5))
def test_a_restart_moves_it_a_step_at_most(jumps: list[int]) -> None:
    noted = AgeClock().now()
    for seconds in jumps:
        with wall_clock_ahead(seconds):
            clock = AgeClock()
            clock.continue_from(noted)
            assert noted <= clock.now() < noted + STEP_MS + A_MOMENT
            noted = clock.now()


def test_a_short_pause_counts_in_full() -> None:
    clock = AgeClock()
    clock.continue_from(now_ms() - STEP_MS // 2)
    assert abs(clock.now() - now_ms()) < A_MOMENT


def test_it_takes_over_a_later_time_only() -> None:
    clock = AgeClock()
    now = clock.now()
    clock.advance_to(now - STEP_MS)
    assert now <= clock.now() < now + A_MOMENT
    clock.advance_to(now + 100 * STEP_MS)
    assert now + 100 * STEP_MS <= clock.now() < now + 100 * STEP_MS + A_MOMENT
