"""`statestream conformance URL`: verifies that a running server keeps the protocol's promises.

Invariants: arguments, messages and exit codes only; `conformance/servers` checks. Exit codes 0 and 1 are a verdict, so
a run without a verdict ends with another code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Final, Self

import typer
from rich.console import Console
from rich.text import Text

from statestream.tools.conformance import CHECKS, Check, Outcome, check_server, outcome_text
from statestream.tools.conformance.checks import select
from statestream.tools.console.exit_codes import run, wrong_call
from statestream.tools.console.options import Headers, Json, Key, Payload, Url, shown_url, target_of
from statestream.tools.console.text import safe
from statestream.tools.template import ActionTemplate

NO_VERDICT: Final = 3


def conformance(
    url: Url,
    action: Annotated[str, typer.Option(help="An action that changes something each time, such as board/task_added.")],
    payload: Payload = "{}",
    key: Key = None,
    slices: Annotated[
        str | None, typer.Option(help="The slices to follow: names, name/*, *. Default: what the action changes.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="The name of a check to run. Repeatable.")] = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Verifies that a running server keeps the protocol's promises. It writes to the server with the action.

    Exit code 0: every promise was kept. 1: at least one was not, or nothing
    could be checked: no server answered, or the action changes nothing.
    2: invalid usage. 3: no verdict, after Ctrl-C or if stdout was closed.

    \b
    statestream conformance URL --action board/counted
    statestream conformance URL --action board/counted --only order --json
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    with wrong_call("--payload" if key is None else "--payload, --key"):
        ActionTemplate(type=action, payload=payload, key=key).body("run-", 1)
    with wrong_call("--only"):
        checks = select(CHECKS, only or ())

    async def work() -> bool:
        with _Printer(checks, shown_url(target), as_json) as printer:
            outcomes = await check_server(
                str(target.url),
                action=action,
                payload=payload,
                key=key,
                slices=None if slices is None else slices.split(","),
                headers=target.headers,
                only=only or (),
                tell=printer.outcome,
            )
        printer.summary(outcomes)
        return all(outcome.passed for outcome in outcomes)

    if not run(work(), interrupted=NO_VERDICT, unwritable=NO_VERDICT):
        raise typer.Exit(1)


class _Printer:
    """Prints outcomes as they come, and on a terminal the check that is running."""

    def __init__(self, checks: Sequence[Check], url: str, as_json: bool) -> None:
        self._pending, self._url, self._as_json = list(checks), url, as_json
        self._section = ""
        self._status = Console(stderr=True).status("") if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self._show_running()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def outcome(self, outcome: Outcome) -> None:
        if self._status is not None:
            self._status.stop()  # while it runs, rich redirects stdout to its own console
        self._pending.pop(0)
        if not self._as_json:
            self._print(outcome)
        self._show_running()

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        if self._as_json:
            typer.echo(json.dumps(outcome_text.as_json(self._url, outcomes)))
        else:
            typer.echo(f"\n{outcome_text.summary(outcomes)}")

    def _print(self, outcome: Outcome) -> None:
        if outcome.check.section != self._section:
            self._section = outcome.check.section
            typer.echo(f"\n{self._section}")
        for line in outcome_text.lines(outcome):
            typer.echo(safe(line))

    def _show_running(self) -> None:
        if self._status is not None and self._pending:
            words = f"{self._pending[0].name}: {self._pending[0].promise}"
            self._status.update(Text(words, no_wrap=True, overflow="ellipsis"))
            self._status.start()
