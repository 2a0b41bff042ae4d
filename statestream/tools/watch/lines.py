"""What `watch` prints to a stdout that is not a terminal: a line for each change, or each frame as JSON.

Invariants: lines are written as the frames arrive.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import orjson
import typer

from statestream.client.health import Health
from statestream.client.replica import Update
from statestream.protocol.sse import Event
from statestream.tools.console.change_lines import change_line
from statestream.tools.console.output import write, write_json
from statestream.tools.console.text import safe
from statestream.tools.target import Target
from statestream.tools.watch.activity import FIRST_EVENTS, QUIET_EVENTS
from statestream.tools.watch.watched_server import WatchedServer


async def print_changes(target: Target, as_json: bool) -> None:
    """Prints until something ends it. Raises OSError if stdout accepts no more."""
    watched = WatchedServer(target, None if as_json else _print_health)
    failures: list[OSError] = []

    def on_event(event: Event, _: Sequence[Update]) -> None:
        try:
            _print(event, as_json)
        except OSError as error:  # stdout is closed; raised here, it would look like a failure of the connection
            failures.append(error)
            watched.over.set()

    async with watched.follow(on_event):
        watched.connection.on_lost = None if as_json else _print_lost
        await watched.over.wait()
        if failures:
            raise failures[0]


def _print_health(health: Health) -> None:
    typer.echo(f"statestream: {health}", err=True)


def _print_lost(trouble: str) -> None:
    typer.echo(f"statestream: lost, reconnecting: {safe(trouble)}", err=True)


def _print(event: Event, as_json: bool) -> None:
    if event.event in QUIET_EVENTS:
        return
    frame = orjson.loads(event.data)
    if as_json:
        write_json(orjson.dumps({"position": event.last_id} | frame))
    else:
        for line in _lines(event, frame):
            write(line.encode())
    sys.stdout.flush()


def _lines(event: Event, frame: Any) -> list[str]:
    size = len(event.data.encode())
    if event.event == "state.update":
        return [change_line({"position": event.last_id} | frame, size)]
    if event.event == "state.catchup":
        more = {"position": event.last_id, "timestamp": frame["timestamp"], "cause": {"type": "caught up"}}
        return [change_line(update | more, size) for update in frame["updates"]]
    what = f"opened: {frame.get('reason', 'resumed')}" if event.event in FIRST_EVENTS else event.event
    return [safe(f"-- {what} at {event.last_id}")]
