"""How well a stream is: by how long nothing has been heard of it, in heartbeats.

Invariants: time only. A server says something at least once a heartbeat, so silence is news.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal

log = logging.getLogger("statestream")

Health = Literal["healthy", "degraded", "failed"]
DEGRADED: Final = 1.5
FAILED: Final = 2.5
"""Heartbeats without a byte. At the second one the connection is taken for dead, and made anew."""


class Pulse:
    """`health` is `failed` until something is heard. `tell` is told of each turn."""

    def __init__(self, tell: Callable[[Health], None] | None) -> None:
        self.health: Health = "failed"
        self._tell = tell
        self._heard_at = 0.0
        self._heartbeat = 0.0
        self._look: asyncio.TimerHandle | None = None

    def heard(self, heartbeat: float) -> None:
        """Something came; the next is due within `heartbeat` seconds."""
        loop = asyncio.get_running_loop()
        self._heard_at, sooner = loop.time(), heartbeat < self._heartbeat
        self._heartbeat = heartbeat
        self._turn("healthy")
        if self._look is None or sooner:
            self._look_at(DEGRADED)

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._turn("failed")

    def _look_at(self, heartbeats: float) -> None:
        if self._look is not None:
            self._look.cancel()
        when = self._heard_at + heartbeats * self._heartbeat
        self._look = asyncio.get_running_loop().call_at(when, self._looked)

    def _looked(self) -> None:
        self._look = None
        silence = (asyncio.get_running_loop().time() - self._heard_at) / self._heartbeat
        if silence >= FAILED - 1e-6:
            self._turn("failed")
        elif silence >= DEGRADED - 1e-6:
            self._turn("degraded")
            self._look_at(FAILED)
        else:
            self._look_at(DEGRADED)

    def _turn(self, health: Health) -> None:
        if health == self.health:
            return
        self.health = health
        if self._tell is not None:
            try:
                self._tell(health)
            except Exception:
                log.exception("expected a callback for health that does not raise")
