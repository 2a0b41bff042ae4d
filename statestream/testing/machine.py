"""A journal against a list: what Hypothesis tries on it, step by step.

Needs hypothesis. Law: as in `journals`: the contract's promises, through its own methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from statestream.core.change import START, Change, PendingChange, Position
from statestream.core.errors import Conflict, Duplicate, Expired, Forked
from statestream.core.patch import apply_patch
from statestream.journal.contract import Batch, Journal, Retention, replayed
from statestream.testing.journals import SMALL, entry, patches, plain, raised, removed, value

NAMES = st.sampled_from(["a", "b", "r/1", "r/2"])
IDS = st.sampled_from(["i", "j", "k", None])


def machine(  # noqa: C901  # the machine is one class, made anew for each journal
    make: Callable[[Retention], Awaitable[Journal]], reopen: Callable[[Journal], Awaitable[Journal]]
) -> type[RuleBasedStateMachine]:
    """What `statestream.testing.journal_machine` gives."""

    class JournalMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.loop = asyncio.new_event_loop()
            self.history: list[Change] = []
            self.values: dict[str, Any] = {}
            self.versions: dict[str, int] = {}
            self.dirty: set[str] = set()
            self.records: dict[str, tuple[Position, int]] = {}
            self.earliest = 0
            self.checkpoints = [0]

        def do(self, work: Awaitable[Any]) -> Any:
            return self.loop.run_until_complete(_awaited(work))

        @initialize()
        def begin(self) -> None:
            self.journal = self.do(make(SMALL))

        @property
        def head(self) -> Position:
            return self.history[-1].position if self.history else START

        @rule(name=NAMES, n=st.integers(0, 9), id=IDS, twice=st.booleans())
        def append(self, name: str, n: int, id: str | None, twice: bool) -> None:
            effects = [self._effect(name, n)]
            if twice and effects[0].kind != "removed":
                effects.append(patches(name, {"op": "add", "path": "/0", "value": n}))
            batch = Batch(read=self.head, versions={name: self.versions.get(name, 0)}, entries=[entry(*effects, id=id)])
            if id in self.records:
                error = self.do(raised(Duplicate, self.journal.append(batch)))
                position, count = self.records[id]
                assert error.records[("ada", id)].position == position
                assert len(error.records[("ada", id)].changes) == count
                return
            [outcome] = self.do(self.journal.append(batch))
            assert [c.version for c in outcome.changes] == [self.head.seq + 1 + i for i in range(len(effects))]
            for change in outcome.changes:
                self._apply(change)
            if id is not None:
                self.records[id] = (outcome.position, len(effects))

        def _effect(self, name: str, n: int) -> PendingChange:
            if name not in self.versions:
                return value(name, [n])
            return removed(name) if n == 0 else patches(name, {"op": "add", "path": "/0", "value": n})

        def _apply(self, change: Change) -> None:
            assert change.from_version == self.versions.get(change.slice, 0)
            self.history.append(change)
            self.dirty.add(change.slice)
            if change.kind == "removed":
                del self.values[change.slice], self.versions[change.slice]
                return
            held = self.values.get(change.slice)
            self.values[change.slice] = change.value if change.kind == "value" else apply_patch(held, change.patches)
            self.versions[change.slice] = change.version

        @rule(name=NAMES, off=st.integers(1, 3))
        def append_beaten(self, name: str, off: int) -> None:
            versions = {name: self.versions.get(name, 0) + off}
            batch = Batch(read=self.head, versions=versions, entries=[entry(value(name, "lost"))])
            self.do(raised(Conflict, self.journal.append(batch)))

        @rule()
        def append_from_elsewhere(self) -> None:
            batch = Batch(read=Position(seq=self.head.seq + 1, tag="x"), versions={}, entries=[entry()])
            self.do(raised(Forked, self.journal.append(batch)))

        @precondition(lambda self: self.dirty)
        @rule()
        def checkpoint(self) -> None:
            snapshot = self.do(self.journal.load())
            newer = [change for change in snapshot.changes if change.version > snapshot.checkpoint]
            assert {change.slice for change in newer} == self.dirty
            assert list(snapshot.changes) == self.history[snapshot.since.seq :]
            slices = {name: snapshot.slices.get(name) for name in self.dirty}
            self.do(self.journal.checkpoint(self.head, slices))
            self.dirty.clear()
            self.checkpoints.append(self.head.seq)
            self.earliest = max(c for c in self.checkpoints if c <= max(self.earliest, self.head.seq - SMALL.changes))

        @rule()
        def restart(self) -> None:
            self.journal = self.do(reopen(self.journal))

        @rule(seq=st.integers(0, 40), limit=st.integers(1, 50))
        def read(self, seq: int, limit: int) -> None:
            seq = min(seq, len(self.history))
            position = self.history[seq - 1].position if seq else START
            if seq < self.earliest:
                self.do(raised(Expired, self.journal.read(position, limit)))
            else:
                assert self.do(self.journal.read(position, limit)) == self.history[seq : seq + limit]

        @rule(seq=st.integers(0, 40))
        def load_at(self, seq: int) -> None:
            seq = min(seq, len(self.history))
            position = self.history[seq - 1].position if seq else START
            if seq < self.earliest:
                self.do(raised(Expired, self.journal.load(position)))
                return
            snapshot = self.do(self.journal.load(position))
            expected = replayed({}, self.history[:seq])
            assert plain(snapshot) == {name: (state.value, state.position) for name, state in expected.items()}
            assert self.do(self.journal.earliest()).seq == self.earliest

        @invariant()
        def the_state_is_the_models(self) -> None:
            snapshot = self.do(self.journal.load())
            assert snapshot.position == self.head
            assert {n: s.value for n, s in snapshot.slices.items()} == self.values
            assert {n: s.version for n, s in snapshot.slices.items()} == self.versions

        def teardown(self) -> None:
            if hasattr(self, "journal"):
                self.do(self.journal.close())
            self.loop.close()

    return JournalMachine


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
