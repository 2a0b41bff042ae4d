"""Logs mistakes of clients: the first one at once, then at most one line a minute.

Invariants: a line contains nothing that a client has sent. However many clients do it, the log grows slowly, unless
somebody has asked for a line for each of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from statestream.server.access_log import log_refusal

log = logging.getLogger("statestream")

INTERVAL_SECONDS: Final = 60.0


class Complaints:
    """Requests that were not valid HTTP."""

    def __init__(self) -> None:
        self._unsaid = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kind: str, peer: str | None) -> None:
        """`kind` is a word of our own or of a library."""
        log_refusal(kind, peer)
        if self._timer is None:
            log.warning("refused a request that is not valid HTTP (%s)", kind)
            self._wait()
        else:
            self._unsaid += 1

    def close(self) -> None:
        """Logs the number of requests that were not logged yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._say(last=True)

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_SECONDS, self._say)

    def _say(self, *, last: bool = False) -> None:
        self._timer = None
        if self._unsaid:
            log.warning("refused %d more requests that are not valid HTTP", self._unsaid)
            self._unsaid = 0
            if not last:
                self._wait()
