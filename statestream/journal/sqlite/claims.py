"""Claims of other processes to the checkpoint that they are making, and which of them were abandoned.

Invariants: as with leases, no clocks are compared. A claim that changes is alive. One that has not changed for CLAIM_MS
of this process's monotonic clock, since it was first seen, was abandoned.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

CLAIM_MS: Final = 10_000
"""If a claim has not changed for this long, its checkpoint was interrupted."""

Claim = tuple[int, int]
"""The seq of the checkpoint, and a number that each renewal changes."""


class Claims:
    """The claims of other processes, as seen by this process."""

    def __init__(self) -> None:
        self._seen: dict[Claim, int] = {}

    def all_abandoned(self, claims: Iterable[Claim]) -> bool:
        """Whether all current claims were abandoned."""
        now = time.monotonic_ns() // 1_000_000
        self._seen = {claim: self._seen.get(claim, now) for claim in claims}
        return all(now - since > CLAIM_MS for since in self._seen.values())
