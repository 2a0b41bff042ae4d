"""What the tests of a journal are written with: changes, requests, and a writer that has the newest state.

Invariants: everything goes through the contract of a journal and the History that is the same for every engine.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from statestream.core.change import Cause, Change, PendingChange, Position, SliceState, Snapshot, now_ms
from statestream.core.errors import StatestreamError
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Appended, Batch, Entry, Journal, Retention
from statestream.journal.folding import Folding
from statestream.journal.history import History

_CAUSE = Cause(type="test/acted", id="cause", actor="ada", payload=b'{"n":1}')
SMALL = Retention(changes=3, age=0.0, bytes=0, checkpoint=1, fold_after=0.0)
"""Keeps the newest three changes, and what lies between them and the checkpoint before."""
GRADUAL = frozenset(("a/grew", "b/grew", "r/grew"))
"""The actions of which `step` makes changes."""


def value(name: str, content: Any) -> PendingChange:
    return PendingChange(slice=name, kind="value", data=orjson.dumps(content), cause=_CAUSE)


def patches(name: str, *operations: dict[str, Any]) -> PendingChange:
    return PendingChange(slice=name, kind="patches", data=orjson.dumps(operations), cause=_CAUSE)


def step(name: str, *operations: dict[str, Any]) -> PendingChange:
    """A change of a gradual action."""
    cause = Cause(type=f"{name.partition('/')[0]}/grew", id="step", actor="ada", payload=b"{}")
    return PendingChange(slice=name, kind="patches", data=orjson.dumps(operations), cause=cause)


def removed(name: str) -> PendingChange:
    return PendingChange(slice=name, kind="removed", data=b"", cause=_CAUSE)


def entry(*changes: PendingChange, id: str | None = None, at: int | None = None) -> Entry:
    now = now_ms() if at is None else at
    return Entry(idempotency_key=None if id is None else ("ada", id), digest=b"digest", changes=changes, at=now)


async def write(journal: Journal, *entries: Entry, read: Position | None = None, **versions: int) -> list[Appended]:
    """Appends as a writer that has the newest state. `versions` replaces versions that it bases its changes on."""
    snapshot = await History(journal).load()
    named = {change.slice for item in entries for change in item.changes}
    based_on = {name: state.version for name, state in snapshot.slices.items() if name in named}
    based_on = dict.fromkeys(named, 0) | based_on | versions
    return await journal.append(Batch(read=read or snapshot.position, versions=based_on, entries=entries))


@contextmanager
def wall_clock_ahead(seconds: int) -> Iterator[None]:
    """Everything in this process sees a wall clock that is so far ahead."""
    real, real_ns = time.time, time.time_ns
    time.time, time.time_ns = lambda: real() + seconds, lambda: real_ns() + seconds * 1_000_000_000
    try:
        yield
    finally:
        time.time, time.time_ns = real, real_ns


async def changes_after(
    journal: Journal, after: Position, limit: int, selection: Selection = EVERYTHING
) -> list[Change]:
    return list((await journal.read(after, limit, selection)).changes)


def plain(snapshot: Snapshot) -> dict[str, tuple[Any, Position]]:
    return {name: (state.value, state.position) for name, state in snapshot.slices.items()}


async def raised(kind: type[StatestreamError], attempt: Awaitable[object]) -> StatestreamError:
    try:
        await attempt
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, nothing was raised")


async def fold(journal: Journal) -> None:
    """Folds all that can be folded, as a store whose node starts now."""
    folding = Folding(History(journal))
    while await folding.fold(GRADUAL):
        pass


async def keep(journal: Journal) -> None:
    """Makes a checkpoint of everything, as a store that has just seen every slice change."""
    history = History(journal)
    snapshot = await history.load()
    slices: dict[str, SliceState | None] = {"r/1": None}
    slices.update(snapshot.slices)
    await history.save(snapshot.position, slices)
    await history.trim()


async def tidied(journal: Journal) -> None:
    """What a store does now and then."""
    await History(journal).trim()
    await History(journal).tidy()
