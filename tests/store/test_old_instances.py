"""Instances of an earlier version: each is upgraded when it is first used, by a change that everybody sees."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from statestream import Slice, Store
from statestream.core.change import START, Action, Change, Position
from statestream.core.errors import JournalUnusable, NotInMemory, Unavailable
from statestream.core.principal import SERVER
from statestream.core.selection import EVERYTHING, Selection
from tests.support.rooms import MakeJournal, joining, room

ROOMS = Selection(names=frozenset(), families=frozenset({"room"}))


async def written(make_journal: MakeJournal, count: int) -> Position:
    """Rooms 0 to `count`, each with Ada, as version 1 writes them."""
    async with Store([room(1)], journal=make_journal()) as old:
        await asyncio.gather(*(old.dispatch(joining(str(number), "Ada")) for number in range(count)))
        return old.position


def counting(version: int = 2) -> tuple[Slice, list[Any]]:
    """Rooms that note each value that they upgrade."""
    seen: list[Any] = []
    declared = Slice("room", initial={"members": {}}, keyed=True, version=version)

    @declared.upgrade(2)
    def by_name(state: Any) -> Any:
        seen.append(list(state["members"]))
        return {"members": {who: {} for who in state["members"]}}

    @declared.action
    def joined(state: Any, *, who: str) -> None:
        state["members"][who] = {}

    return declared, seen


async def test_an_instance_is_upgraded_when_it_is_first_read(make_journal: MakeJournal) -> None:
    before = await written(make_journal, 300)
    declared, seen = counting()
    async with Store([declared], journal=make_journal()) as new:
        view = new.view(SERVER)
        assert new.position.seq == before.seq + 1, "the version is noted, and that is all"
        assert not seen
        changes: list[Change] = []
        new.on_change(changes.append)
        with pytest.raises(NotInMemory):
            new.get("room/7")
        for _ in range(2):
            assert await new.read("room/7") == {"members": {"Ada": {}}}
        [change] = changes
        assert (change.slice, change.kind, change.cause.type) == ("room/7", "value", "statestream/upgraded")
        assert 0 < change.from_version <= before.seq, "who has a copy can continue it"
        assert new.get("room/7") == {"members": {"Ada": {}}}
        assert seen == [["Ada"]]
        versions = view.versions(ROOMS)
        assert sum(version > before.seq for version in versions.values()) == 1
        then = await view.past.values_at(before, ["room/7"])
        assert then["room/7"] == {"members": ["Ada"]}, "the past is as it was written"
    async with Store([counting()[0]], journal=make_journal()) as again:
        assert again.view(SERVER).versions(ROOMS) == versions, "it is upgraded once"
        assert await again.read("room/7") == {"members": {"Ada": {}}}
        assert again.view(SERVER).versions(ROOMS) == versions


async def test_an_instance_is_upgraded_when_it_is_first_written(make_journal: MakeJournal) -> None:
    await written(make_journal, 3)
    declared, seen = counting()
    async with Store([declared], journal=make_journal()) as new:
        changes: list[Change] = []
        new.on_change(changes.append)
        await asyncio.gather(
            *(new.dispatch(joining("0", who)) for who in ("Bob", "Cy")), new.dispatch(joining("9", "D"))
        )
        assert await new.read("room/0") == {"members": {"Ada": {}, "Bob": {}, "Cy": {}}}
        assert len(seen) == 1
        kinds = [change.cause.type for change in changes if change.slice == "room/0"]
        assert kinds == ["statestream/upgraded", "room/joined", "room/joined"]


async def test_an_instance_that_only_the_run_of_an_action_names_is_upgraded(make_journal: MakeJournal) -> None:
    """The writer finds out while it holds the lock that an upgrade needs."""
    await written(make_journal, 2)
    declared, _ = counting()
    signal = Slice("signal", initial=0)
    calls: list[int] = []

    @signal.action
    def given(state: int) -> int:
        return state + 1

    def key(action: Action) -> str:
        calls.append(1)
        if len(calls) == 1:
            raise LookupError
        return "1"

    @declared.on("signal/given", key=key)
    def heard(state: Any) -> None:
        state["members"]["signal"] = {}

    async with Store([declared, signal], journal=make_journal()) as new:
        async with asyncio.timeout(30):
            await new.dispatch(Action(type="signal/given"))
        assert await new.read("room/1") == {"members": {"Ada": {}, "signal": {}}}


async def test_all_of_a_family_are_upgraded_when_all_are_read(make_journal: MakeJournal) -> None:
    await written(make_journal, 250)
    declared, seen = counting()
    async with Store([declared], journal=make_journal()) as new:
        view = new.view(SERVER)
        snapshot = await view.complete(lambda: view.snapshot(ROOMS))
        assert {state.encoded() for state in snapshot.slices.values()} == {b'{"members":{"Ada":{}}}'}
        assert len(snapshot.slices) == len(seen) == 250
        assert snapshot.position == new.position


async def test_nodes_that_read_the_same_upgrade_it_once(make_journal: MakeJournal) -> None:
    await written(make_journal, 20)
    async with Store([room(2)], journal=make_journal()) as one, Store([room(2)], journal=make_journal()) as other:
        names = [f"room/{number}" for number in range(20)]
        reads = [store.read(name) for name in names for store in (one, other, one)]
        assert await asyncio.gather(*reads) == [{"members": {"Ada": {}}}] * 60
        await asyncio.gather(one.caught_up(), other.caught_up())
        history = await one.view(SERVER).past.history(START, ROOMS, 1_000)
        upgrades = [change.slice for change in history.changes if change.cause.type == "statestream/upgraded"]
        assert sorted(upgrades) == sorted(names)
        assert one.position == other.position


async def test_code_that_newer_code_has_replaced_upgrades_nothing(make_journal: MakeJournal) -> None:
    await written(make_journal, 2)
    async with Store([room(2)], journal=make_journal()) as old:
        assert await old.read("room/0") == {"members": {"Ada": {}}}
        async with Store([room(3)], journal=make_journal()) as new:
            for _ in range(2):  # the second time, it knows
                with pytest.raises(Unavailable, match="newer code has taken over room"):
                    await old.read("room/1")
            assert await new.read("room/1") == {"members": {"Ada": {"role": "guest"}}}, "from 1 to 3"
            await old.caught_up()
            assert await old.read("room/1") == await new.read("room/1")
            assert await old.read("room/0") == {"members": {"Ada": {}}}, "what was read goes on being shown"


async def test_an_upgrade_that_fails_concerns_one_instance(
    make_journal: MakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    await written(make_journal, 3)
    declared = Slice("room", initial={"members": {}}, keyed=True, version=2)

    @declared.upgrade(2)
    def by_name(state: Any) -> None:
        if "Eve" in state["members"]:
            raise ValueError
        state["members"] = {who: {} for who in state["members"]}

    @declared.action
    def joined(state: Any, *, who: str) -> None:
        state["members"][who] = {}

    async with Store([room(1)], journal=make_journal()) as old:
        await old.dispatch(joining("1", "Eve"))
    async with Store([declared], journal=make_journal()) as new:
        preview = new.view(SERVER)
        before = preview.version("room/1")
        with caplog.at_level(logging.ERROR, "statestream"):
            for _ in range(2):
                with pytest.raises(JournalUnusable, match="room/1 of the journal cannot be upgraded"):
                    await new.read("room/1")
        assert len(caplog.records) == 1
        assert "room/1 of the journal cannot be upgraded: the upgrade of room to version 2 failed" in caplog.text
        outcomes = await asyncio.gather(
            *(new.dispatch(joining(key, "Bob")) for key in ("0", "1", "2")), return_exceptions=True
        )
        assert [isinstance(each, JournalUnusable) for each in outcomes] == [False, True, False]
        with pytest.raises(JournalUnusable):
            await preview.complete(lambda: preview.snapshot(ROOMS))
        assert await new.read("room/2") == {"members": {"Ada": {}, "Bob": {}}}
        assert preview.version("room/1") == before


async def test_check_tells_before(make_journal: MakeJournal) -> None:
    before = await written(make_journal, 5)
    typed = Slice("room", initial={"members": {}}, keyed=True, version=2, type=dict[str, dict[str, int]], validate=True)

    @typed.upgrade(2)
    def to_numbers(state: Any) -> Any:
        return {"members": dict.fromkeys(state["members"], 1) if "Eve" not in state["members"] else []}

    async with Store([room(1)], journal=make_journal()) as old:
        await old.dispatch(joining("3", "Eve"))
    found = await Store([typed], journal=make_journal()).preview()
    assert found.position.seq == before.seq + 1
    assert dict(found.steps) == {"version 2 of room is noted": 1}
    assert dict(found.later) == {"room": 5}
    [(name, why)] = found.unusable.items()
    assert name == "room/3"
    assert "room/3 of the journal cannot be upgraded: the value of room does not fit its type: at /members" in why
    found = await Store([room(1)], journal=make_journal()).preview()
    assert (found.steps, found.later, found.unusable) == ({}, {}, {})


async def test_shapes_change_in_two_deployments_side_by_side_and_back_again(make_journal: MakeJournal) -> None:
    """Without a version: first code that understands both shapes, then code that writes the new one."""

    def deployed(*, writes_objects: bool) -> Slice:
        declared = Slice("room", initial={"members": []}, keyed=True)

        @declared.action
        def joined(state: Any, *, who: str) -> None:
            if hasattr(state["members"], "append") and writes_objects:
                state["members"] = {each: {} for each in state["members"]}
            if hasattr(state["members"], "append"):
                state["members"].append(who)
            else:
                state["members"][who] = {}

        return declared

    await written(make_journal, 1)
    async with Store([deployed(writes_objects=False)], journal=make_journal()) as first:
        await first.dispatch(joining("0", "Bob"))
        async with Store([deployed(writes_objects=True)], journal=make_journal()) as second:
            await second.dispatch(joining("0", "Cy"))
            await first.dispatch(joining("0", "Dan"))
            await second.caught_up()
            expected = {"members": {"Ada": {}, "Bob": {}, "Cy": {}, "Dan": {}}}
            assert await first.read("room/0") == await second.read("room/0") == expected
    async with Store([deployed(writes_objects=False)], journal=make_journal()) as back:
        await back.dispatch(joining("0", "Eve"))
        assert await back.read("room/0") == {"members": {**expected["members"], "Eve": {}}}


async def test_a_further_version_brings_the_old_shape_back(make_journal: MakeJournal) -> None:
    await written(make_journal, 2)
    async with Store([room(2)], journal=make_journal()) as new:
        assert await new.read("room/0") == {"members": {"Ada": {}}}
    back = Slice("room", initial={"members": []}, keyed=True, version=3)
    back.upgrade(2)(lambda state: {"members": {who: {} for who in state["members"]}})
    back.upgrade(3)(lambda state: {"members": list(state["members"])})

    @back.action
    def joined(state: Any, *, who: str) -> None:
        state["members"].append(who)

    async with Store([back], journal=make_journal()) as third:
        await third.dispatch(joining("0", "Bob"))
        assert await third.read("room/0") == {"members": ["Ada", "Bob"]}
        assert await third.read("room/1") == {"members": ["Ada"]}


async def test_a_value_that_does_not_fit_its_type_is_logged_when_it_is_loaded(
    make_journal: MakeJournal, caplog: pytest.LogCaptureFixture
) -> None:
    await written(make_journal, 1)
    plain = Slice("board", initial={"tasks": 1})
    async with Store([plain], journal=make_journal()):
        pass
    rooms = Slice("room", initial={"members": {}}, keyed=True, type=dict[str, dict[str, int]])
    board = Slice("board", initial={"tasks": []}, type=dict[str, list[str]])
    with caplog.at_level(logging.ERROR, "statestream"):
        async with Store([rooms, board], journal=make_journal()) as new:
            assert "board in the journal does not fit the type of its slice: at /tasks: " in caplog.text
            caplog.clear()
            for _ in range(2):
                assert await new.read("room/0") == {"members": ["Ada"]}
                assert "room/0 in the journal does not fit the type of its slice: at /members: " in caplog.text
                assert len(caplog.records) == 1
    found = await Store([rooms, board], journal=make_journal()).preview()
    assert sorted(found.unusable) == ["board", "room/0"]


async def test_misfits_are_named_up_to_a_number(make_journal: MakeJournal, caplog: pytest.LogCaptureFixture) -> None:
    await written(make_journal, 40)
    rooms = Slice("room", initial={"members": {}}, keyed=True, type=dict[str, dict[str, int]])
    with caplog.at_level(logging.ERROR, "statestream"):
        async with Store([rooms], journal=make_journal()) as new:
            view = new.view(SERVER)
            await view.complete(lambda: view.snapshot(EVERYTHING))
    *named, last = [record.message for record in caplog.records]
    assert len(named) == 20
    assert last == "more values of room do not fit its type; `statestream check` lists them"
