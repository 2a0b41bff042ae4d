"""What `watch` shows on a terminal: a screen, drawn again while something in it changes.

Invariants: at most ten screens per second, whatever comes; a screen shows what the replica has at that moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from statestream.client.replica import Update
from statestream.protocol.sse import Event
from statestream.tools.console.options import shown_url
from statestream.tools.console.text import safe
from statestream.tools.target import Target
from statestream.tools.watch.activity import Activity
from statestream.tools.watch.screen import ScreenContent, screen
from statestream.tools.watch.terminal import Terminal
from statestream.tools.watch.value_line import WARM_SECONDS
from statestream.tools.watch.watched_server import WatchedServer

BETWEEN_SCREENS: Final = 0.1
IDLE_SECONDS: Final = 1.0
"""After how long a screen is drawn although nothing came: rates fall, and health changes."""


async def draw_changes(target: Target, terminal: Terminal) -> None:
    """Draws until something ends it."""
    watched = WatchedServer(target)
    activity = Activity(watched.replica)

    def on_event(event: Event, updates: Sequence[Update]) -> None:
        activity.received(event, updates, time.monotonic())

    async with watched.follow(on_event):
        with terminal.shown():
            await _keep_drawing(target, watched, activity, terminal)


async def _keep_drawing(target: Target, watched: WatchedServer, activity: Activity, terminal: Terminal) -> None:
    drawn_at, drawn_size = 0.0, (0, 0)
    while not watched.over.is_set():
        now, size = time.monotonic(), terminal.size()
        fading = now - activity.received_at < WARM_SECONDS + 2 * BETWEEN_SCREENS
        if fading or size != drawn_size or now - drawn_at >= IDLE_SECONDS:
            terminal.draw(screen(_content(target, watched, activity, now), *size), size)
            drawn_at, drawn_size = now, size
        try:
            async with asyncio.timeout(BETWEEN_SCREENS):
                await watched.over.wait()
        except TimeoutError:
            continue


def _content(target: Target, watched: WatchedServer, activity: Activity, now: float) -> ScreenContent:
    connection, replica = watched.connection, watched.replica
    changes, size = activity.rate.at(now)
    return ScreenContent(
        url=shown_url(target),
        slices=safe(target.slices or "every plain slice"),
        state=replica.state,
        versions=replica.versions,
        marks=activity.marks.root,
        log=activity.log,
        health=watched.monitor.health,
        is_open=connection.is_open,
        trouble=connection.trouble,
        position=replica.position,
        opened_with=activity.opened_with,
        changes_per_second=changes,
        bytes_per_second=size,
        reconnects=max(0, connection.opened - 1),
        now=now,
    )
