"""What a journal must do with checkpoints: trim to them, travel to them, and take over those of another journal.

Invariants: engines without Checkpoints pass, because they keep everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson

from statestream.core.change import START, Change, IdempotencyRecord, Page, Position, Snapshot
from statestream.core.errors import Expired, Forked
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Checkpoints, Journal, KeptRecord, Portable, Retention
from statestream.journal.history import History
from statestream.journal.memory import MemoryJournal
from statestream.testing.contract.maker import JournalMaker
from statestream.testing.journals import (
    SMALL,
    changes_after,
    entry,
    keep,
    patches,
    plain,
    raised,
    removed,
    tidied,
    value,
    write,
)


class CheckpointTests(JournalMaker):
    async def test_each_bound_of_the_history_holds_by_itself(self) -> None:
        """With every other bound far away. A checkpoint follows each change, so there is no slack."""
        for retention in (Retention(changes=4), Retention(bytes=9_500), Retention(age=3.5)):
            journal = await self.make(retention)
            for number in range(9):
                await write(journal, entry(value("a", str(number) * 1_000)))
                await keep(journal)
                journal.clock.advance_to(journal.clock.now() + 1_000)
            await History(journal).trim()
            kept = await changes_after(journal, await journal.earliest(), 99)
            if isinstance(journal, Checkpoints):
                assert 3 <= len(kept) <= 4, retention
            assert plain(await History(journal).load())["a"][0] == "8" * 1_000
            await journal.close()

    async def test_what_has_become_too_old_is_trimmed_without_another_change(self) -> None:
        journal = await self.make(Retention(age=60))
        await write(journal, entry(value("a", 1)))
        await keep(journal)
        head = await journal.head()
        assert len(await changes_after(journal, START, 9)) == 1
        journal.clock.advance_to(journal.clock.now() + 61_000)
        assert await History(journal).trim() == (head if isinstance(journal, Checkpoints) else START)
        assert await journal.earliest() == (head if isinstance(journal, Checkpoints) else START)
        await tidied(journal)
        journal = await self.reopen(journal)
        assert plain(await History(journal).load()) == {"a": (1, head)}
        await journal.close()

    async def test_trimming_stops_at_a_checkpoint_and_keeps_the_newest(self) -> None:
        journal = await self.make(SMALL)
        written = [change for n in range(9) for change in await _step(journal, n)]
        journal = await self.reopen(journal)
        before = plain(await History(journal).load())
        await keep(journal)
        kept = await _kept(journal, written)
        if isinstance(journal, Checkpoints):
            assert SMALL.changes <= len(kept) < len(written)
            earliest = written[len(written) - len(kept) - 1].position
            assert await journal.earliest() == earliest
        else:
            assert kept == written, "without checkpoints nothing is trimmed"
            earliest = await journal.earliest()
            assert earliest == START
        assert await changes_after(journal, earliest, 99) == kept
        for change in written[: max(0, written.index(kept[0]) - 1)]:
            await raised(Expired, journal.read(change.position, 99))
        if earliest != START:
            await raised(Forked, journal.read(Position(seq=earliest.seq, tag="other"), 99))
        journal = await self.reopen(journal)
        assert plain(await History(journal).load()) == before
        [after] = await write(journal, entry(value("z", 1)))
        assert after.changes[0].version == written[-1].version + 1
        await journal.close()

    async def test_the_state_of_every_kept_position_can_be_had(self) -> None:
        journal = await self.make(SMALL)
        written: list[Change] = []
        states: list[dict[str, tuple[Any, Position]]] = []
        for n in range(9):
            written += await _step(journal, n)
            states.append(plain(await History(journal).load()))
        journal = await self.reopen(journal)
        history = History(journal)
        earliest = await journal.earliest()
        assert earliest.seq < written[-1].version
        assert (earliest.seq > 0) == isinstance(journal, Checkpoints)
        for change, state in zip(written[1::2], states, strict=True):
            if change.version < earliest.seq:
                await raised(Expired, history.load(change.position))
            else:
                assert plain(await history.load(change.position)) == state
                names = frozenset(("a", "r/1", "none"))
                assert plain(await history.load(change.position, Selection(names=names))) == state
                for selection in (EVERYTHING, Selection.family("r")):
                    found = {name for name in state if selection.matches(name)}
                    assert await history.names(change.position, selection) == found
        await raised(Forked, history.load(Position(seq=written[-1].version, tag="other")))
        await raised(Forked, history.load(Position(seq=written[-1].version + 1, tag="later")))
        if earliest != START:
            assert (await history.load(earliest)).position == earliest
        await journal.close()

    async def test_a_store_begins_with_names_and_versions(self) -> None:
        """However many instances there are, it reads the values of plain slices, and of those that it holds."""
        journal = await self.make(SMALL)
        for n in range(9):
            await _step(journal, n)
            whole = await History(journal).load()
            for held in (Selection(names=frozenset()), Selection.family("r"), EVERYTHING):
                begun = await History(journal).newest(held)
                assert begun.versions == {name: state.version for name, state in whole.slices.items()}
                wanted = {name: state for name, state in plain(whole).items() if "/" not in name or held.matches(name)}
                assert plain(begun) == wanted
                assert (begun.position, begun.since, begun.changes) == (whole.position, whole.since, whole.changes)
        await journal.close()

    async def test_a_history_that_was_trimmed_to_its_head_goes_on(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Checkpoints):
            [outcome] = await write(journal, entry(value("a", 1), value("r/1", 1), removed("r/1")))
            await keep(journal)
            await journal.trim(outcome.position)
            journal = await self.reopen(journal)
            assert await journal.head() == await journal.earliest() == outcome.position
            assert await journal.read(outcome.position, 9) == Page(changes=[], until=outcome.position)
            assert plain(await History(journal).load()) == {"a": (1, outcome.changes[0].position)}
            [after] = await write(journal, entry(value("a", 2)))
            assert (after.changes[0].version, after.changes[0].from_version) == (4, 1)
            await raised(Expired, journal.read(START, 9))
        await journal.close()

    async def test_a_checkpoint_is_made_once_and_of_this_history_only(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Checkpoints):
            await write(journal, entry(value("a", 1)))
            await keep(journal)
            checkpoints = await journal.checkpoints()
            assert [each.position for each in checkpoints] == [await journal.head()]
            for position in (START, await journal.head()):
                await journal.save(position, {"a": None})
            assert await journal.checkpoints() == checkpoints, "there is one at that position or later"
            assert [each.data for each in await journal.saved(await journal.head())] == [b"1"]
            await raised(Forked, journal.save(Position(seq=1, tag="other"), {}))
            await raised(Expired, journal.saved(START))
            await raised(Expired, journal.index(START))
            await raised(Expired, journal.index(Position(seq=1, tag="other")))
        await journal.close()

    async def test_appends_go_on_while_a_checkpoint_is_made(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Checkpoints):
            large = await _large_state(journal)
            saving = asyncio.create_task(journal.save(large.position, large.slices))
            appended: list[Change] = []
            while not saving.done() or not appended:
                appended += (await write(journal, entry(value("a", len(appended)))))[0].changes
                await asyncio.sleep(0)
            await saving
            assert await changes_after(journal, large.position, 999_999) == appended
            [checkpoint] = await journal.checkpoints()
            assert checkpoint.position == large.position
            saved = await journal.saved(checkpoint.position)
            assert {each.name: (orjson.loads(each.data), each.position) for each in saved} == plain(large)
            after = plain(await History(journal).load())
            assert after == plain(large) | {"a": (len(appended) - 1, appended[-1].position)}
        await journal.close()

    async def test_a_checkpoint_that_was_interrupted_is_never_visible(self) -> None:
        """Interrupted at any time, it is complete or not there. An engine may take a while to allow the next one."""
        journal = await self.make(Retention())
        if isinstance(journal, Checkpoints):
            large = await _large_state(journal)
            for pause in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1):
                saving = asyncio.create_task(journal.save(large.position, large.slices))
                await asyncio.sleep(pause)
                saving.cancel()
                await asyncio.wait([saving])
                await _complete_or_not_there(journal, large)
            journal = await self.reopen(journal)
            assert isinstance(journal, Checkpoints)
            await _complete_or_not_there(journal, large)
        await journal.close()

    async def test_what_another_journal_has_numbered_is_taken_over(self) -> None:
        """In two portions, the first of which begins with the state at a trimmed position."""
        journal, source = await self.make(Retention()), MemoryJournal(SMALL)
        if isinstance(journal, Portable):
            for n in range(9):
                await _step(source, n)
            earliest = await source.earliest()
            before, after = await History(source).load(earliest), await History(source).load()
            changes = await changes_after(source, earliest, 99)
            record = IdempotencyRecord(digest=b"digest", position=after.position, changes=(("a", after.position.seq),))
            kept = KeptRecord(key=("ada", "id"), record=record, at=journal.clock.now())
            await journal.begin_at(earliest, before.slices)
            await journal.adopt(changes[:2], [])
            await raised(Forked, journal.adopt(changes[3:], []))
            await journal.adopt(changes[2:], [kept])
            journal = await self.reopen(journal)
            assert isinstance(journal, Portable)
            assert (await journal.earliest(), await journal.head()) == (earliest, after.position)
            assert plain(await History(journal).load(earliest)) == plain(before)
            assert plain(await History(journal).load()) == plain(after)
            assert await changes_after(journal, earliest, 99) == changes
            assert await journal.lookup([kept.key]) == {kept.key: record}
            assert (list(await journal.records()), list(await journal.records(kept.key))) == ([kept], [])
            await raised(Forked, journal.begin_at(earliest, before.slices))
            [outcome] = await write(journal, entry(value("a", 1)))
            assert outcome.position.seq == after.position.seq + 1
        await journal.close()


async def _complete_or_not_there(journal: Journal, state: Snapshot) -> None:
    assert isinstance(journal, Checkpoints)
    for each in await journal.checkpoints():
        assert each.position == state.position
        saved = await journal.saved(each.position)
        assert {one.name: (orjson.loads(one.data), one.position) for one in saved} == plain(state)
    assert plain(await History(journal).load()) == plain(state)


async def _large_state(journal: Journal) -> Snapshot:
    """A state that takes an engine some time to save, and several transactions if it saves in portions."""
    text = "x" * 200
    await write(journal, entry(value("a", -1), *(value(f"r/{number}", text) for number in range(5_000))))
    return await History(journal).load()


async def _step(journal: Journal, n: int) -> Sequence[Change]:
    """Some of everything: a growing slice, and an instance that comes and goes; and a checkpoint of it."""
    held = await History(journal).load()
    last = removed("r/1") if "r/1" in held.slices else value("r/1", n)
    grow = patches("a", {"op": "add", "path": f"/{n}", "value": n}) if "a" in held.slices else value("a", [n])
    outcomes = await write(journal, entry(grow), entry(last))
    await keep(journal)
    return [change for outcome in outcomes for change in outcome.changes]


async def _kept(journal: Journal, written: Sequence[Change]) -> list[Change]:
    for position in (START, *(change.position for change in written)):
        try:
            return await changes_after(journal, position, len(written))
        except Expired:
            continue
    return []
