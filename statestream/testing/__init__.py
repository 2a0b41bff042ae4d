"""Tests for others to use: what every journal, every server, every chat and every client must pass.

    class TestMyJournal(JournalContract):
        async def make(self, retention): return MyJournal(..., retention=retention)
        async def reopen(self, journal): await journal.close(); return the same data, opened again

    TestMyMachine = journal_machine(make, reopen).TestCase

    outcomes = await check_server("http://127.0.0.1:8000", action="board/counted")
    outcomes = await check_chat("http://127.0.0.1:8000", cuts=200)
    outcomes = await check_client(run)

Invariants: nothing in statestream imports this package. It can be imported without any extra: what needs an extra says
so when it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from statestream.journal.contract import Journal, Retention
from statestream.testing.contract import JournalContract
from statestream.tools.conformance import Check, ClientState, Outcome, check_chat, check_client, check_server

if TYPE_CHECKING:
    from hypothesis.stateful import RuleBasedStateMachine

__all__ = [
    "Check",
    "ClientState",
    "JournalContract",
    "Outcome",
    "check_chat",
    "check_client",
    "check_server",
    "journal_machine",
]


def journal_machine(
    make: Callable[[Retention], Awaitable[Journal]], reopen: Callable[[Journal], Awaitable[Journal]]
) -> type[RuleBasedStateMachine]:
    """Returns a Hypothesis machine that compares a journal with a list. `make` and `reopen` are as in JournalContract.

    It needs the extra `testing`. Raises ImportError if that is not installed.
    """
    try:
        from statestream.testing.machine import machine
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        raise ImportError(
            "hypothesis is not installed; it comes with the extra testing: pip install '.[testing]' in the checkout"
        ) from None
    return machine(make, reopen)
