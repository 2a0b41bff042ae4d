"""`statestream record URL -o FILE` and `statestream replay FILE`: a stream kept, and played back.

Invariants: arguments, messages and exit codes only. What was recorded goes to stdout, everything about it to stderr.
"""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from statestream.client.recording import Frame, Recorder
from statestream.client.replaying import Replay
from statestream.client.replaying import replay as played
from statestream.client.replica import Update
from statestream.client.stream import Stream, connect
from statestream.tools.bench.target import Target
from statestream.tools.commands.asking import Headers, Slices, Url, explained, run, say, target_of
from statestream.tools.commands.serving import serve
from statestream.tools.commands.text import json_text, safe
from statestream.tools.playback import create_playback

LOOK_SECONDS: Final = 0.2
FIRST_SECONDS: Final = 10.0
"""Until when the first state must have come."""
OPERATIONS: Final = 3


def record(
    url: Url,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, like run.jsonl.")],
    slices: Slices = None,
    cause: Annotated[str, typer.Option(help="brief, or full for the payloads of the actions, too.")] = "brief",
    seconds: Annotated[float | None, typer.Option(help="For how long; else until Ctrl-C.", min=0.01)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it is there.")] = False,
    header: Headers = None,
) -> None:
    """Keeps a server's stream in a file: the state as it is, then every frame as it comes, over lost connections.

    It ends with Ctrl-C, after --seconds, or when the server says no for good.
    Whatever ends it, kill -9 too: the file is good up to its last whole line.
    Look at it with `statestream replay`.

    Exit code 0: you or --seconds ended it. 1: the server did, or the disk.
    2: a wrong call.

    \b
    statestream record URL -o run.jsonl
    statestream record URL -o room.jsonl --slices 'board,room/*' --seconds 60
    """  # noqa: D301  # a backspace: the lines below it stay lines
    target = target_of(url, slices, header)
    if cause not in ("brief", "full"):
        raise typer.BadParameter(f"expected brief or full, got {cause!r}", param_hint="--cause")
    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists; name another file, or say --force", param_hint="--output")
    run(_record(_stream(target, cause), output, seconds, force))


def _stream(target: Target, cause: str) -> Stream:
    names = None if target.slices is None else target.slices.split(",")
    return connect(str(target.url), slices=names, cause=cause, headers=target.headers, timeout=FIRST_SECONDS)


async def _record(connecting: Stream, output: Path, seconds: float | None, force: bool) -> None:
    """Until it is told to stop, or there is enough. Raises what ended it before that."""
    task, recorder = asyncio.current_task(), None
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        async with connecting as stream:
            recorder = stream.record(output, overwrite=force)
            say(f"recording into {output}; Ctrl-C ends it")
            async with asyncio.timeout(seconds):
                await _watched(stream, recorder)
    except (TimeoutError, asyncio.CancelledError):
        pass  # that is enough
    finally:
        say("nothing was recorded" if recorder is None else _sum(recorder))
    if recorder is not None:
        recorder.close()


async def _watched(stream: Stream, recorder: Recorder) -> None:
    """Says how it goes until the recording ends by itself. Raises what ended the stream."""
    with Console(stderr=True).status("") as status:
        while not recorder.closed:
            status.update(Text(f"{_sum(recorder)}, at {safe(stream.position or 'a gap')}, {stream.health}"))
            await asyncio.sleep(LOOK_SECONDS)
    if recorder.failure is None:
        async for _ in stream:  # it is over: what is left of it says why
            pass


def _sum(recorder: Recorder) -> str:
    return f"{recorder.frames:,} frames, {recorder.bytes:,} bytes, {recorder.seconds:,.1f} s in {recorder.path}"


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `statestream record` wrote.", exists=True)],
    speed: Annotated[float, typer.Option(help="2 is twice as fast as it was, inf as fast as it goes.")] = 1.0,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="P", help="Ends at a position (1042.k3v9x2m), or so many seconds in, with a plus (+12.5)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Each update as one JSON object in one line.")] = False,
    served: Annotated[
        bool, typer.Option("--serve", help="Serve it instead, from the beginning for each who connects.")
    ] = False,
    host: Annotated[str | None, typer.Option(help="With --serve: the address; else 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="With --serve: the port; else 8000; 0 takes a free one.", min=0, max=65535)
    ] = None,
) -> None:
    """Plays a recording back: prints what changed when it did, or serves it like the server that it came from.

    A line begins with the seconds since the beginning and the position.
    Both can be given to --until.
    With --serve any client follows http://HOST:PORT; its page shows the state.

    Exit code 0: it was played. 1: the file is no recording, or broken.
    2: a wrong call.

    \b
    statestream replay run.jsonl --speed 10
    statestream replay run.jsonl --speed inf --json --until 1042.k3v9x2m
    statestream replay run.jsonl --serve --port 8000
    """  # noqa: D301
    if served and as_json:
        raise typer.BadParameter("prints updates, --serve does not", param_hint="--json")
    if not served and (host is not None or port is not None):
        raise typer.BadParameter("goes with --serve", param_hint="--host" if host is not None else "--port")
    if not speed > 0:
        raise typer.BadParameter(f"expected a number above 0, or inf; got {speed:g}", param_hint="--speed")
    end = _until(until)
    with explained():
        if served:
            serve(create_playback(file, speed=speed, until=end), host or "127.0.0.1", 8000 if port is None else port)
        else:
            run(_replay(played(file, speed=speed, until=end), _json_line if as_json else _line))


def _until(text: str | None) -> str | float | None:
    """A position, or seconds. Positions may look like numbers: a plus tells them apart."""
    if text is None or not text.startswith("+"):
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"expected seconds like +12.5, got {text!r}", param_hint="--until") from None


async def _replay(replay: Replay, line: Callable[[Frame, Update, Replay], str]) -> None:
    frames = updates = 0
    with _bar(replay) as show:
        async for frame, changed in replay.frames():
            for update in changed:
                sys.stdout.write(line(frame, update, replay) + "\n")
            if changed and math.isfinite(replay.speed):
                sys.stdout.flush()
            frames, updates = frames + 1, updates + len(changed)
            show(frame.end)
    sys.stdout.flush()
    say(f"{frames:,} frames, {updates:,} updates, to {safe(replay.position or 'a gap')}")
    if replay.until is None and replay.recording.cut_off():
        say("the recording was cut off: the unfinished line at its end does not count")


@contextmanager
def _bar(replay: Replay) -> Iterator[Callable[[int], None]]:
    """How far it is, where somebody looks on who does not see the updates themselves."""
    if not sys.stderr.isatty() or sys.stdout.isatty():
        yield lambda _: None
        return
    with Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:  # else what goes to stdout would go to the terminal
        task = progress.add_task("replaying", total=replay.recording.size)
        yield lambda end: progress.update(task, completed=end)


def _line(frame: Frame, update: Update, replay: Replay) -> str:
    """`+12.345  1042.k3v9x2m  board  add /tasks/3, replace /count  board/task_added`"""
    what: str = update.kind
    if update.kind == "initial":
        what = f"initial ({safe(update.reason or '')}): {', '.join(map(safe, replay.state))}"
    elif update.kind == "patches":
        said = [f"{patch['op']} {patch['path'] or '/'}" for patch in update.patches[:OPERATIONS]]
        more = len(update.patches) - len(said)
        what = ", ".join(said) + (f" and {more:,} more" if more else "")
    cause = "" if update.cause is None else str(update.cause.get("type", ""))
    parts = (f"+{frame.at / 1000:.3f}", update.position, update.slice or "", what, cause)
    return "  ".join(safe(part) for part in parts if part)


def _json_line(frame: Frame, update: Update, replay: Replay) -> str:
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
