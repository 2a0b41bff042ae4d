"""What is wrong with a node now, by cause.

Invariants: whoever notices a trouble reports it, and reports its end. A trouble whose end nobody would notice is
reported for a time, and again while it lasts. The sentences are for anybody who asks: they contain no path, no error
of a library and nothing of a client.
"""

from __future__ import annotations

import math
import time
from typing import Final, Literal

from msgspec import Struct

Status = Literal["healthy", "degraded", "failed"]
Cause = Literal["journal", "following", "checkpoints", "trimming", "outdated"]


class Trouble(Struct, frozen=True, kw_only=True):
    """`degraded`: the node works, but somebody should look at it. `failed`: it cannot do its work."""

    code: str
    status: Literal["degraded", "failed"]
    sentence: str


TROUBLES: Final[dict[Cause, Trouble]] = {
    "journal": Trouble(code="journal", status="failed", sentence="the journal cannot be written to"),
    "following": Trouble(
        code="following", status="degraded", sentence="changes that other processes write cannot be read"
    ),
    "checkpoints": Trouble(
        code="checkpoints", status="degraded", sentence="no checkpoint can be saved, so a restart takes longer"
    ),
    "outdated": Trouble(
        code="outdated", status="degraded", sentence="newer code has taken over a slice; this process only shows it"
    ),
    "trimming": Trouble(code="trimming", status="degraded", sentence="the history cannot be trimmed, so it grows"),
}


class Troubles:
    """The troubles of one node."""

    def __init__(self) -> None:
        self._until: dict[Cause, float] = {}

    def begin(self, cause: Cause, seconds: float = math.inf) -> None:
        """There is such a trouble, for so many seconds at least."""
        self._until[cause] = time.monotonic() + seconds

    def end(self, cause: Cause) -> None:
        """There is no such trouble any more."""
        self._until.pop(cause, None)

    def __contains__(self, cause: Cause) -> bool:
        return self._until.get(cause, 0.0) > time.monotonic()

    def by_cause(self) -> dict[str, int]:
        """1 for each cause of a current trouble, 0 for the others."""
        return {cause: int(cause in self) for cause in TROUBLES}

    def current(self) -> list[Trouble]:
        return [trouble for cause, trouble in TROUBLES.items() if cause in self]


def status_of(troubles: list[Trouble]) -> Status:
    """The worst of them."""
    if any(trouble.status == "failed" for trouble in troubles):
        return "failed"
    return "degraded" if troubles else "healthy"
