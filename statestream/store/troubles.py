"""What is wrong with a node now, by cause.

Invariants: whoever notices a trouble reports it, and reports its end. The log has one line when it begins and one when
it is over, however often somebody tries in between. The sentences are for anybody who asks: they contain no path, no
error of a library and nothing of a client.
"""

from __future__ import annotations

import logging
import time
from typing import Final, Literal

from msgspec import Struct

log = logging.getLogger("statestream")

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
        self._since: dict[Cause, float] = {}

    def begin(self, cause: Cause, why: str = "") -> None:
        """There is such a trouble. The log says why, if it is a new one."""
        if cause not in self._since:
            self._since[cause] = time.monotonic()
            log.warning("%s%s", TROUBLES[cause].sentence, f": {why}" if why else "")

    def end(self, cause: Cause) -> None:
        """There is no such trouble any more."""
        since = self._since.pop(cause, None)
        if since is not None:  # a warning as well: whoever is shown how it began needs to know that it is over
            log.warning("over after %.1f seconds: %s", time.monotonic() - since, TROUBLES[cause].sentence)

    def warn(self, message: str, error: Exception) -> None:
        """Logs what has failed now, unless it is the journal that is in trouble: of that, the log has a line."""
        if "journal" not in self:
            log.warning(message, error)

    def __contains__(self, cause: Cause) -> bool:
        return cause in self._since

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
