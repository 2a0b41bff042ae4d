"""The application of `tallied.py` on a SQLite journal, with a fault that WRONG names, to see that it is found."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from statestream.broadcast.fanout import FanOut
from statestream.core.change import Change, new_tag
from statestream.core.errors import Unavailable
from statestream.journal import SqliteJournal
from statestream.journal.contract import Appended, Batch, number
from statestream.journal.sqlite import changes as sqlite_changes
from statestream.store.bus import Bus
from statestream.store.node_state import NodeState
from statestream.store.transaction import Transaction
from statestream.store.view import StoreView
from statestream.store.writer import Writer
from tests.apps import tallied

app = tallied.app
FAULTS: dict[str, Callable[[], None]] = {}
append, announce = SqliteJournal.append, Bus.announce


def fault(plant: Callable[[], None]) -> Callable[[], None]:
    FAULTS[plant.__name__] = plant
    return plant


def instead(kind: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(kind, name, function)


def every(times: int) -> Callable[[], bool]:
    """True each so many times that it is called."""
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls % times == 0

    return due


@fault
def acknowledges_what_is_never_written() -> None:
    """As if the node answered before the append, and was killed in between."""
    due = every(30)

    async def wrong(self: SqliteJournal, batch: Batch) -> list[Appended]:
        return number(batch, await self.head(), new_tag()) if due() else await append(self, batch)

    instead(SqliteJournal, "append", wrong)


@fault
def an_id_counts_twice_if_its_answer_was_lost() -> None:
    due = every(10)

    async def wrong(self: SqliteJournal, batch: Batch) -> list[Appended]:
        if not due():
            return await append(self, batch)
        entries = [replace_key(entry) for entry in batch.entries]
        await append(self, Batch(read=batch.read, versions=batch.versions, entries=entries))
        raise Unavailable("the answer was lost")

    instead(SqliteJournal, "append", wrong)


def replace_key(entry: Any) -> Any:
    return type(entry)(idempotency_key=None, digest=entry.digest, changes=entry.changes, at=entry.at)


@fault
def one_change_in_fifty_is_not_sent() -> None:
    add = FanOut.add

    def wrong(self: FanOut, changes: Sequence[Change]) -> None:
        add(self, [each for each in changes if each.version % 50])

    instead(FanOut, "add", wrong)


@fault
def the_loser_of_a_conflict_writes_what_it_has() -> None:
    """It takes over the versions of the others, but does not run its handlers again: what they have done is undone."""
    run = Writer._run
    last: dict[str, Any] = {}

    def wrong(self: Writer, batch: Sequence[Any]) -> Transaction:
        if last.get("batch") is batch:
            transaction: Transaction = last["transaction"]
            for name in transaction.based_on:
                transaction.based_on[name] = self._state.slices.version(name)
        else:
            last.update(batch=batch, transaction=run(self, batch))
        return last["transaction"]

    instead(Writer, "_run", wrong)


@fault
def changes_are_shown_before_they_are_durable() -> None:
    """One batch in thirty is then refused by the journal; others come after what another node has written."""
    known = NodeState.append
    due = every(30)
    shown: list[str] = []

    async def wrong(self: NodeState, entries: Any, versions: Any, value_of: Any, traced: Any) -> list[Appended]:
        tag = new_tag()
        batch = Batch(read=self.position, versions=versions, entries=entries)
        changes = [change for outcome in number(batch, self.position, tag) for change in outcome.changes]
        if changes:
            shown.append(tag)
            self.bus._tell(lambda listener: listener.changed(changes))
        if due():
            raise Unavailable("the disk is full")
        instead(sqlite_changes, "new_tag", lambda: tag)
        return await known(self, entries, versions, value_of, traced)

    def once(self: Bus, changes: Sequence[Change]) -> None:
        if changes[0].position.tag in shown:
            self._keep(changes)
        else:
            announce(self, changes)

    instead(NodeState, "append", wrong)
    instead(Bus, "announce", once)


@fault
def a_state_is_half_a_second_old() -> None:
    known = StoreView.snapshot
    kept: dict[Any, tuple[float, Any]] = {}

    def wrong(self: StoreView, selection: Any) -> Any:
        at, old = kept.get(selection, (0.0, None))
        if time.monotonic() - at > 0.5:
            at, old = kept[selection] = time.monotonic(), known(self, selection)
        return old

    instead(StoreView, "snapshot", wrong)


FAULTS[os.environ["WRONG"]]()
