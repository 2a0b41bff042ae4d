"""The health of a stream: how long nothing has been received, measured in heartbeats.

Invariants: time is the only input. A server sends something at least once per heartbeat, so silence is a symptom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Literal

from statestream.core.functions import check_plain

log = logging.getLogger("statestream")

Health = Literal["healthy", "degraded", "failed"]
DEGRADED: Final = 1.5
FAILED: Final = 2.5
"""Heartbeats without a byte. After FAILED the connection counts as dead, and the client reconnects."""
ROUNDING: Final = 1e-6
"""A timer may fire a little early, by the resolution of the clock."""


class HeartbeatMonitor:
    """`health` is `failed` until the first heartbeat. `on_change`, a plain function, is called with each new value."""

    def __init__(self, on_change: Callable[[Health], None] | None) -> None:
        if on_change is not None:
            check_plain(on_change, "`on_health`", "which may start a task")
        self.health: Health = "failed"
        self._on_change = on_change
        self._received_at = 0.0
        self._heartbeat = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def received(self, heartbeat: float) -> None:
        """Something was received; the next bytes are due within `heartbeat` seconds."""
        loop = asyncio.get_running_loop()
        self._received_at, sooner = loop.time(), heartbeat < self._heartbeat
        self._heartbeat = heartbeat
        self._set("healthy")
        # A running timer is left alone, because this is called for every chunk: when it fires, it looks again.
        if self._timer is None or sooner:
            self._schedule(DEGRADED)

    def stop(self) -> None:
        """The stream has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set("failed")

    def _schedule(self, heartbeats: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self._received_at + heartbeats * self._heartbeat
        self._timer = asyncio.get_running_loop().call_at(when, self._check)

    def _check(self) -> None:
        self._timer = None
        silence = (asyncio.get_running_loop().time() - self._received_at) / self._heartbeat
        if silence >= FAILED - ROUNDING:
            self._set("failed")
        elif silence >= DEGRADED - ROUNDING:
            self._set("degraded")
            self._schedule(FAILED)
        else:
            self._schedule(DEGRADED)

    def _set(self, health: Health) -> None:
        if health == self.health:
            return
        self.health = health
        if self._on_change is not None:
            try:
                self._on_change(health)
            except Exception:  # a bug of the program must not end the stream
                log.exception("the callback for health raised")
