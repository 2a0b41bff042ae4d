"""State that outlives its code: versions of slices, new names, and slices that are declared no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream import Slice, Store
from statestream.core.change import REMOVED, START, Action
from statestream.core.errors import JournalUnusable, Unavailable, UnknownSlice
from statestream.core.principal import SERVER, Principal
from statestream.core.selection import Selection
from statestream.core.upgrades import Upgrades
from tests.support.rooms import MakeJournal, joining, room


async def test_a_journal_of_older_code_opens_under_newer_code(make_journal: MakeJournal) -> None:
    async with Store([room(1)], journal=make_journal()) as old:
        await old.dispatch([joining("a", "Ada"), joining("b", "Bob")])
        before = old.position
    async with Store([room(3)], journal=make_journal()) as new:
        assert await new.read("room/a") == {"members": {"Ada": {"role": "guest"}}}
        await new.dispatch(joining("a", "Cy"))
        assert await new.read("room/a") == {"members": {"Ada": {"role": "guest"}, "Cy": {"role": "guest"}}}
        view = new.view(Principal())
        assert (await view.past.values_at(before, ["room/a"]))["room/a"] == {"members": ["Ada"]}
        position = new.position
    async with Store([room(3)], journal=make_journal()) as again:
        assert again.position == position, "nothing is upgraded twice"


async def test_code_that_is_older_than_the_state_is_refused(make_journal: MakeJournal) -> None:
    async with Store([room(2)], journal=make_journal()) as new:
        position = new.position
    with pytest.raises(JournalUnusable, match="version 2 of the slice room, but this code declares version 1; deploy"):
        await Store([room(1)], journal=make_journal()).__aenter__()
    async with Store([room(2)], journal=make_journal()) as new:
        assert new.position == position


async def test_old_code_goes_on_showing_and_writes_nothing_after_the_new_has_opened(make_journal: MakeJournal) -> None:
    async with Store([room(1), board := Slice("board", initial=0)], journal=make_journal()) as old:

        @board.action
        def counted(state: Any) -> Any:
            return state + 1

        await old.dispatch(joining("a", "Ada"))
        async with Store([room(2), board], journal=make_journal()) as new:
            for _ in range(2):
                with pytest.raises(Unavailable, match="newer code has taken over room"):
                    await old.dispatch(joining("a", "Old"), id="tried")
            with pytest.raises(Unavailable, match="newer code has taken over room"):
                await old.dispatch(joining("new", "Old"))
            await new.dispatch(joining("a", "New"), id="tried")
            await old.caught_up()
            assert await old.read("room/a") == await new.read("room/a") == {"members": {"Ada": {}, "New": {}}}
            assert await old.read("room/new") is None
            troubles = old.view(Principal()).vitals.troubles
            assert [each.code for each in troubles.current()] == ["outdated"]
            assert not new.view(Principal()).vitals.troubles.current()


async def test_a_value_that_old_code_writes_while_the_new_opens_is_upgraded(make_journal: MakeJournal) -> None:
    """Neither node knows of the other: what is written before the note is old, whoever has read it."""
    async with Store([room(1)], journal=make_journal()) as old:

        async def writing(number: int) -> None:
            with contextlib.suppress(Unavailable):
                await old.dispatch(joining(f"r{number}", "Ada"))

        tasks = [asyncio.create_task(writing(number)) for number in range(600)]
        async with Store([room(2)], journal=make_journal()) as new:
            await asyncio.gather(*tasks)
            await new.caught_up()
            for name in new.view(SERVER).versions(Selection(names=frozenset(), families=frozenset({"room"}))):
                assert await new.read(name) == {"members": {"Ada": {}}}


async def test_a_store_that_keeps_everything_in_memory_upgrades_everything_when_it_opens(
    make_journal: MakeJournal,
) -> None:
    async with Store([room(1)], journal=make_journal()) as old:
        await asyncio.gather(*(old.dispatch(joining(f"r{number}", "Ada")) for number in range(1_200)))
    async with Store([room(2)], journal=make_journal(), idle=None) as new:
        assert all(new.get(f"room/r{number}") == {"members": {"Ada": {}}} for number in range(1_200))


async def test_a_new_journal_is_of_the_newest_version(make_journal: MakeJournal) -> None:
    async with Store([room(3)], journal=make_journal()) as store:
        await store.dispatch(joining("a", "Ada"))
        assert await store.read("room/a") == {"members": {"Ada": {"role": "guest"}}}
    with pytest.raises(JournalUnusable):
        await Store([room(2)], journal=make_journal()).__aenter__()


async def test_clients_do_not_see_the_notes(make_journal: MakeJournal) -> None:
    async with Store([room(2)], journal=make_journal()) as store:
        view = store.view(Principal())
        assert list(view.snapshot(view.grant(view.asked("*")).selection).slices) == []


async def test_nor_do_clients_of_code_that_declares_no_version(make_journal: MakeJournal) -> None:
    """Which goes on serving while newer code opens the journal."""
    async with Store([room(1)], journal=make_journal()) as old:
        await old.dispatch(joining("a", "Ada"))
        view, before = old.view(Principal()), old.position
        everything = view.grant(view.asked("*")).selection
        async with Store([room(2)], journal=make_journal()) as new:
            await new.read("room/a")
            await old.caught_up()
            assert old.position == new.position
            assert view.versions(everything) == {"room/a": old.position.seq}
            assert list(view.snapshot(everything).slices) == ["room/a"]
            assert list((await view.past.snapshot_at(old.position, everything)).slices) == ["room/a"]
            assert {each.slice for each in view.recent(before, everything) or ()} == {"room/a"}
            assert {each.slice for each in (await view.past.history(START, everything)).changes} == {"room/a"}
            with pytest.raises(UnknownSlice):
                view.asked("slice_version/*")


async def test_a_version_hides_no_slice_that_is_not_declared_any_more(make_journal: MakeJournal) -> None:
    async with Store([room(1), Slice("remark", initial="kept")], journal=make_journal()):
        pass
    async with Store([room(2)], journal=make_journal()) as new:
        view = new.view(Principal())
        assert list(view.snapshot(view.grant(view.asked("*")).selection).slices) == ["remark"]


async def test_an_action_that_has_changed_takes_what_older_clients_send(make_journal: MakeJournal) -> None:
    """A new field has a default value, one that is not needed any more is still there, and a repeat is a repeat."""
    before, after = (Slice("board", initial={"tasks": []}) for _ in range(2))

    def added(state: Any, *, title: str, color: str) -> None:
        state["tasks"].append(f"{title} in {color}")

    def changed(state: Any, *, title: str, color: str = "", due: str = "today") -> None:
        state["tasks"].append(f"{title} {due}")

    changed.__name__ = "added"
    before.action(added)
    after.action(changed)
    sent = Action(type="board/added", payload={"title": "Sow", "color": "green"})
    async with Store([before], journal=make_journal()) as old:
        await old.dispatch(sent, id="queued")
    async with Store([after], journal=make_journal()) as new:
        assert (await new.dispatch(sent, id="queued")).duplicate
        await new.dispatch(sent, id="later")
        assert new.get("board") == {"tasks": ["Sow in green", "Sow today"]}


async def test_a_failing_upgrade_of_a_plain_slice_leaves_the_journal_as_it_was(make_journal: MakeJournal) -> None:
    async with Store([Slice("board", initial={})], journal=make_journal()) as old:
        position = old.position
    broken = Slice("board", initial={}, version=2)

    @broken.upgrade(2)
    def wrong(state: Any) -> None:
        state["missing"]["member"] = 1

    with pytest.raises(JournalUnusable, match="board of the journal cannot be upgraded: the upgrade of board to"):
        await Store([broken], journal=make_journal()).__aenter__()
    async with Store([Slice("board", initial={})], journal=make_journal()) as old:
        assert old.position == position


async def test_a_slice_with_another_name_keeps_its_state(make_journal: MakeJournal) -> None:
    plain = Slice("board", initial={"n": 1})
    async with Store([room(1), plain], journal=make_journal()) as old:
        await old.dispatch([joining("a", "Ada"), joining("b", "Bob")])
        cursor = old.position
    renamed = [room(2, name="channel", was="room"), Slice("tasks", initial={"n": 2}, was="board")]
    async with Store(renamed, journal=make_journal()) as new:
        assert await new.read("channel/a") == {"members": {"Ada": {}}}
        assert new.get("tasks") == {"n": 1}
        view = new.view(Principal())
        asked = view.grant(view.asked("*")).selection
        assert sorted((await view.complete(lambda: view.snapshot(asked))).slices) == ["channel/a", "channel/b", "tasks"]
        page = await view.past.history(cursor, asked, 100)
        gone = sorted(change.slice for change in page.changes if change.kind == "removed")
        assert gone == ["board", "room/a", "room/b"], "somebody who resumes hears of it"
        position = new.position
    async with Store(renamed, journal=make_journal()) as again:
        assert again.position == position


async def test_a_slice_that_is_not_declared_any_more_is_named_and_can_be_removed(
    make_journal: MakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Slice("board", initial={})
    async with Store([room(1), kept], journal=make_journal()) as old:
        await old.dispatch([joining("a", "Ada"), joining("b", "Bob")])
        cursor = old.position
    with caplog.at_level(logging.WARNING, "statestream"):
        async with Store([kept], journal=make_journal()) as new:
            assert new.position == cursor, "nothing is removed by accident"
    assert "does not declare: room; keep it or remove it with Store(…, removed=[…])" in caplog.text
    async with Store([kept], journal=make_journal(), removed=["room"]) as new:
        view = new.view(Principal())
        asked = view.grant(view.asked("*")).selection
        assert list(view.snapshot(asked).slices) == ["board"]
        page = await view.past.history(cursor, asked, 100)
        assert {each.slice: each.kind for each in page.changes} == {"room/a": "removed", "room/b": "removed"}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Slice("a", initial=0, version=0), "expected the version of a as a whole number of at least 1"),
        (lambda: Slice("a", initial=0, version=True), "expected the version of a as a whole number of at least 1"),
        (lambda: Store([Slice("a", initial=0, version=2)]), "nothing leads from version 1 to 2; declare it with @a.up"),
        (lambda: Slice("a", initial=0).upgrade(2)(lambda state: state), "expected a version from 2 to 1"),
        (lambda: Store([Slice("a", initial=0)], removed=["a"]), "expected a name that no slice has any more"),
        (lambda: Store([Slice("a", initial=0), Slice("b", initial=0, was="a")]), "expected a name that no slice has"),
    ],
)
def test_declarations_that_cannot_work_are_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_an_upgrade_is_declared_once_and_is_a_plain_function() -> None:
    declared = Slice("a", initial=0, version=2)
    declared.upgrade(2)(lambda state: state)
    with pytest.raises(ValueError, match="a has an upgrade to version 2 already"):
        declared.upgrade(2)(lambda state: state)

    async def waits(state: Any) -> None: ...

    with pytest.raises(TypeError, match="the upgrade of a is a coroutine function"):
        declared.upgrade(2)(waits)
    with pytest.raises(TypeError, match="expected the names of slices as a list"):
        Store([Slice("b", initial=0)], removed="a")


@given(st.integers(1, 6), st.integers(0, 5))
def test_upgrades_run_in_order_from_any_version(version: int, behind: int) -> None:
    upgrades = Upgrades("a", version)
    for to in range(2, version + 1):
        upgrades.add(to, lambda state, to=to: [*state, to])
    begun = max(1, version - behind)
    assert upgrades.run([begun], begun) == list(range(begun, version + 1))
    assert REMOVED is not upgrades.run([], version)
