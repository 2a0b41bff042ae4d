"""Heartbeats: every stream sends something at least once per period.

Invariants: one timer for all. Each group has its own slot in the period, so that heartbeats do not fall into one
iteration of the event loop, and their work in an iteration is bounded.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from statestream.broadcast.fanout import ITERATION_SECONDS, FanOut
from statestream.broadcast.groups import SLOTS, SubscriberGroups
from statestream.protocol import frames
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

TICKS: Final = 8
"""How often in a period each group is looked at. A group that was silent for TICKS - 2 of them is sent a heartbeat."""


class Heartbeats:
    """`period` in seconds."""

    def __init__(self, view: StoreView, groups: SubscriberGroups, fanout: FanOut, period: float) -> None:
        self._view, self._groups, self._fanout, self._period = view, groups, fanout, period

    async def run(self) -> None:
        """Sends heartbeats until cancelled."""
        while True:
            for slot in range(SLOTS):
                await asyncio.sleep(self._period / TICKS / SLOTS)
                try:
                    await self._beat(slot)
                except Exception:
                    log.exception("a heartbeat failed; the next one is sent all the same")

    async def _beat(self, slot: int) -> None:
        """A heartbeat to every group of the slot that would otherwise be silent for longer than the period."""
        loop = asyncio.get_running_loop()
        until = loop.time() + ITERATION_SECONDS
        for group in self._groups.in_slot(slot):
            now = loop.time()
            if group.wrote_at > now - self._period * (TICKS - 2) / TICKS:
                continue
            if now > until:
                await asyncio.sleep(0)
                until = loop.time() + ITERATION_SECONDS
            self._fanout.flush(group, now)  # first, because the heartbeat's id covers the changes before it
            if group.owes:
                continue  # the owed frames show that the stream is alive
            self._fanout.write(group, frames.heartbeat(self._view.position), now)
