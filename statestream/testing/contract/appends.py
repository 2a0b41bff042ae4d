"""What a journal must do with changes: append them, read them, and keep them across restarts.

Invariants: nothing here makes a checkpoint, so an engine without them passes all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from statestream.core.change import START, Page, Snapshot
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import PAGE_BYTES, Checkpoints, Journal, Retention
from statestream.journal.history import History
from statestream.testing.contract.maker import JournalMaker
from statestream.testing.journals import changes_after, entry, keep, patches, plain, removed, value, write


class AppendTests(JournalMaker):
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
