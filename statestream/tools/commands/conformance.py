"""`statestream conformance URL`: verifies that a running server, or with `--chat` its chat, keeps its promises.

Invariants: arguments, messages and exit codes only; `conformance/servers` and `conformance/chats` check. Exit codes 0
and 1 are a verdict, so a run without a verdict ends with another code.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.text import Text

from statestream.tools.commands.conformance_of_chats import CUTS, ChatWanted, check_the_chat
from statestream.tools.conformance import CHECKS, Check, Outcome, check_server, outcome_text
from statestream.tools.conformance.chats.check_chat import QUESTION
from statestream.tools.conformance.checks import select
from statestream.tools.console.exit_codes import NO_VERDICT, run, wrong_call
from statestream.tools.console.options import Headers, Json, Key, Payload, Url, shown_url, target_of
from statestream.tools.console.text import safe
from statestream.tools.template import ActionTemplate


def conformance(
    url: Url,
    action: Annotated[
        str | None, typer.Option(help="An action that changes something each time, such as board/task_added.")
    ] = None,
    payload: Payload = "{}",
    key: Key = None,
    slices: Annotated[
        str | None, typer.Option(help="The slices to follow: names, name/*, *. Default: what the action changes.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Check the server's chat: cut its clients off.")] = False,
    ask: Annotated[str | None, typer.Option(help="With --chat: the question to ask.")] = None,
    cuts: Annotated[int | None, typer.Option(min=1, help="With --chat: cuts per protocol. Default: 200.")] = None,
    seed: Annotated[int | None, typer.Option(help="With --chat: the seed of the cuts. Default: random.")] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="With --chat: approve tool calls that wait. Default: deny them.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="The name of a check or protocol. Repeatable.")] = None,
    header: Headers = None,
    as_json: Json = False,
) -> None:
    """Verifies that a running server keeps the protocol's promises. It writes to the server with the action.

    With --chat, it verifies that clients of the server's chat lose and repeat
    nothing, wherever they lose their connection. It asks questions in new
    chats, so it starts replies, for which your provider may charge.

    Exit code 0: every promise was kept. 1: at least one was not, or nothing
    could be checked: no server answered, or the action changes nothing.
    2: invalid usage. 3: no verdict, after Ctrl-C or if stdout was closed.

    \b
    statestream conformance URL --action board/counted
    statestream conformance URL --action board/counted --only order --json
    statestream conformance --chat URL --ask "Tell me a story." --only ag-ui
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    if chat:
        _refuse("--chat", action=action, key=key, slices=slices, payload=None if payload == "{}" else payload)
        wanted = ChatWanted(
            ask=QUESTION if ask is None else ask,
            cuts=CUTS if cuts is None else cuts,
            seed=secrets.randbelow(1 << 30) if seed is None else seed,
            approve=approve,
            only=only or (),
        )
        check_the_chat(target, wanted, as_json=as_json)
        return
    _refuse("a check without --chat", ask=ask, cuts=cuts, seed=seed, approve=approve or None)
    if action is None:
        raise typer.BadParameter("expected an action that changes something, or --chat", param_hint="--action")
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


def _refuse(what: str, **given: object) -> None:
    """Options that do not go with what was asked for are invalid usage."""
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"this option does not apply to {what}", param_hint=f"--{name}")


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
