"""`statestream record URL -o FILE`: records a server's stream.

Invariants: arguments, messages and exit codes only. Everything is written to the file or to stderr.
"""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from statestream.client.recording.recorder import StreamRecorder
from statestream.client.stream import Stream, connect
from statestream.tools.console.exit_codes import run
from statestream.tools.console.options import Headers, Slices, Url, target_of
from statestream.tools.console.output import notice
from statestream.tools.console.requests import reach
from statestream.tools.console.text import safe
from statestream.tools.target import Target

REFRESH_SECONDS: Final = 0.2
FIRST_STATE_SECONDS: Final = 40.0
"""Time for a second attempt, after a network has swallowed the first."""


def record(
    url: Url,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write, such as run.jsonl.")],
    slices: Slices = None,
    cause: Annotated[str, typer.Option(help="brief, or full to include the payloads of actions.")] = "brief",
    seconds: Annotated[float | None, typer.Option(help="How long to record. Default: until Ctrl-C.", min=0.01)] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    header: Headers = None,
) -> None:
    """Records a server's stream: the current state, then every frame as it arrives, across lost connections.

    It ends with Ctrl-C, after --seconds, or when the server refuses for good.
    Whatever ends it, even kill -9: the file is good up to its last whole line.
    Play it with `statestream replay`.

    Exit code 0: you or --seconds ended it. 1: the server or the disk did.
    2: invalid usage.

    \b
    statestream record URL -o run.jsonl
    statestream record URL -o room.jsonl --slices 'board,room/*' --seconds 60
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    if cause not in ("brief", "full"):
        raise typer.BadParameter(f"expected brief or full, got {cause!r}", param_hint="--cause")
    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists; use another file, or --force", param_hint="--output")
    run(_record(target, _stream(target, cause), output, seconds, force))


def _stream(target: Target, cause: str) -> Stream:
    names = None if target.slices is None else target.slices.split(",")
    return connect(str(target.url), slices=names, cause=cause, headers=target.headers, timeout=FIRST_STATE_SECONDS)


async def _record(target: Target, connecting: Stream, output: Path, seconds: float | None, force: bool) -> None:
    """Records until a signal or a timeout. Raises what ended the recording before that."""
    task, recorder = asyncio.current_task(), None
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await reach(target)
        async with connecting as stream:
            recorder = stream.record(output, overwrite=force)
            notice(f"recording into {output}; Ctrl-C ends it")
            async with asyncio.timeout(seconds):
                await _watch(stream, recorder)
    except (TimeoutError, asyncio.CancelledError):
        pass  # both are the intended ends
    finally:
        notice("nothing was recorded" if recorder is None else _summary(recorder))
    if recorder is not None:
        recorder.close()


async def _watch(stream: Stream, recorder: StreamRecorder) -> None:
    """Shows the progress until the recording ends by itself. Raises what ended the stream."""
    with Console(stderr=True).status("") as status:
        while not recorder.closed:
            status.update(Text(f"{_summary(recorder)}, at {safe(stream.position or 'a gap')}, {stream.health}"))
            await asyncio.sleep(REFRESH_SECONDS)
    if recorder.failure is None:
        async for _ in stream:  # the stream is over, so this only drains it, and then raises the reason
            pass


def _summary(recorder: StreamRecorder) -> str:
    return f"{recorder.frames:,} frames, {recorder.bytes:,} bytes, {recorder.seconds:,.1f} s in {recorder.path}"
