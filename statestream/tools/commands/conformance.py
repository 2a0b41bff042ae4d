"""`statestream conformance URL`: does a running server keep the protocol's promises?

Invariants: arguments, messages and exit codes only; the checks are the package's. Exit code 0 and 1 are a verdict, so a
run that did not come to one ends with another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Final, Self

import typer
from rich.console import Console
from rich.text import Text

from statestream.tools.bench.dispatcher import Template
from statestream.tools.commands.asking import Headers, Url, as_wrong_call, run, shown_url, target_of
from statestream.tools.commands.text import safe
from statestream.tools.conformance import CHECKS, Check, Outcome, check_server, chosen, report

NO_VERDICT: Final = 3


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

    Exit code 0: every promise was kept. 1: one was not, or there was
    nothing to check: no server, or an action that changes nothing.
    2: a wrong call. 3: no verdict: Ctrl-C, or stdout took no more.

    \b
    statestream conformance URL --action board/counted
    statestream conformance URL --action board/counted --only order --json
    """  # noqa: D301  # a backspace: the lines below it stay lines
    target = target_of(url, slices, header)
    with as_wrong_call("--payload" if key is None else "--payload, --key"):
        Template(type=action, payload=payload, key=key).body("run-", 1)
    with as_wrong_call("--only"):
        checks = chosen(CHECKS, only or ())

    async def work() -> bool:
        with Onlookers(checks, shown_url(target), as_json) as onlookers:
            outcomes = await check_server(
                str(target.url),
                action=action,
                payload=payload,
                key=key,
                slices=None if slices is None else slices.split(","),
                headers=target.headers,
                only=only or (),
                tell=onlookers.tell,
            )
        onlookers.end(outcomes)
        return all(outcome.passed for outcome in outcomes)

    if not run(work(), interrupted=NO_VERDICT, cut=NO_VERDICT):
        raise typer.Exit(1)


class Onlookers:
    """What is printed as it goes, and on a terminal which check is under way. `with Onlookers(…) as onlookers:`."""

    def __init__(self, checks: Sequence[Check], url: str, as_json: bool) -> None:
        self._left, self._url, self._as_json = list(checks), url, as_json
        self._section = ""
        self._status = Console(stderr=True).status("") if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self._say()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def tell(self, outcome: Outcome) -> None:
        if self._status is not None:
            self._status.stop()  # while it runs it takes stdout for its own
        self._left.pop(0)
        if not self._as_json:
            self._print(outcome)
        self._say()

    def end(self, outcomes: Sequence[Outcome]) -> None:
        typer.echo(
            json.dumps(report.as_json(self._url, outcomes)) if self._as_json else f"\n{report.summary(outcomes)}"
        )

    def _print(self, outcome: Outcome) -> None:
        if outcome.check.section != self._section:
            self._section = outcome.check.section
            typer.echo(f"\n{self._section}")
        for line in report.lines(outcome):
            typer.echo(safe(line))

    def _say(self) -> None:
        if self._status is not None and self._left:
            words = f"{self._left[0].name}: {self._left[0].promise}"
            self._status.update(Text(words, no_wrap=True, overflow="ellipsis"))
            self._status.start()
