"""The targets of `python -m tests.fuzz` take any bytes, and what they begin with is accepted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import SEEDS, TARGETS
from tests.support.often import often


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_any_bytes(name: str) -> None:
    seeds = st.sampled_from(SEEDS[name])
    cut = st.builds(
        lambda seed, at, more: seed[:at] + more + seed[at:], seeds, st.integers(0, 80), st.binary(max_size=4)
    )

    @given(cut | st.binary(max_size=40))
    @settings(max_examples=often(40))
    def fed(data: bytes) -> None:
        TARGETS[name](data)

    for seed in SEEDS[name]:
        TARGETS[name](seed)
    fed()
