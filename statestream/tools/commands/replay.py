"""`statestream replay FILE`: prints a recording's updates when they are due, or serves the recording.

Invariants: arguments, messages and exit codes only. Updates go to stdout, everything about them to stderr.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import Progress

from statestream.client.recording.lines import RecordedFrame
from statestream.client.recording.replay import Replay
from statestream.client.recording.replay import replay as open_replay
from statestream.client.replica import Update
from statestream.tools.console import serving
from statestream.tools.console.exit_codes import errors_explained, run
from statestream.tools.console.options import Insecure, Json
from statestream.tools.console.output import notice
from statestream.tools.console.text import json_text, safe
from statestream.tools.playback import create_playback

MAX_OPERATIONS: Final = 3


def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A recording made by `statestream record`.", exists=True)
    ],
    speed: Annotated[float, typer.Option(help="2 is twice the recorded pace, inf is without pauses.")] = 1.0,
    until: Annotated[
        str | None,
        typer.Option(metavar="P", help="Stop at a position (1042.k3v9x2m), or after seconds with a plus (+12.5)."),
    ] = None,
    as_json: Json = False,
    served: Annotated[
        bool, typer.Option("--serve", help="Serve it instead; each client starts at the beginning.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="With --serve: the address. Default: 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="With --serve: the port; 0 picks a free one. Default: 8000.", min=0, max=65535)
    ] = None,
    insecure: Insecure = False,
) -> None:
    """Plays a recording: prints each update when it is due, or serves it like the server that was recorded.

    A line begins with the seconds since the beginning and the position.
    Both can be passed to --until.
    With --json each update is a JSON object in one line.
    With --serve any client can follow http://HOST:PORT; its page shows the state.

    Exit code 0: it was played. 1: the file is not a recording, or is damaged.
    2: invalid usage.

    \b
    statestream replay run.jsonl --speed 10
    statestream replay run.jsonl --speed inf --json --until 1042.k3v9x2m
    statestream replay run.jsonl --serve --port 8000
    """  # noqa: D301  # \b keeps the lines apart
    if served and as_json:
        raise typer.BadParameter("has no effect with --serve, which prints no updates", param_hint="--json")
    if not served and (host is not None or port is not None or insecure):
        option = "--host" if host is not None else "--port" if port is not None else "--insecure"
        raise typer.BadParameter("goes with --serve", param_hint=option)
    if not speed > 0:
        raise typer.BadParameter(f"expected a number above 0, or inf; got {speed:g}", param_hint="--speed")
    end = _until(until)
    with errors_explained():
        if served:
            application = create_playback(file, speed=speed, until=end)
            serving.serve(application, host or "127.0.0.1", 8000 if port is None else port, secure=insecure)
        else:
            run(_print(open_replay(file, speed=speed, until=end), _json_line if as_json else _line))


def _until(text: str | None) -> str | float | None:
    """A position, or seconds. Some positions look like numbers, so seconds have a plus."""
    if text is None or not text.startswith("+"):
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected seconds such as +12.5, got {text!r}", param_hint="--until") from None


async def _print(replay: Replay, line: Callable[[RecordedFrame, Update, Replay], str]) -> None:
    frames = updates = 0
    with _progress(replay) as advance:
        async for frame, changed in replay.frames():
            for update in changed:
                sys.stdout.write(line(frame, update, replay) + "\n")
            if changed and math.isfinite(replay.speed):
                sys.stdout.flush()  # a person may watch a paced replay; without pauses, flushing only costs time
            frames, updates = frames + 1, updates + len(changed)
            advance(frame.end)
    sys.stdout.flush()
    notice(f"{frames:,} frames, {updates:,} updates, to {safe(replay.position or 'a gap')}")
    if replay.until is None and replay.recording.cut_off():
        notice("the recording was cut off: the incomplete line at its end does not count")


@contextmanager
def _progress(replay: Replay) -> Iterator[Callable[[int], None]]:
    """A progress bar, if stderr is a terminal and the updates do not appear on a terminal themselves."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda _: None
        return
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:  # without these arguments rich would redirect stdout to the terminal
        task = progress.add_task("replaying", total=replay.recording.size)
        yield lambda end: progress.update(task, completed=end)


def _line(frame: RecordedFrame, update: Update, replay: Replay) -> str:
    """`+12.345  1042.k3v9x2m  board  add /tasks/3, replace /count  board/task_added`"""
    what: str = update.kind
    if update.kind == "initial":
        what = f"initial ({safe(update.reason or '')}): {', '.join(map(safe, replay.state))}"
    elif update.kind == "patches":
        shown = [f"{patch['op']} {patch['path'] or '/'}" for patch in update.patches[:MAX_OPERATIONS]]
        more = len(update.patches) - len(shown)
        what = ", ".join(shown) + (f" and {more:,} more" if more else "")
    cause = "" if update.cause is None else str(update.cause.get("type", ""))
    parts = (f"+{frame.at / 1000:.3f}", update.position, update.slice or "", what, cause)
    return "  ".join(safe(part) for part in parts if part)


def _json_line(frame: RecordedFrame, update: Update, replay: Replay) -> str:
    what: dict[str, Any] = {"at": frame.at, "position": update.position, "kind": update.kind}
    if update.kind == "initial":
        what |= {"reason": update.reason, "slices": replay.state, "versions": replay.versions}
    else:
        what |= {"slice": update.slice, "version": update.version}
    if update.kind == "patches":
        what["patches"] = update.patches
    elif update.kind == "value":
        what["value"] = replay.state.get(update.slice or "")
    if update.cause is not None:
        what["cause"] = update.cause
    return json_text(orjson.dumps(what | {"timestamp": update.timestamp})).decode()
