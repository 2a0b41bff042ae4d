"""What every journal must pass: `JournalContract`, and what its tests are written with.

Needs pytest, with an asyncio plugin in auto mode, to run; nothing else.

Invariants: only the contract's promises are tested, through its own methods; nothing here knows a journal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import orjson

from statestream.core.change import (
    START,
    Cause,
    Change,
    IdempotencyRecord,
    PendingChange,
    Position,
    SliceState,
    Snapshot,
    now_ms,
)
from statestream.core.errors import Conflict, Duplicate, Expired, Forked, StatestreamError
from statestream.journal.contract import PAGE_BYTES, REMEMBERED_MS, Appended, Batch, Entry, Journal, Retention

_CAUSE = Cause(type="test/acted", id="cause", actor="ada", payload=b'{"n":1}')
SMALL = Retention(changes=3, age=0.0, bytes=0, checkpoint=1)


def value(name: str, content: Any) -> PendingChange:
    return PendingChange(slice=name, kind="value", data=orjson.dumps(content), cause=_CAUSE)


def patches(name: str, *operations: dict[str, Any]) -> PendingChange:
    return PendingChange(slice=name, kind="patches", data=orjson.dumps(operations), cause=_CAUSE)


def removed(name: str) -> PendingChange:
    return PendingChange(slice=name, kind="removed", data=b"", cause=_CAUSE)


def entry(*effects: PendingChange, id: str | None = None, at: int | None = None) -> Entry:
    now = now_ms() if at is None else at
    return Entry(idempotency_key=None if id is None else ("ada", id), digest=b"digest", effects=effects, at=now)


async def write(journal: Journal, *entries: Entry, read: Position | None = None, **versions: int) -> list[Appended]:
    """Appends as a writer that knows the newest state; `versions` are those that it bases its changes on."""
    snapshot = await journal.load()
    named = {effect.slice for item in entries for effect in item.effects}
    based_on = {name: state.version for name, state in snapshot.slices.items() if name in named}
    based_on = dict.fromkeys(named, 0) | based_on | versions
    return await journal.append(Batch(read=read or snapshot.position, versions=based_on, entries=entries))


def plain(snapshot: Snapshot) -> dict[str, tuple[Any, Position]]:
    return {name: (state.value, state.position) for name, state in snapshot.slices.items()}


async def raised(kind: type[StatestreamError], attempt: Awaitable[object]) -> StatestreamError:
    try:
        await attempt
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}, nothing was raised")


class JournalContract:
    """The guarantees of `statestream.journal.contract`, a test each."""

    async def make(self, retention: Retention) -> Journal:
        """A new, empty journal, opened."""
        raise NotImplementedError

    async def reopen(self, journal: Journal) -> Journal:
        """The same data after a restart; for a journal that keeps nothing, the same object."""
        raise NotImplementedError

    async def test_a_new_journal_is_empty(self) -> None:
        journal = await self.make(Retention())
        assert await journal.load() == Snapshot(position=START, slices={})
        assert await journal.earliest() == START
        assert await journal.read(START, 10) == []
        await journal.close()

    async def test_changes_are_numbered_and_come_back_as_they_were(self) -> None:
        journal = await self.make(Retention())
        [first] = await write(journal, entry(value("a", {"n": 1}), value("b", [1])))
        second, third = await write(
            journal, entry(patches("a", {"op": "replace", "path": "/n", "value": 2})), entry(removed("b"))
        )
        changes = [*first.changes, *second.changes, *third.changes]
        assert [c.version for c in changes] == [1, 2, 3, 4]
        assert [c.from_version for c in changes] == [0, 0, 1, 2]
        assert len({c.position.tag for c in changes}) == 2
        assert third.position == changes[-1].position
        assert await journal.read(START, 10) == changes
        assert await journal.read(changes[0].position, 2) == changes[1:3]
        assert plain(await journal.load()) == {"a": ({"n": 2}, changes[2].position)}
        await journal.close()

    async def test_what_is_read_at_a_time_is_bounded_in_bytes_too(self) -> None:
        journal = await self.make(Retention())
        for text in ("x" * (PAGE_BYTES // 3), "y" * (2 * PAGE_BYTES), "z"):
            for name in ("a", "b"):
                await write(journal, entry(value(name, text)))
        pages = []
        position = START
        while page := await journal.read(position, 100):
            pages.append([change.version for change in page])
            position = page[-1].position
        assert pages == [[1, 2], [3], [4], [5, 6]]
        await journal.close()

    async def test_a_restart_continues_everything(self) -> None:
        journal = await self.make(Retention())
        [before] = await write(journal, entry(value("a", {"x": [1, None, 1.0, True]}), id="one"))
        journal = await self.reopen(journal)
        assert (await journal.load()).position == before.position
        assert orjson.dumps((await journal.load()).slices["a"].value) == b'{"x":[1,null,1.0,true]}'
        [after] = await write(journal, entry(value("a", 2)))
        assert after.changes[0].version == 2
        assert after.changes[0].from_version == 1
        assert set(await journal.lookup([("ada", "one"), ("ada", "two"), ("bob", "one")])) == {("ada", "one")}
        await journal.close()

    async def test_one_who_was_beaten_gets_a_conflict_and_writes_nothing(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a", 1)))
        await raised(Conflict, write(journal, entry(value("b", 1)), entry(value("a", 2)), a=0))
        await raised(Conflict, write(journal, entry(id="x"), expected=7))
        assert len(await journal.read(START, 10)) == 1
        assert await journal.lookup([("ada", "x")]) == {}
        await journal.close()

    async def test_others_may_have_written_other_slices(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a", 1)))
        [outcome] = await write(journal, entry(value("b", 1)), read=START)
        assert outcome.changes[0].version == 2
        await journal.close()

    async def test_a_writer_of_another_history_is_told_so_first_of_all(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a", 1), id="x"))
        for position in (Position(seq=1, tag="other"), Position(seq=9, tag="later")):
            await raised(Forked, write(journal, entry(value("a", 2), id="x"), read=position, a=0))
        await journal.close()

    async def test_a_request_that_is_done_is_a_duplicate_whatever_else_is_wrong(self) -> None:
        journal = await self.make(Retention())
        first, empty = await write(journal, entry(value("a", 1), id="x"), entry(id="y"))
        attempt = write(journal, entry(value("a", 2), id="x"), entry(id="y"), entry(value("b", 1), id="z"), a=0)
        error = await raised(Duplicate, attempt)
        assert isinstance(error, Duplicate)
        assert error.records == {
            ("ada", "x"): IdempotencyRecord(digest=b"digest", position=first.position, changes=(("a", 1),)),
            ("ada", "y"): IdempotencyRecord(digest=b"digest", position=empty.position, changes=()),
        }
        assert error.records == await journal.lookup([("ada", "x"), ("ada", "y"), ("ada", "z")])
        assert len(await journal.read(START, 10)) == 1
        await journal.close()

    async def test_requests_are_forgotten_after_a_day_by_their_own_clock(self) -> None:
        journal = await self.make(Retention())
        old = now_ms() - REMEMBERED_MS - 60_000
        await write(journal, entry(value("a", 1), id="old", at=old), entry(id="new"))
        assert set(await journal.lookup([("ada", "old"), ("ada", "new")])) == {("ada", "new")}
        await write(journal, entry(value("a", 2), id="old"))
        await journal.close()

    async def test_reading_from_a_position_that_never_was_is_forked(self) -> None:
        journal = await self.make(Retention())
        [outcome] = await write(journal, entry(value("a", 1)))
        for position in (Position(seq=1, tag="other"), Position(seq=2, tag=outcome.position.tag)):
            await raised(Forked, journal.read(position, 10))
        await journal.close()

    async def test_an_instance_made_again_begins_anew(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a/1", 1), removed("a/1"), value("a/1", 2)))
        assert [c.from_version for c in await journal.read(START, 9)] == [0, 1, 0]
        assert plain(await journal.load())["a/1"][0] == 2
        await journal.close()

    async def test_trimming_stops_at_a_checkpoint_and_keeps_the_newest(self) -> None:
        journal = await self.make(SMALL)
        written = [change for n in range(9) for change in await _step(journal, n)]
        journal = await self.reopen(journal)
        before = plain(await journal.load())
        await keep(journal)
        kept = await _kept(journal, written)
        assert SMALL.changes <= len(kept) < len(written)
        earliest = written[len(written) - len(kept) - 1].position
        assert await journal.read(earliest, 99) == kept
        for change in written[: written.index(kept[0]) - 1]:
            await raised(Expired, journal.read(change.position, 99))
        await raised(Forked, journal.read(Position(seq=earliest.seq, tag="other"), 99))
        journal = await self.reopen(journal)
        assert plain(await journal.load()) == before
        [after] = await write(journal, entry(value("z", 1)))
        assert after.changes[0].version == written[-1].version + 1
        await journal.close()

    async def test_the_state_of_every_kept_position_can_be_had(self) -> None:
        journal = await self.make(SMALL)
        written: list[Change] = []
        states: list[dict[str, tuple[Any, Position]]] = []
        for n in range(9):
            written += await _step(journal, n)
            states.append(plain(await journal.load()))
        journal = await self.reopen(journal)
        earliest = await journal.earliest()
        assert 0 < earliest.seq < written[-1].version
        for change, state in zip(written[1::2], states, strict=True):
            if change.version < earliest.seq:
                await raised(Expired, journal.load(change.position))
            else:
                assert plain(await journal.load(change.position)) == state
        await raised(Forked, journal.load(Position(seq=written[-1].version, tag="other")))
        await raised(Forked, journal.load(Position(seq=written[-1].version + 1, tag="later")))
        assert (await journal.load(earliest)).position == earliest
        await journal.close()


async def _step(journal: Journal, n: int) -> Sequence[Change]:
    """Something of everything: a growing slice, and an instance that comes and goes; and a checkpoint of it."""
    held = await journal.load()
    last = removed("r/1") if "r/1" in held.slices else value("r/1", n)
    grow = patches("a", {"op": "add", "path": f"/{n}", "value": n}) if "a" in held.slices else value("a", [n])
    outcomes = await write(journal, entry(grow), entry(last))
    await keep(journal)
    return [change for outcome in outcomes for change in outcome.changes]


async def keep(journal: Journal) -> None:
    """A checkpoint of everything, as a store that has just seen every slice change."""
    snapshot = await journal.load()
    slices: dict[str, SliceState | None] = {"r/1": None}
    slices.update(snapshot.slices)
    await journal.checkpoint(snapshot.position, slices)


async def _kept(journal: Journal, written: Sequence[Change]) -> list[Change]:
    for change in written:
        try:
            return await journal.read(change.position, len(written))
        except Expired:
            continue
    return []
