"""`statestream bench URL`: puts a load on a running server and measures it.

Invariants: arguments, messages and exit codes only; `tools/bench` measures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import typer

from statestream.core.errors import Malformed, TooLarge
from statestream.tools.bench import report_text
from statestream.tools.bench.measurement import Plan, measure
from statestream.tools.bench.progress import progress_display
from statestream.tools.console.exit_codes import errors_explained, run
from statestream.tools.console.options import Headers, Json, Key, Payload, Url
from statestream.tools.console.output import notice
from statestream.tools.console.serving import loop_factory
from statestream.tools.target import Target
from statestream.tools.template import ActionTemplate


def bench(
    url: Url,
    action: Annotated[
        str | None, typer.Option(help="The action to dispatch, such as board/task_added. Default: none, only listen.")
    ] = None,
    payload: Payload = "{}",
    key: Key = None,
    slices: Annotated[
        str | None, typer.Option(help="The slices to follow: names, name/*, *. Default: every plain slice.")
    ] = None,
    readers: Annotated[int, typer.Option(help="How many readers to open.", min=1)] = 1_000,
    rate: Annotated[float, typer.Option(help="Changes per second.", min=0.01, max=100_000)] = 20.0,
    seconds: Annotated[float, typer.Option(help="How long to send or listen.", min=0.1, max=86_400)] = 10.0,
    processes: Annotated[
        str, typer.Option(help="How many processes read. auto: one per 250 readers, and a core is left to the server.")
    ] = "auto",
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Measures a server under load: many readers, changes at a given rate, and when each change arrives.

    The changes are real: they stay in the server's journal.

    Exit code 0: every change was accepted and delivered.
    1: at least one was not, or the measurement was interrupted.
    2: invalid usage, or more readers than possible.

    \b
    statestream bench URL --readers 1000
    statestream bench URL --action board/counted --rate 50 --seconds 30 --json
    statestream bench URL --action board/renamed --payload '{"title": "{n}"}'
    """  # noqa: D301  # \b keeps the lines apart
    if action is None and (key is not None or payload != "{}"):
        raise typer.BadParameter("goes with --action", param_hint="--key" if key is not None else "--payload")
    if processes != "auto" and not (processes.isdecimal() and int(processes)):
        raise typer.BadParameter(f"expected auto or a number, got {processes!r}", param_hint="--processes")
    with errors_explained(Malformed, TooLarge):
        plan = Plan(
            target=Target.parse(url, slices, header or []),
            template=ActionTemplate(type=action, payload=payload, key=key) if action is not None else None,
            readers=readers,
            rate=rate,
            seconds=seconds,
            processes=None if processes == "auto" else int(processes),
        )

    async def work() -> Sequence[str]:
        with errors_explained(Malformed, TooLarge), progress_display() as display:
            report = await measure(plan, display)
        typer.echo(json.dumps(report) if as_json else report_text.text(report))
        problems: Sequence[str] = report["problems"]
        return problems

    # A run that was interrupted, or whose report could not be written, is not a success.
    problems = run(work(), interrupted=1, unwritable=1, loop_factory=loop_factory())
    for problem in problems:
        notice(problem)
    if problems:
        raise typer.Exit(1)
