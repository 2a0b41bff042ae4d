"""What the broadcaster counts, for whoever watches it.

Invariants: numbers that only grow. They are read from outside and change nothing in here.
"""

from __future__ import annotations

from collections import Counter

from msgspec import Struct, field


class Counts(Struct, kw_only=True):
    """`began` by what the stream opened with (`resumed`, or the reason of its `state.initial`), `ended` by reason.

    `lagged` by what a slow reader got when it took frames again: `catchup` or `initial`. `cut`: readers that took
    nothing for too long. `deliveries`: changes times readers. `bytes`: what live readers were sent, without
    what brought them to head.
    """

    began: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    lagged: Counter[str] = field(default_factory=Counter)
    handed_off: int = 0
    cut: int = 0
    deliveries: int = 0
    bytes: int = 0
