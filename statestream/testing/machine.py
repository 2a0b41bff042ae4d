"""A journal against a list: Hypothesis tries operations on both, step by step, and compares them.

It needs hypothesis.

Invariants: as in `contract`: only promises of the contract, through its own methods and History.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from statestream.core.change import START, Change, PendingChange, Position
from statestream.core.erasing import without_erased
from statestream.core.errors import Expired, Forked
from statestream.core.folding import Merged
from statestream.core.patch import apply_patch
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Batch, Checkpoints, Conflict, Duplicate, Erasable, Foldable, Journal, Retention
from statestream.journal.history import Held, History, advance
from statestream.testing.journals import SMALL, changes_after, entry, fold, patches, plain, raised, removed, step, value

NAMES = st.sampled_from(["a", "b", "r/1", "r/2"])
IDS = st.sampled_from(["i", "j", "k", None])
SELECTIONS = st.sampled_from([EVERYTHING, Selection.family("r"), Selection(names=frozenset(("a", "r/2")))])


def machine(  # noqa: C901  # one class, created for each journal
    make: Callable[[Retention], Awaitable[Journal]], reopen: Callable[[Journal], Awaitable[Journal]]
) -> type[RuleBasedStateMachine]:
    """What `statestream.testing.journal_machine` returns."""

    class JournalMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.changes: list[Change] = []
            self.values: dict[str, Any] = {}
            self.versions: dict[str, int] = {}
            self.dirty: set[str] = set()
            self.records: dict[str, tuple[Position, str, int]] = {}
            self.earliest = 0
            self.checkpoints: dict[int, Held] = {0: {}}
            """What they have of the slices."""

        def do(self, work: Awaitable[Any]) -> Any:
            return self.loop.run_until_complete(_awaited(work))

        @initialize()
        def begin(self) -> None:
            self.journal = self.do(make(SMALL))

        @property
        def history(self) -> History:
            return History(self.journal)

        @property
        def head(self) -> Position:
            return self.changes[-1].position if self.changes else START

        def position(self, seq: int) -> Position:
            return self.changes[seq - 1].position if seq else START

        @rule(name=NAMES, n=st.integers(0, 9), id=IDS, twice=st.booleans())
        def append(self, name: str, n: int, id: str | None, twice: bool) -> None:
            pending = [self._pending(name, n)]
            if twice and pending[0].kind != "removed":
                pending.append(step(name, {"op": "add", "path": "/0", "value": n}))
            versions = {name: self.versions.get(name, 0)}
            batch = Batch(read=self.head, versions=versions, entries=[entry(*pending, id=id)])
            if id in self.records:
                error = self.do(raised(Duplicate, self.journal.append(batch)))
                position, _, count = self.records[id]
                assert error.records[("ada", id)].position == position
                assert len(error.records[("ada", id)].changes) == count
                return
            [outcome] = self.do(self.journal.append(batch))
            assert [c.version for c in outcome.changes] == [self.head.seq + 1 + i for i in range(len(pending))]
            for change in outcome.changes:
                self._apply(change)
            if id is not None:
                self.records[id] = (outcome.position, name, len(pending))

        def _pending(self, name: str, n: int) -> PendingChange:
            if name not in self.versions:
                return value(name, [n])
            make = step if n % 2 else patches
            return removed(name) if n == 0 else make(name, {"op": "add", "path": "/0", "value": n})

        def _apply(self, change: Change) -> None:
            assert change.from_version == self.versions.get(change.slice, 0)
            self.changes.append(change)
            self.dirty.add(change.slice)
            if change.kind == "removed":
                del self.values[change.slice], self.versions[change.slice]
                return
            held = copy.deepcopy(self.values.get(change.slice))
            self.values[change.slice] = change.value if change.kind == "value" else apply_patch(held, change.patches)
            self.versions[change.slice] = change.version

        @precondition(lambda self: isinstance(self.journal, Erasable))
        @rule(name=NAMES)
        def erase(self, name: str) -> None:
            erased = self.do(self.journal.erase([name], "ada"))
            replaced = without_erased(self.changes[self.earliest :], {name})
            if erased is None:
                assert name not in self.versions
                assert not replaced
                return
            self.changes = [replaced.get(change.version, change) for change in self.changes]
            self.changes += self.do(changes_after(self.journal, self.head, 9))
            assert self.head == erased
            self.dirty.add(name)
            self.values.pop(name, None)
            self.versions.pop(name, None)
            for kept in self.checkpoints.values():
                kept.pop(name, None)
            for id, (position, written, _) in self.records.items():
                if written == name:
                    self.records[id] = (position, name, 0)

        @rule(name=NAMES, off=st.integers(1, 3))
        def append_beaten(self, name: str, off: int) -> None:
            versions = {name: self.versions.get(name, 0) + off}
            batch = Batch(read=self.head, versions=versions, entries=[entry(value(name, "lost"))])
            self.do(raised(Conflict, self.journal.append(batch)))

        @rule()
        def append_from_elsewhere(self) -> None:
            batch = Batch(read=Position(seq=self.head.seq + 1, tag="x"), versions={}, entries=[entry()])
            self.do(raised(Forked, self.journal.append(batch)))

        @precondition(lambda self: self.dirty and isinstance(self.journal, Checkpoints))
        @rule()
        def checkpoint(self) -> None:
            snapshot = self.do(self.history.load())
            newer = [change for change in snapshot.changes if change.version > snapshot.checkpoint]
            assert {change.slice for change in newer} == self.dirty
            assert list(snapshot.changes) == self.changes[snapshot.since.seq :]
            slices = {name: snapshot.slices.get(name) for name in self.dirty}
            self.do(self.history.save(self.head, slices))
            self.do(self.history.trim())
            self.dirty.clear()
            self.checkpoints[self.head.seq] = plain(snapshot)
            self.earliest = max(c for c in self.checkpoints if c <= max(self.earliest, self.head.seq - SMALL.changes))

        @precondition(lambda self: isinstance(self.journal, Foldable))
        @rule()
        def fold(self) -> None:
            self.do(fold(self.journal))
            after = self.do(changes_after(self.journal, self.position(self.earliest), 999))
            before = self.changes[self.earliest :]
            unchanged = [(c.position, c.slice, c.from_version, c.at) for c in before]
            assert [(c.position, c.slice, c.from_version, c.at) for c in after] == unchanged
            self.changes[self.earliest :] = after
            newest = max(self.checkpoints)
            for seq in (seq for seq in self.checkpoints if seq >= self.earliest):
                assert self._from_checkpoint(seq, newest) == self.checkpoints[newest], f"from {seq}"

        def _from_checkpoint(self, seq: int, until: int) -> Held:
            held = copy.deepcopy(self.checkpoints[seq])
            advance(held, Merged()(self.changes[seq:until]))
            return held

        @rule()
        def restart(self) -> None:
            self.journal = self.do(reopen(self.journal))

        @rule(seq=st.integers(0, 40), limit=st.integers(1, 50), selection=SELECTIONS)
        def read(self, seq: int, limit: int, selection: Selection) -> None:
            seq = min(seq, len(self.changes))
            if seq < self.earliest:
                self.do(raised(Expired, self.journal.read(self.position(seq), limit, selection)))
                return
            page = self.do(self.journal.read(self.position(seq), limit, selection))
            looked_at = self.changes[seq : seq + limit]
            assert list(page.changes) == selection.among(looked_at)
            assert page.until == (looked_at[-1].position if looked_at else self.position(seq))

        @rule(seq=st.integers(0, 40))
        def load_at(self, seq: int) -> None:
            seq = min(seq, len(self.changes))
            if seq < self.earliest:
                self.do(raised(Expired, self.history.load(self.position(seq))))
                return
            snapshot = self.do(self.history.load(self.position(seq)))
            kept = max(each for each in self.checkpoints if each <= seq)
            assert plain(snapshot) == self._from_checkpoint(kept, seq)
            assert self.do(self.journal.earliest()).seq == self.earliest

        @invariant()
        def the_state_is_the_models(self) -> None:
            snapshot = self.do(self.history.load())
            assert snapshot.position == self.head == self.do(self.journal.head())
            assert {n: s.value for n, s in snapshot.slices.items()} == self.values
            assert {n: s.version for n, s in snapshot.slices.items()} == self.versions
            assert self.do(changes_after(self.journal, self.head, 1)) == []

        def teardown(self) -> None:
            if hasattr(self, "journal"):
                self.do(self.journal.close())
            self.loop.close()

    return JournalMachine


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
