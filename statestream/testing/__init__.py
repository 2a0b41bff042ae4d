"""Tests for others to use: what every journal must pass, every server, and every client.

    class TestMyJournal(JournalContract):
        async def make(self, retention): return MyJournal(..., retention=retention)
        async def reopen(self, journal): await journal.close(); return the same data, opened anew

    TestMyMachine = journal_machine(make, reopen).TestCase

    outcomes = await check_server("http://127.0.0.1:8000", action="board/counted")
    outcomes = await check_client(run)

Invariants: nothing of statestream imports this. It can be imported without any extra: what needs one says so when it is
used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from statestream.journal.contract import Journal, Retention
from statestream.testing.journals import JournalContract, entry, keep, patches, plain, raised, removed, value, write
from statestream.tools.conformance import CHECKS, Check, Holding, Outcome, check_client, check_server

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

__all__ = [
    "CHECKS",
    "Check",
    "Holding",
    "JournalContract",
    "Outcome",
    "check_client",
    "check_server",
    "entry",
    "journal_machine",
    "keep",
    "patches",
    "plain",
    "raised",
    "removed",
    "value",
    "write",
]


def journal_machine(
    make: Callable[[Retention], Awaitable[Journal]], reopen: Callable[[Journal], Awaitable[Journal]]
) -> type[RuleBasedStateMachine]:
    """A Hypothesis machine that compares a journal with a list. `make` and `reopen` as in JournalContract.

    Needs the extra `testing`. Raises ImportError where it is missing.
    """
    try:
        from statestream.testing.machine import machine
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ImportError("expected hypothesis: install statestream with its extra testing") from None
    return machine(make, reopen)
