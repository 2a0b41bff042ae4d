"""What every journal must pass: the guarantees of `statestream.journal.contract`, each in a test.

The tests need pytest with an asyncio plugin in auto mode, and nothing else.

Invariants: only promises of the contract are tested, through its own methods and the History that is the same for every
engine; nothing here knows an engine.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from typing import Any, Final

import orjson

from statestream.core.change import START, Change, IdempotencyRecord, Page, PendingChange, Position, Snapshot
from statestream.core.errors import Expired, Forked
from statestream.core.folding import Merged, Run, folded
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import (
    IDEMPOTENCY_MS,
    PAGE_BYTES,
    Checkpoints,
    Conflict,
    Duplicate,
    Erasable,
    Foldable,
    Journal,
    KeptRecord,
    Portable,
    Retention,
)
from statestream.journal.history import Held, History, advance
from statestream.journal.inspection import verify
from statestream.journal.memory import MemoryJournal
from statestream.testing.journals import (
    SMALL,
    changes_after,
    entry,
    fold,
    keep,
    patches,
    plain,
    raised,
    removed,
    step,
    value,
    wall_clock_ahead,
    write,
)

DAY = 24 * 3600
FOLDED_AT_ONCE: Final = Retention(checkpoint=1_000, fold_after=0.0)
CANARY = "correct horse battery staple"
JUMPS = (25 * 3600, 1000 * DAY, -25 * 3600)
"""Of the wall clock, in seconds."""


class JournalContract:
    """Inherit from it, and implement `make` and `reopen`.

    An engine without Checkpoints passes as well: it keeps all of its history.
    """

    async def make(self, retention: Retention) -> Journal:
        """Returns a new, empty journal, opened."""
        raise NotImplementedError

    async def reopen(self, journal: Journal) -> Journal:
        """Returns the same data after a restart; the same object, if the engine keeps nothing across restarts."""
        raise NotImplementedError

    # appending and reading

    async def test_a_new_journal_is_empty(self) -> None:
        journal = await self.make(Retention())
        assert await History(journal).load() == Snapshot(position=START, slices={})
        assert await journal.head() == START
        assert await journal.earliest() == START
        assert await journal.read(START, 10) == Page(changes=[], until=START)
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
        assert await changes_after(journal, START, 10) == changes
        assert await changes_after(journal, changes[0].position, 2) == changes[1:3]
        assert plain(await History(journal).load()) == {"a": ({"n": 2}, changes[2].position)}
        await journal.close()

    async def test_the_head_is_the_position_of_the_newest_change(self) -> None:
        journal = await self.make(Retention())
        for number in range(3):
            outcomes = await write(journal, entry(value("a", number), value("b", number)), entry(id=f"empty-{number}"))
            assert await journal.head() == outcomes[0].position == outcomes[-1].position
        journal = await self.reopen(journal)
        head = await journal.head()
        assert head == outcomes[0].position
        assert await journal.read(head, 10) == Page(changes=[], until=head)
        await journal.close()

    async def test_a_page_ends_at_the_position_that_it_has_looked_up_to(self) -> None:
        journal = await self.make(Retention())
        [outcome] = await write(journal, entry(*(value(name, 1) for name in ("a", "b", "a", "c"))))
        positions = [change.position for change in outcome.changes]
        assert (await journal.read(START, 3)).until == positions[2]
        assert (await journal.read(START, 9)).until == positions[3]
        assert (await journal.read(positions[0], 2)).until == positions[2]
        page = await journal.read(START, 9, Selection(names=frozenset(("a",))))
        assert [change.version for change in page.changes] == [1, 3]
        assert page.until == positions[3], "it has looked at the change after the last one that is selected"
        page = await journal.read(START, 2, Selection(names=frozenset(("c",))))
        assert (list(page.changes), page.until) == ([], positions[1]), "so that reading moves on"
        await journal.close()

    async def test_a_selection_selects_names_and_families(self) -> None:
        journal = await self.make(Retention())
        names = ("a", "room/1", "room/2", "roomy", "rooms/1", "a/1")
        [outcome] = await write(journal, entry(*(value(name, 1) for name in names)))
        for selection, selected in (
            (Selection(names=frozenset(("a", "room/2", "none"))), ["a", "room/2"]),
            (Selection.family("room"), ["room/1", "room/2"]),
            (Selection(names=frozenset(("a",)), families=frozenset(("rooms", "a"))), ["a", "rooms/1", "a/1"]),
            (Selection(names=frozenset()), []),
            (EVERYTHING, list(names)),
        ):
            page = await journal.read(START, 99, selection)
            assert [change.slice for change in page.changes] == selected
            assert page.until == outcome.position
            await self._keep_and_compare(journal, selection, selected)
        await journal.close()

    async def _keep_and_compare(self, journal: Journal, selection: Selection, selected: Sequence[str]) -> None:
        """The same selection of a checkpoint, and of a load."""
        await keep(journal)
        if isinstance(journal, Checkpoints):
            [checkpoint] = await journal.checkpoints()
            saved = await journal.saved(checkpoint.position, selection)
            assert {each.name for each in saved} == set(selected)
            index = await journal.index(checkpoint.position, selection)
            assert index == {each.name: each.position.seq for each in saved}
        assert set((await History(journal).load(selection=selection)).slices) == set(selected)

    async def test_what_is_read_at_a_time_is_bounded_in_bytes_too(self) -> None:
        journal = await self.make(Retention())
        for text in ("x" * (PAGE_BYTES // 3), "y" * (2 * PAGE_BYTES), "z"):
            for name in ("a", "b"):
                await write(journal, entry(value(name, text)))
        pages = []
        position = START
        while (page := await journal.read(position, 100)).until != position:
            pages.append([change.version for change in page.changes])
            position = page.until
        assert pages == [[1, 2], [3], [4], [5, 6]]
        await journal.close()

    async def test_a_wait_ends_when_there_is_a_change(self) -> None:
        journal = await self.make(Retention())
        waiting = asyncio.create_task(journal.wait(await journal.head()))
        await asyncio.sleep(0.05)
        await write(journal, entry(value("a", 1)))
        await asyncio.wait_for(waiting, 10)
        await asyncio.wait_for(journal.wait(START), 10)
        await journal.close()

    async def test_a_restart_continues_everything(self) -> None:
        journal = await self.make(Retention())
        [before] = await write(journal, entry(value("a", {"x": [1, None, 1.0, True]}), id="one"))
        journal = await self.reopen(journal)
        snapshot = await History(journal).load()
        assert snapshot.position == before.position
        assert orjson.dumps(snapshot.slices["a"].value) == b'{"x":[1,null,1.0,true]}'
        [after] = await write(journal, entry(value("a", 2)))
        assert after.changes[0].version == 2
        assert after.changes[0].from_version == 1
        assert set(await journal.lookup([("ada", "one"), ("ada", "two"), ("bob", "one")])) == {("ada", "one")}
        await journal.close()

    # comparing before writing

    async def test_one_who_was_beaten_gets_a_conflict_and_writes_nothing(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a", 1)))
        await raised(Conflict, write(journal, entry(value("b", 1)), entry(value("a", 2)), a=0))
        await raised(Conflict, write(journal, entry(id="x"), expected=7))
        assert len(await changes_after(journal, START, 10)) == 1
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
        assert len(await changes_after(journal, START, 10)) == 1
        await journal.close()

    async def test_requests_are_forgotten_after_a_day_of_the_journals_clock(self) -> None:
        journal = await self.make(Retention())
        await write(journal, entry(value("a", 1), id="old"))
        journal.clock.advance_to(journal.clock.now() + IDEMPOTENCY_MS - 60_000)
        await write(journal, entry(id="new"))
        assert set(await journal.lookup([("ada", "old"), ("ada", "new")])) == {("ada", "old"), ("ada", "new")}
        journal.clock.advance_to(journal.clock.now() + 61_000)
        assert set(await journal.lookup([("ada", "old"), ("ada", "new")])) == {("ada", "new")}
        await write(journal, entry(value("a", 2), id="old"))
        await journal.close()

    async def test_requests_are_forgotten_if_they_take_too_much(self) -> None:
        journal = await self.make(Retention(id_bytes=15_000))
        for number in range(40):
            names = [f"{number}-{each}" for each in range(20)]
            await write(journal, entry(*(value(name, 1) for name in names), id=f"id-{number}"))
        known = await journal.lookup([("ada", f"id-{number}") for number in range(40)])
        assert [id for _, id in known] == [f"id-{number}" for number in range(40 - len(known), 40)], "the newest"
        assert 3 < len(known) < 40
        journal = await self.reopen(journal)
        await _tidied(journal)
        assert set(await journal.lookup(list(known))) == set(known)
        await journal.close()

    async def test_a_jump_of_the_wall_clock_forgets_nothing(self) -> None:
        journal = await self.make(Retention(age=60, changes=100))
        await write(journal, entry(value("a", 1), id="once"))
        await keep(journal)
        for seconds in JUMPS:
            with wall_clock_ahead(seconds):
                await _worked(journal, seconds)
            await _check_remembered(journal, "once")
        assert len(await changes_after(journal, START, 9)) == 4
        await journal.close()

    async def test_a_restart_under_a_wrong_clock_forgets_nothing(self) -> None:
        journal = await self.make(Retention(age=DAY, changes=100))
        await write(journal, entry(value("a", 1), id="once"))
        await keep(journal)
        before = journal.clock.now()
        for seconds in JUMPS:
            with wall_clock_ahead(seconds):
                journal = await self.reopen(journal)
                assert before <= journal.clock.now(), "it never goes back"
                before = journal.clock.now()
                await _worked(journal, seconds)
            await _check_remembered(journal, "once")
        assert len(await changes_after(journal, START, 9)) == 4
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
        assert [c.from_version for c in await changes_after(journal, START, 9)] == [0, 1, 0]
        assert plain(await History(journal).load())["a/1"][0] == 2
        await journal.close()

    # checkpoints and trimming

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
        await _tidied(journal)
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

    # erasing

    async def test_an_erased_slice_is_gone_from_everything_and_all_others_stay(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Erasable):
            [other] = await write(journal, entry(value("a", "other"), id="other"))
            await write(journal, entry(value("r/1", CANARY), value("a", 1), id="both"))
            before = await journal.head()
            await keep(journal)
            await write(journal, entry(patches("r/1", {"op": "replace", "path": "", "value": CANARY * 2})))
            changes = await changes_after(journal, START, 99)
            erased = await journal.erase(["r/1"], "ada")
            for again in (False, True):
                journal = await self.reopen(journal) if again else journal
                await _check_nothing_left(journal)
                tombstones, rest = await _parted(journal, "r/1")
                assert [(c.position, c.from_version) for c in tombstones[:-1]] == [
                    (c.position, c.from_version) for c in changes if c.slice == "r/1"
                ]
                last = tombstones[-1]
                assert (last.position, last.from_version, last.is_erasure, last.cause.actor) == (erased, 4, True, "ada")
                assert all(c.kind == "removed" and c.is_erased for c in tombstones)
                assert rest[0] == other.changes[0]
                assert (rest[1].position, rest[1].data) == (changes[2].position, changes[2].data)
                assert plain(await History(journal).load(before)) == {"a": (1, before)}
                assert plain(await History(journal).load()) == {"a": (1, before)}
                records = await journal.lookup([("ada", "both"), ("ada", "other")])
                assert records["ada", "both"].changes == (("a", before.seq),)
                assert (records["ada", "both"].digest, records["ada", "other"].digest) == (b"", b"digest")
            assert isinstance(journal, Erasable)
            assert await journal.erase(["r/1"]) is None, "nothing is left to erase"
            [made] = await write(journal, entry(value("r/1", "again")))
            assert plain(await History(journal).load())["r/1"] == ("again", made.position)
        await journal.close()

    async def test_what_was_removed_or_trimmed_can_be_erased(self) -> None:
        journal = await self.make(SMALL)
        if isinstance(journal, Erasable):
            assert await journal.erase(["r/1"]) is None
            await write(journal, entry(value("r/1", CANARY), id="first"))
            for number in range(5):
                await write(journal, entry(value("a", number)))
                await keep(journal)
            await write(journal, entry(patches("r/1", {"op": "replace", "path": "", "value": CANARY})))
            await write(journal, entry(removed("r/1")))
            await write(journal, entry(value("r/2", CANARY)))
            await journal.erase(["r/1", "r/2"])
            first, second = (await changes_after(journal, await journal.earliest(), 99))[-2:]
            assert [(c.slice, c.from_version > 0) for c in (first, second)] == [("r/1", False), ("r/2", True)]
            await _check_nothing_left(journal)
            await keep(journal)
            journal = await self.reopen(journal)
            await _check_nothing_left(journal)
        await journal.close()

    async def test_no_checkpoint_that_is_being_made_brings_back_what_was_erased(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Erasable) and isinstance(journal, Checkpoints):
            await write(journal, entry(value("r/1", CANARY), value("a", 1)))
            captured = await History(journal).load()
            await write(journal, entry(value("a", 2)))
            await journal.erase(["r/1"])
            await journal.save(captured.position, captured.slices)
            await _check_nothing_left(journal)
            assert set((await History(journal).load(captured.position)).slices) == {"a"}
        await journal.close()

    async def test_others_append_while_a_slice_is_erased(self) -> None:
        journal = await self.make(Retention())
        if isinstance(journal, Erasable):
            await write(journal, entry(value("a", 0), value("r/1", CANARY)))
            erasing = asyncio.gather(journal.erase(["r/1"]), journal.erase(["r/2", "r/1"]))
            for number in range(5):
                await write(journal, entry(value("a", number)))
            await erasing
            await _check_nothing_left(journal)
            assert (await History(journal).load()).slices["a"].value == 4
        await journal.close()

    async def test_what_was_erased_can_be_moved(self) -> None:
        journal, source = await self.make(Retention()), MemoryJournal()
        if isinstance(journal, Portable):
            await write(source, entry(value("a", 1)), entry(value("r/1", CANARY)))
            await write(source, entry(patches("r/1", {"op": "replace", "path": "", "value": 2})))
            await source.erase(["r/1"])
            changes = await changes_after(source, START, 99)
            for begin, end in ((0, 2), (2, 3), (3, 4)):
                await journal.adopt(changes[begin:end], [])
            assert await changes_after(journal, START, 99) == changes
            assert set((await History(journal).load()).slices) == {"a"}
        await journal.close()

    # folding

    async def test_what_is_folded_leads_every_reader_to_the_same_state(self) -> None:
        journal = await self.make(FOLDED_AT_ONCE)
        if isinstance(journal, Foldable):
            states, changes = await _grown(journal)
            for again in (False, True):
                await fold(journal)
                after = await changes_after(journal, START, 99)
                gone = [c.version for c in after if c.is_folded]
                assert gone == [4, 5, 6, 8, 9, 13], "all but the last one of each run of r/1; the one of r/2 is alone"
                kept = [(c.position, c.slice, c.from_version, c.at) for c in changes]
                assert [(c.position, c.slice, c.from_version, c.at) for c in after] == kept
                touched = {*gone, 10, 14}
                assert [c for c in after if c.version not in touched] == [
                    c for c in changes if c.version not in touched
                ]
                records = await journal.lookup([("ada", f"id{number}") for number in range(1, 16)])
                assert [record.changes for record in records.values()] == [((c.slice, c.version),) for c in changes]
                await _check_leads_to_the_end(journal, states)
                journal = journal if again else await self.reopen(journal)
        await journal.close()

    async def test_folding_that_is_interrupted_is_right_at_every_moment_and_continues(self) -> None:
        journal = await self.make(FOLDED_AT_ONCE)
        if isinstance(journal, Foldable):
            states, changes = await _grown(journal)
            steps = [change for change in changes if 4 <= change.version <= 10 and change.slice == "r/1"]
            run = Run.of(steps[0], START)
            for change in steps[1:]:
                run.add(change)
            summary = run.summary(states[10]["r/1"][0])
            for before, now in [(steps[-1], summary), *((each, folded(each)) for each in reversed(steps[2:-1]))]:
                assert await journal.rewrite([(before, now)])
                await _check_leads_to_the_end(journal, states)
            await fold(journal)
            assert sum(change.is_folded for change in await changes_after(journal, START, 99)) == 6
            await _check_leads_to_the_end(journal, states)
        await journal.close()

    async def test_changes_are_replaced_only_as_they_were_read_and_all_of_them_or_none(self) -> None:
        journal = await self.make(FOLDED_AT_ONCE)
        if isinstance(journal, Foldable):
            _, changes = await _grown(journal)
            pairs = [(change, folded(change)) for change in changes[3:6]]
            assert await journal.rewrite(pairs[1:2])
            assert not await journal.rewrite(pairs)
            assert [change.is_folded for change in await changes_after(journal, START, 6)] == [
                *[False] * 4,
                True,
                False,
            ]
            if isinstance(journal, Erasable):
                await journal.erase(["r/1"])
                assert not await journal.rewrite(pairs[2:])
                await fold(journal)
                assert not any(c.is_folded for c in await changes_after(journal, START, 99))
        await journal.close()

    async def test_changes_that_are_being_added_or_trimmed_are_not_folded(self) -> None:
        journal = await self.make(SMALL)
        if isinstance(journal, Foldable):
            await write(journal, entry(value("r/1", [])))
            for number in range(9):
                await write(journal, entry(step("r/1", {"op": "add", "path": f"/{number}", "value": number})))
                await fold(journal)
                await keep(journal)
            assert (await History(journal).load()).slices["r/1"].value == [*range(9)]
            assert not any(c.is_folded for c in await changes_after(journal, await journal.earliest(), 99))
        await journal.close()

    async def test_how_far_was_looked_is_noted_and_never_goes_back(self) -> None:
        journal = await self.make(FOLDED_AT_ONCE)
        if isinstance(journal, Foldable):
            assert await journal.folded_until() == START
            _, changes = await _grown(journal)
            for noted in (changes[4].position, changes[2].position):
                await journal.note_folded(noted)
                assert await journal.folded_until() == changes[4].position
        await journal.close()

    async def test_what_was_folded_can_be_moved(self) -> None:
        journal, source = await self.make(Retention()), MemoryJournal(FOLDED_AT_ONCE)
        if isinstance(journal, Portable):
            states, _ = await _grown(source)
            await fold(source)
            changes = await changes_after(source, START, 99)
            await journal.adopt(changes, [])
            assert await changes_after(journal, START, 99) == changes
            await _check_leads_to_the_end(journal, states)
        await journal.close()


async def _grown(journal: Journal) -> tuple[list[Held], list[Change]]:
    """Two instances that grow, one of them twice, with a checkpoint in the middle. The states, by seq, and the changes.

    The first run of r/1 is 4, 5, 6, 8, 9 and 10, the second one 13 and 14.
    """

    def more(name: str, number: int, times: int = 1) -> PendingChange:
        return step(name, {"op": "add", "path": f"/texts/0/{number}", "value": f"word {number} of many. " * times})

    steps = [
        value("r/1", {"texts": [], "title": "x" * 500}),
        value("r/2", {"texts": [[]]}),
        patches("r/1", {"op": "replace", "path": "/title", "value": "one"}),
        step("r/1", {"op": "add", "path": "/texts/0", "value": []}),
        *(more("r/1", 0), more("r/1", 1), more("r/2", 0), more("r/1", 2), more("r/1", 3)),
        step("r/1", {"op": "remove", "path": "/texts/0/3"}),
        value("a", 1),
        patches("r/1", {"op": "replace", "path": "/title", "value": "two"}),
        *(step("r/1", {"op": "replace", "path": "/texts/0/0", "value": "y" * times}) for times in (200, 100)),
        patches("r/1", {"op": "replace", "path": "/title", "value": "end"}),
    ]
    for number, pending in enumerate(steps, 1):
        await write(journal, entry(pending, id=f"id{number}"))
        if number in (8, len(steps)):
            await keep(journal)
    changes = await changes_after(journal, START, 99)
    return [_held_after({}, changes[:seq]) for seq in range(len(changes) + 1)], changes


def _held_after(before: Held, changes: Sequence[Change]) -> Held:
    """The state that changes lead a reader to."""
    held = copy.deepcopy(before)
    advance(held, Merged()(changes))
    return held


async def _check_leads_to_the_end(journal: Journal, states: Sequence[Held]) -> None:
    """From each position, the changes lead to the end for a reader that was there, and the checkpoints fit."""
    for seq, state in enumerate(states):
        assert _held_after(state, (await changes_after(journal, START, 99))[seq:]) == states[-1], f"from {seq}"
    assert plain(await History(journal).load()) == states[-1]
    assert (await verify(journal)).changes == len(states) - 1


async def _parted(journal: Journal, name: str) -> tuple[list[Change], list[Change]]:
    """The changes of a slice, and all others."""
    changes = await changes_after(journal, await journal.earliest(), 99)
    return [c for c in changes if c.slice == name], [c for c in changes if c.slice != name]


async def _check_nothing_left(journal: Journal) -> None:
    """Nothing that the journal returns has CANARY."""
    found: list[Any] = [await journal.read(await journal.earliest(), 99)]
    if isinstance(journal, Checkpoints):
        for each in await journal.checkpoints():
            found += [await journal.saved(each.position), await History(journal).load(each.position)]
            assert not {"r/1"} & (await journal.index(each.position)).keys()
    if isinstance(journal, Portable):
        found.append(await journal.records())
    assert CANARY not in repr(found)


async def _worked(journal: Journal, number: int) -> None:
    """What a store does in a while: a request with an id, a checkpoint, trimming and tidying."""
    await write(journal, entry(value("a", number), id=f"at{number}"))
    await keep(journal)
    await _tidied(journal)


async def _check_remembered(journal: Journal, id: str) -> None:
    assert set(await journal.lookup([("ada", id)])) == {("ada", id)}


async def _tidied(journal: Journal) -> None:
    await History(journal).trim()
    await History(journal).tidy()


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
