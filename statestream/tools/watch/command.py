"""`statestream watch URL`: its options, and the three ways of showing what comes: a picture, lines, JSON lines.

Invariants: pictures are made at most ten times a second, from what is held then. Lines are written as frames come.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from statestream.client.health import Health
from statestream.client.replica import Update
from statestream.protocol.sse import Event
from statestream.tools.bench.target import Target
from statestream.tools.commands.asking import Headers, Slices, Url, run, shown_url, target_of, write, write_json
from statestream.tools.commands.lines import change_line
from statestream.tools.commands.text import safe
from statestream.tools.watch.follow import Watching
from statestream.tools.watch.inline import WARM_SECONDS
from statestream.tools.watch.news import OPENINGS, QUIET, News
from statestream.tools.watch.picture import View, picture

if TYPE_CHECKING:
    from statestream.tools.watch.terminal import Terminal

BETWEEN_PICTURES: Final = 0.1
STILL: Final = 1.0
"""Seconds after which a picture is made though nothing has come: rates fall, health turns."""


def watch(
    url: Url,
    slices: Slices = None,
    header: Headers = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Each frame as a JSON line with its position, and nothing else.")
    ] = False,
) -> None:
    """Shows the state while it changes, what has just changed in it, and how the stream is. Ctrl-C ends it.

    Where stdout is no terminal it prints a line for each change instead.

    Exit code 0: you ended it. 1: the server said no, or is not there.
    2: a wrong call.

    \b
    statestream watch URL
    statestream watch URL --slices 'board,chat/*'
    statestream watch URL --json | jq -c 'select(.slice == "board") | .patches'
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    from statestream.tools.watch.terminal import Terminal  # only where there are terminals

    terminal = Terminal()
    run(_draw(target, terminal) if terminal.can_draw and not as_json else _print(target, as_json))


async def _draw(target: Target, terminal: Terminal) -> None:
    watching = Watching(target)
    news = News(watching.replica)

    def heard(event: Event, updates: Sequence[Update]) -> None:
        news.heard(event, updates, time.monotonic())

    async with watching.open(heard):
        with terminal.shown():
            await _keep_drawing(target, watching, news, terminal)


async def _keep_drawing(target: Target, watching: Watching, news: News, terminal: Terminal) -> None:
    drawn_at, drawn_size = 0.0, (0, 0)
    while not watching.over.is_set():
        now, size = time.monotonic(), terminal.size()
        fading = now - news.heard_at < WARM_SECONDS + 2 * BETWEEN_PICTURES
        if fading or size != drawn_size or now - drawn_at >= STILL:
            terminal.draw(picture(_view(target, watching, news, now), *size), size)
            drawn_at, drawn_size = now, size
        try:
            async with asyncio.timeout(BETWEEN_PICTURES):
                await watching.over.wait()
        except TimeoutError:
            continue


def _view(target: Target, watching: Watching, news: News, now: float) -> View:
    connection, replica = watching.connection, watching.replica
    changes, size = news.rate.at(now)
    return View(
        url=shown_url(target),
        slices=safe(target.slices or "every plain slice"),
        state=replica.state,
        versions=replica.versions,
        marks=news.marks.root,
        log=news.log,
        health=watching.pulse.health,
        is_open=connection.is_open,
        trouble=connection.trouble,
        position=replica.position,
        opening=news.opening,
        changes_per_second=changes,
        bytes_per_second=size,
        reconnects=max(0, connection.opened - 1),
        now=now,
    )


async def _print(target: Target, as_json: bool) -> None:
    watching = Watching(target, None if as_json else _tell)
    trouble: list[Exception] = []

    def heard(event: Event, _: Sequence[Update]) -> None:
        try:
            _line(event, as_json)
        except OSError as error:  # stdout is closed: this is no trouble of the connection's
            trouble.append(error)
            watching.over.set()

    async with watching.open(heard):
        await watching.over.wait()
        if trouble:
            raise trouble[0]


def _tell(health: Health) -> None:
    typer.echo(f"statestream: {health}", err=True)


def _line(event: Event, as_json: bool) -> None:
    if event.event in QUIET:
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
    said = f"opened: {frame.get('reason', 'resumed')}" if event.event in OPENINGS else event.event
    return [safe(f"-- {said} at {event.last_id}")]
