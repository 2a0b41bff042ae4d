"""What a journal must forget if a slice is erased, and what it must keep.

Invariants: what is erased contains CANARY, and nothing that is kept does.
"""

from __future__ import annotations

import asyncio
from typing import Any

from statestream.core.change import START, Change
from statestream.journal.contract import Checkpoints, Erasable, Journal, Portable, Retention
from statestream.journal.history import History
from statestream.journal.memory import MemoryJournal
from statestream.testing.contract.maker import JournalMaker
from statestream.testing.journals import SMALL, changes_after, entry, keep, patches, plain, removed, value, write

CANARY = "correct horse battery staple"


class ErasureTests(JournalMaker):
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
