"""`statestream conformance --chat URL`: the outcomes of cutting clients of a chat, printed.

Invariants: messages and exit codes only; `conformance/chats` checks. The seed is printed before anything can fail.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final, Self

import typer
from msgspec import Struct
from rich.console import Console

from statestream.tools.conformance import Outcome, check_chat, outcome_text
from statestream.tools.conformance.chats.protocols import PROTOCOLS
from statestream.tools.conformance.checks import select
from statestream.tools.console.exit_codes import NO_VERDICT, run, wrong_call
from statestream.tools.console.options import shown_url
from statestream.tools.console.text import safe
from statestream.tools.target import Target

CUTS: Final = 200


class ChatWanted(Struct, frozen=True, kw_only=True):
    """What is to be checked, as in `check_chat`."""

    ask: str
    cuts: int
    seed: int
    approve: bool
    only: Sequence[str]


def check_the_chat(target: Target, wanted: ChatWanted, *, as_json: bool) -> None:
    """Checks, and prints the outcomes. Raises typer.Exit with 1 if a promise was broken, or nothing was checked."""
    with wrong_call("--only"):
        select(PROTOCOLS, wanted.only)
    if not wanted.ask.strip():
        raise typer.BadParameter("expected a question, got a blank one", param_hint="--ask")

    async def work() -> bool:
        if not as_json:
            typer.echo(f"{wanted.cuts:,} cuts for each protocol, with --seed {wanted.seed}")
        with _Progress() as progress:
            outcomes = await check_chat(
                str(target.url),
                ask=wanted.ask,
                cuts=wanted.cuts,
                seed=wanted.seed,
                approve=wanted.approve,
                headers=target.headers,
                only=wanted.only,
                tell=progress.show,
            )
        _print(target, wanted, outcomes, as_json=as_json)
        return all(outcome.passed for outcome in outcomes)

    if not run(work(), interrupted=NO_VERDICT, unwritable=NO_VERDICT):
        raise typer.Exit(1)


def _print(target: Target, wanted: ChatWanted, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**outcome_text.as_json(shown_url(target), outcomes), "seed": wanted.seed}))
        return
    section = ""
    for outcome in outcomes:
        if outcome.check.section != section:
            section = outcome.check.section
            typer.echo(f"\n{section}")
        for line in outcome_text.lines(outcome):
            typer.echo(safe(line))
    typer.echo(f"\n{outcome_text.summary(outcomes)}")


class _Progress:
    """Shows on a terminal how many replies and cuts there were."""

    def __init__(self) -> None:
        self._status = Console(stderr=True).status("") if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self.show(0, 0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, replies: int, cuts: int) -> None:
        if self._status is not None:
            self._status.update(f"{replies:,} replies, {cuts:,} cuts")
            self._status.start()
