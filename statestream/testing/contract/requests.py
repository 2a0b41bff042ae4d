"""What a journal must compare before it writes, and how long it remembers requests.

Invariants: time is that of the journal's clock, which the tests move; they never wait for it.
"""

from __future__ import annotations

from statestream.core.change import START, IdempotencyRecord, Position
from statestream.core.errors import Forked
from statestream.journal.contract import IDEMPOTENCY_MS, Conflict, Duplicate, Journal, Retention
from statestream.journal.history import History
from statestream.testing.contract.maker import JournalMaker
from statestream.testing.journals import (
    changes_after,
    entry,
    keep,
    plain,
    raised,
    removed,
    tidied,
    value,
    wall_clock_ahead,
    write,
)

DAY = 24 * 3600
JUMPS = (25 * 3600, 1000 * DAY, -25 * 3600)
"""Of the wall clock, in seconds."""


class RequestTests(JournalMaker):
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
        await tidied(journal)
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


async def _worked(journal: Journal, number: int) -> None:
    """What a store does in a while: a request with an id, a checkpoint, trimming and tidying."""
    await write(journal, entry(value("a", number), id=f"at{number}"))
    await keep(journal)
    await tidied(journal)


async def _check_remembered(journal: Journal, id: str) -> None:
    assert set(await journal.lookup([("ada", id)])) == {("ada", id)}
