"""`statestream conformance URL`: does a running server keep the protocol's promises?

Law: arguments, messages and exit codes only; the checks are the package's. Exit code 1: a promise was not kept.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from statestream.bench.dispatcher import Template
from statestream.bench.target import Target
from statestream.commands.asking import Headers, Url, explained
from statestream.conformance import Outcome, check_server, report
from statestream.errors import Malformed


def conformance(
    url: Url,
    action: Annotated[str, typer.Option(help="What changes something each time, like board/task_added.")],
    payload: Annotated[
        str, typer.Option(help="Its payload: JSON, with {n} for the number of the change, {run} for this run.")
    ] = "{}",
    key: Annotated[str | None, typer.Option(help="Its key, for an action of a keyed slice; may hold {n}.")] = None,
    slices: Annotated[
        str | None, typer.Option(help="What to follow: names, name/*, *; without it what the action changes.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A check to run, by its name; may be given again.")] = None,
    header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON, and nothing else.")] = False,
) -> None:
    """Checks whether a running server keeps the protocol's promises. It writes to it by the action.

    Exit code 0: it does. 1: a promise was not kept, or nobody is there.
    2: a wrong call.

    \b
    statestream conformance URL --action board/counted
    statestream conformance URL --action board/counted --only order --json
    """  # noqa: D301  # \b keeps the lines apart
    shown: list[str] = []

    def tell(outcome: Outcome) -> None:
        if outcome.check.section not in shown:
            shown.append(outcome.check.section)
            typer.echo(report.head(outcome.check.section))
        typer.echo(report.line(outcome))

    with explained(Malformed):
        target, template = Target.parse(url, slices, header or []), Template(type=action, payload=payload, key=key)
        template.body("run-", 1)
        quiet = (lambda _: None) if as_json else tell
        outcomes = asyncio.run(check_server(target, template, only=only or (), tell=quiet))
    typer.echo(json.dumps(report.as_json(url, outcomes)) if as_json else f"\n{report.summary(outcomes)}")
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)
