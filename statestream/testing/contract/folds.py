"""What a journal must keep if changes of gradual actions are folded.

Invariants: engines without Foldable pass, because they keep everything.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final

from statestream.core.change import START, Change, PendingChange
from statestream.core.folding import Merged, Run, folded
from statestream.journal.contract import Erasable, Foldable, Journal, Portable, Retention
from statestream.journal.history import Held, History, advance
from statestream.journal.inspection import verify
from statestream.journal.memory import MemoryJournal
from statestream.testing.contract.maker import JournalMaker
from statestream.testing.journals import SMALL, changes_after, entry, fold, keep, patches, plain, step, value, write

FOLDED_AT_ONCE: Final = Retention(checkpoint=1_000, fold_after=0.0)


class FoldTests(JournalMaker):
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
