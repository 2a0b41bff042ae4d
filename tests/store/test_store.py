"""The store: what a dispatch promises, alone, in a crowd, beside other nodes, and when the journal fails."""

from __future__ import annotations

import asyncio
import gc
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream import (
    Action,
    ActionIdReused,
    Change,
    HandlerFailed,
    InvalidPayload,
    Malformed,
    Refused,
    Slice,
    StatestreamError,
    Store,
    Unavailable,
    VersionConflict,
)
from statestream.broadcast.backlog import Backlogs
from statestream.core.change import Position, SliceState
from statestream.core.errors import UnknownAction, UnknownSlice
from statestream.core.principal import ANYBODY, SERVER, Scope
from statestream.core.selection import EVERYTHING
from statestream.journal import MemoryJournal, Retention, SqliteJournal
from statestream.journal.contract import Appended, Batch
from statestream.journal.history import History
from tests.apps.board import also_counted, board, broken, closed, counted, counter, joined, room, task_added
from tests.apps.board import refused as refused_action
from tests.support.meddled import Meddled
from tests.support.often import often

SLICES = [board, room, counter]
assert also_counted  # it is what `counter` does about `board/counted`


@asynccontextmanager
async def opened(journal: Any = "memory:", slices: Iterable[Slice] = SLICES) -> AsyncIterator[Store]:
    async with Store(slices, journal=journal) as store:
        yield store


async def test_a_dispatch_is_visible_when_it_returns() -> None:
    async with opened() as store:
        result = await store.dispatch(task_added(id="1", title="Ship it"))
        assert store.get("board")["tasks"] == [{"id": "1", "title": "Ship it", "done": False}]
        assert result.changes == (("board", version_of(store, "board")),)
        assert result.position == store.position


async def test_who_asks_has_what_another_node_has_written() -> None:
    journal = Meddled()
    async with opened(journal) as here, opened(journal) as there:
        for number in range(1, 6):
            result = await here.dispatch(counted())
            asked = await asyncio.gather(*(there.view(SERVER).caught_up() for _ in range(3)))
            assert min(position.seq for position in asked) >= result.position.seq
            assert there.get("counter") == number
    with pytest.raises(Unavailable, match="not open"):
        await there.view(SERVER).caught_up()


@pytest.mark.parametrize("trouble", [Unavailable("the journal is down"), RuntimeError("a driver's own error")])
async def test_a_look_that_fails_is_said_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    async def down(*_: Any) -> Any:
        raise trouble

    async with opened() as store:
        with monkeypatch.context() as broken:
            broken.setattr(store._state.journal, "read", down)
            looking = asyncio.create_task(store.view(SERVER).caught_up())
            await store.dispatch(counted())  # in the same round: it does not need to read
            with pytest.raises(Unavailable, match="try again"):
                await looking
        assert await store.view(SERVER).caught_up() == store.position
        await store.dispatch(counted())
        assert store.get("counter") == 2
    assert ("own error" in caplog.text) == isinstance(trouble, RuntimeError)


async def test_a_batch_that_waited_is_one_append() -> None:
    journal = Meddled()
    async with opened(journal) as store:
        journal.gate.clear()
        first = asyncio.create_task(store.dispatch(counted()))
        await asyncio.sleep(0)
        rest = [asyncio.create_task(store.dispatch(counted())) for _ in range(100)]
        await asyncio.sleep(0)
        before = journal.appends
        journal.gate.set()
        await asyncio.gather(first, *rest)
        assert journal.appends - before <= 2
        assert store.get("board")["count"] == store.get("counter") == 101


async def test_a_handler_that_fails_fails_alone() -> None:
    async with opened() as store:
        outcomes = await asyncio.gather(
            store.dispatch(task_added(id="1", title="a")),
            store.dispatch(broken()),
            store.dispatch(refused_action(why="full")),
            store.dispatch(task_added(id="2", title="b")),
            return_exceptions=True,
        )
        assert [type(o).__name__ for o in outcomes] == ["Result", "HandlerFailed", "Refused", "Result"]
        assert "secret" not in str(outcomes[1])
        assert isinstance(outcomes[2], Refused)
        assert outcomes[2].reason == "full"
        assert [t["id"] for t in store.get("board")["tasks"]] == ["1", "2"]


@pytest.mark.parametrize("type", ["board/not_json", "board/loops", "board/broken"])
async def test_bad_handlers_are_the_servers_fault(type: str) -> None:
    async with opened() as store:
        await store.dispatch(task_added(id="1", title="a"))
        before = store.position
        with pytest.raises(HandlerFailed):
            await store.dispatch(Action(type=type))
        assert store.position == before


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Action(type="board/none"), UnknownAction),
        (Action(type="board/task_added", payload={"id": "1"}), InvalidPayload),
        (Action(type="board/task_added", payload={"id": 1, "title": "x"}), InvalidPayload),
        (Action(type="board/task_added", payload={"id": "1", "title": "x", "more": 1}), InvalidPayload),
        (Action(type="board/task_added", payload={"id": "1", "title": object()}), Malformed),
        (Action(type="board/task_added", payload={"id": "1", "title": "x"}, key="k"), Malformed),
        (Action(type="room/joined", payload={"name": "x"}), Malformed),
        (Action(type="room/joined", payload={"name": "x"}, key="a b"), Malformed),
        (Action(type="room/joined", payload={"name": "x"}, key="%61"), Malformed),
    ],
)
async def test_what_is_wrong_with_an_action_is_said(action: Action, error: type[StatestreamError]) -> None:
    async with opened() as store:
        with pytest.raises(error):
            await store.dispatch(action)


async def test_a_creator_checks_its_arguments_at_once() -> None:
    with pytest.raises(InvalidPayload, match="/title"):
        task_added(id="1")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="key"):
        joined(name="Ada")
    assert joined("42", name="Ada") == Action(type="room/joined", key="42", payload={"name": "Ada"})


async def test_the_same_id_takes_effect_once() -> None:
    async with opened() as store:
        results = await asyncio.gather(*(store.dispatch(counted(), id="once") for _ in range(500)))
        later = await store.dispatch(counted(), id="once")
        assert store.get("counter") == 1
        assert len({(r.position, r.changes) for r in [*results, later]}) == 1
        assert sum(not r.duplicate for r in results) == 1
        assert later.duplicate
        with pytest.raises(ActionIdReused):
            await store.dispatch(counted(by=2), id="once")
        other = await store.dispatch(counted(), id="once", actor="bob")
        assert not other.duplicate


async def test_a_repeat_is_answered_even_where_it_would_fail_now() -> None:
    async with opened() as store:
        version = version_of(store, "counter")
        first = await store.dispatch(counted(), id="x", expect={"counter": version})
        again = await store.dispatch(counted(), id="x", expect={"counter": version})
        assert again.duplicate
        assert again.position == first.position
        with pytest.raises(ActionIdReused):
            await store.dispatch(refused_action(why="no"), id="x")


async def test_a_request_that_changed_nothing_is_remembered_too() -> None:
    async with opened() as store:
        first = await store.dispatch(counted(by=0), id="nothing")
        assert first.changes == ()
        await store.dispatch(counted())
        again = await store.dispatch(counted(by=0), id="nothing")
        assert again.duplicate
        assert again.position == first.position


async def test_a_refused_request_may_be_tried_again() -> None:
    async with opened() as store:
        for _ in range(2):
            with pytest.raises(Refused):
                await store.dispatch(refused_action(why="no"), id="again")
        assert not (await store.dispatch(counted(), id="again")).duplicate


async def test_expect_holds_or_nothing_happens() -> None:
    async with opened() as store:
        version = version_of(store, "counter")
        await store.dispatch(counted(), expect={"counter": version, "room/42": 0})
        with pytest.raises(VersionConflict):
            await store.dispatch(counted(), expect={"counter": version})
        with pytest.raises(UnknownSlice):
            await store.dispatch(counted(), expect={"nothing": 1})
        with pytest.raises(Malformed):
            await store.dispatch(counted(), expect={"counter": -1})
        assert store.get("counter") == 1


async def test_of_two_that_expect_the_same_in_one_batch_one_wins() -> None:
    async with opened() as store:
        version = version_of(store, "counter")
        attempts = [store.dispatch(counted(), expect={"counter": version}) for _ in range(10)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        assert sum(isinstance(o, VersionConflict) for o in outcomes) == 9
        assert store.get("counter") == 1


async def test_several_actions_are_one_or_none() -> None:
    async with opened() as store:
        seen: list[Change] = []
        store.on_change(seen.append)
        result = await store.dispatch([counted(), joined("a", name="x"), counted()])
        assert [name for name, _ in result.changes] == ["board", "counter", "room/a", "board", "counter"]
        assert [c.version for c in seen] == list(range(seen[0].version, seen[0].version + 5))
        assert len({c.cause.id for c in seen}) == 1
        before = store.position
        with pytest.raises(Refused):
            await store.dispatch([counted(), refused_action(why="no"), counted()])
        with pytest.raises(Malformed):
            await store.dispatch([])
        assert store.position == before
        assert store.get("counter") == 2


async def test_instances_come_and_go() -> None:
    async with opened() as store:
        made = await store.dispatch(joined("42", name="Ada"))
        gone = await store.dispatch(closed("42"))
        assert store.get("room/42") is None
        again = await store.dispatch(joined("42", name="Bob"), expect={"room/42": 0})
        assert store.get("room/42") == {"members": ["Bob"]}
        changes = (await store._state.journal.read(made.position, 9)).changes
        assert [(c.kind, c.from_version) for c in changes] == [("removed", made.position.seq), ("value", 0)]
        assert gone.position.seq < again.position.seq


async def test_a_handler_may_ask_for_the_action_and_pick_its_instance() -> None:
    part = Slice("part", initial=[], keyed=True)
    other = Slice("other", initial={"seen": []})

    @part.action
    def done(state: Any, action: Action, *, who: str) -> None:
        state.append([action.id, action.key, action.actor, action.at > 0, action.type, who])

    @other.action
    def sent(state: Any, *, to: str) -> None:
        state["seen"].append(to)

    @part.on(sent, key=lambda action: str(action.payload["to"]))
    def received(state: Any, *, to: str) -> None:
        state.append(to)

    async with opened(slices=[part, other]) as store:
        await store.dispatch(done("k", who="me"), id="i", actor="ada")
        await store.dispatch(sent(to="k"))
        assert store.get("part/k") == [["i", "k", "ada", True, "part/done", "me"], "k"]


async def test_a_caller_that_gives_up_does_not_undo() -> None:
    journal = Meddled()
    async with opened(journal) as store:
        journal.gate.clear()
        caller = asyncio.create_task(store.dispatch(counted(), id="mine"))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        journal.gate.set()
        assert (await store.dispatch(counted(), id="mine")).duplicate
        assert store.get("counter") == 1


async def test_closing_answers_what_waits() -> None:
    journal = Meddled()
    store = Store(SLICES, journal=journal)
    async with store:
        waiting = [asyncio.create_task(store.dispatch(counted())) for _ in range(5)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*waiting)) == 5
    with pytest.raises(Unavailable, match="not open"):
        await store.dispatch(counted())


async def test_a_listener_that_raises_stops_nobody() -> None:
    async with opened() as store:
        seen: list[Change] = []

        def bad(_: Change) -> None:
            raise ValueError("mine")

        store.on_change(bad)
        stop = store.on_change(seen.append)
        await store.dispatch(counted())
        stop()
        await store.dispatch(counted())
        assert [c.slice for c in seen] == ["board", "counter"]


async def test_old_state_stays_whole() -> None:
    async with opened() as store:
        await store.dispatch(task_added(id="1", title="a"))
        old = store.get("board")
        await store.dispatch(task_added(id="2", title="b"))
        assert len(old["tasks"]) == 1


# other nodes


async def test_two_nodes_never_lose_an_update() -> None:
    journal = MemoryJournal()
    async with opened(journal) as one, opened(journal) as two:
        await asyncio.gather(*(store.dispatch(counted()) for _ in range(100) for store in (one, two)))
        last = await one.dispatch(counted())
        await reached(two, last.position)
        assert one.get("counter") == two.get("counter") == 201
        assert one.position == two.position


async def reached(store: Store, position: Position) -> None:
    grown = asyncio.Event()
    stop = store.on_change(lambda _: grown.set())
    async with asyncio.timeout(60):
        while store.position.seq < position.seq:
            grown.clear()
            await grown.wait()
    stop()


async def test_what_lies_between_is_announced_first() -> None:
    journal = MemoryJournal()
    async with opened(journal) as one, opened(journal) as two:
        seen: list[int] = []
        one.on_change(lambda change: seen.append(change.version))
        start = one.position.seq
        await two.dispatch(joined("b", name="x"))
        result = await one.dispatch(joined("a", name="x"))
        assert seen == list(range(start + 1, result.position.seq + 1))


class Deaf(MemoryJournal):
    """A node on it is never woken: what others wrote it learns only when it looks."""

    async def wait(self, after: Position) -> None:
        await asyncio.Event().wait()


async def test_a_node_that_is_behind_looks_again_before_it_says_no() -> None:
    journal = Deaf()
    async with opened(journal) as one, opened(journal) as two:
        await one.dispatch(counted(), id="done")
        again = await two.dispatch(counted(), id="done")
        assert again.duplicate
        assert two.position.seq >= again.position.seq, "what it answers shows here"
        version = (await one.dispatch(joined("a", name="x"))).position.seq
        await two.dispatch(joined("a", name="y"), expect={"room/a": version})
        await one.dispatch(task_added(id="1", title="x"))
        nothing = await two.dispatch(counted(by=0))
        assert nothing.position == one.position


guests = Slice("guests", initial=[])
tally = Slice("tally", initial=0)


@guests.action
def arrived(state: Any, *, name: str) -> None:
    if name not in state:
        state.append(name)


@guests.action
def left(state: Any, *, name: str) -> None:
    if name in state:
        state.remove(name)


@tally.action
def tallied(state: int) -> int:
    return state + 1


class Overtaken(MemoryJournal):
    """Before the next append, `first` is done by somebody else."""

    first: Callable[[], Awaitable[object]] | None = None

    async def append(self, batch: Batch) -> list[Appended]:
        first, self.first = self.first, None
        if first is not None:
            await first()
        return await super().append(batch)


async def test_what_changes_nothing_is_done_again_if_another_node_is_first() -> None:
    """A part of a request that found everything as it should be, until another node came in between."""
    journal = Overtaken()
    async with opened(journal, [guests, tally]) as one, opened(journal, [guests, tally]) as two:
        await one.dispatch(arrived(name="ann"))
        journal.first = lambda: two.dispatch(left(name="ann"))
        both = await one.dispatch([arrived(name="ann"), tallied()])
        assert [name for name, _ in both.changes] == ["guests", "tally"]
        assert one.get("guests") == ["ann"]
        journal.first = lambda: two.dispatch(left(name="ann"))
        again = await one.dispatch(arrived(name="ann"), id="again")
        assert [name for name, _ in again.changes] == ["guests"]


async def test_what_changes_nothing_is_answered_with_a_position_at_which_that_was_so() -> None:
    """Not that of a request of the same batch which comes later, and changes it."""
    async with opened(slices=[guests, tally]) as store:
        before = await store.dispatch(arrived(name="ann"))
        there, gone, away = await asyncio.gather(
            *(store.dispatch(action) for action in (arrived(name="ann"), left(name="ann"), left(name="ann")))
        )
        assert (there.changes, away.changes) == ((), ())
        assert (there.position, away.position) == (before.position, gone.position)


async def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    async with opened(SqliteJournal(path)) as one, opened(SqliteJournal(path)) as two:
        await asyncio.gather(*(store.dispatch(counted()) for _ in range(20) for store in (one, two)))
        await reached(two, (await one.dispatch(counted())).position)
        assert two.get("counter") == 41


# a journal that fails


@pytest.mark.parametrize("how", ["before", "after", "bug"])
async def test_an_unknown_outcome_is_safe_to_retry(how: str) -> None:
    journal = Meddled()
    async with opened(journal) as store:
        journal.fail = [how]
        with pytest.raises(Unavailable, match="same id"):
            await store.dispatch(counted(), id="x")
        result = await store.dispatch(counted(), id="x")
        assert result.duplicate == (how != "before")
        assert store.get("counter") == 1


async def test_what_was_committed_unknowingly_is_announced_before_the_next() -> None:
    journal = Meddled()
    async with opened(journal) as store:
        seen: list[Change] = []
        store.on_change(seen.append)
        journal.fail = ["after"]
        with pytest.raises(Unavailable):
            await store.dispatch(counted())
        await store.dispatch(joined("a", name="x"))
        assert [c.slice for c in seen] == ["board", "counter", "room/a"]


async def test_a_history_that_was_replaced_resets_the_store(tmp_path: Path) -> None:
    """A backup restored into the open file: the tag tells, the state is the backup's, readers are told."""
    path, backup = tmp_path / "j.db", tmp_path / "backup.db"
    async with opened(SqliteJournal(path)) as store:
        await store.dispatch(counted())
        copy(path, backup)
        await store.dispatch(counted())
        resets: list[str] = []
        store.view(SERVER).subscribe(Resets(resets))
        copy(backup, path)
        result = await store.dispatch(counted())
        assert resets == ["forked"]
        assert store.get("counter") == 2
        assert result.position == store.position


async def test_a_node_that_fell_behind_what_is_kept_announces_why() -> None:
    journal = Deaf(Retention(changes=3, age=0.0, bytes=0, checkpoint=1))
    async with opened(journal) as here, opened(journal) as there:
        resets: list[str] = []
        there.view(SERVER).subscribe(Resets(resets))
        while (await journal.earliest()).seq <= there.position.seq:
            await here.dispatch(counted())
        await there.dispatch(counted())
        assert resets == ["expired"]
        assert there.position == await journal.head()


class Resets:
    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def changed(self, _: Any) -> None: ...

    def reset(self, why: str) -> None:
        self.seen.append(why)


def copy(source: Path, target: Path) -> None:
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    one.backup(other)
    one.close()
    other.close()


async def test_a_restart_replays_from_the_checkpoint(tmp_path: Path) -> None:
    retention = Retention(changes=5, age=0.0, bytes=0, checkpoint=7)
    states: list[Any] = []
    for _ in range(3):
        async with opened(SqliteJournal(tmp_path / "j.db", retention)) as store:
            if states:
                assert {n: value for n, (value, _) in (await values(store)).items()} == states[-1]
            for n in range(20):
                await store.dispatch(task_added(id=str(n), title="x"))
                await store.dispatch(joined(str(n % 3), name="y") if n % 2 else closed(str(n % 3)))
            states.append({name: value for name, (value, _) in (await values(store)).items()})
    assert len(states[-1]["board"]["tasks"]) == 60


async def crash(store: Store) -> None:
    """What kill -9 leaves of a store in this process: nothing is closed, no checkpoint is made."""
    tasks, store._tasks = store._tasks, []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@settings(max_examples=often(50))
@given(
    ends=st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=8), st.booleans()), min_size=1, max_size=6),
    checkpoint=st.integers(1, 5),
)
def test_no_mix_of_crashes_and_stops_loses_state(ends: Any, checkpoint: int) -> None:
    asyncio.run(crash_and_stop(ends, checkpoint))


async def crash_and_stop(ends: Any, checkpoint: int) -> None:
    journal = MemoryJournal(Retention(changes=3, age=0.0, bytes=0, checkpoint=checkpoint))
    before: Any = None
    for numbers, clean in ends:
        store = Store(SLICES, journal=journal)
        await store.__aenter__()
        assert before is None or await values(store) == before
        for n in numbers:
            action = counted() if n < 3 else closed(str(n % 2)) if n < 5 else joined(str(n % 2), name="x")
            await store.dispatch(action)
        before = await values(store)
        await (store.__aexit__() if clean else crash(store))


async def test_a_crash_before_the_first_checkpoint_and_a_stop_after_it(tmp_path: Path) -> None:
    store = Store(SLICES, journal=SqliteJournal(tmp_path / "j.db"))
    await store.__aenter__()
    await store.dispatch(joined("1", name="x"))
    await crash(store)
    await store._state.journal.close()
    for count in (1, 2):
        async with opened(SqliteJournal(tmp_path / "j.db")) as again:
            await again.dispatch(counted())
            assert again.get("counter") == count
            assert await again.read("room/1") == {"members": ["x"]}


async def test_a_handler_cannot_end_the_writer() -> None:
    part = Slice("part", initial=0)

    @part.action
    def bad(state: int) -> int:
        raise asyncio.CancelledError

    @part.action
    def good(state: int) -> int:
        return state + 1

    async with opened(slices=[part]) as store:
        with pytest.raises(HandlerFailed):
            await store.dispatch(bad())
        await store.dispatch(good())
        assert store.get("part") == 1


async def test_a_payload_cannot_name_what_is_the_handlers_own() -> None:
    part = Slice("part", initial={})

    @part.action
    def open_to_all(state: Any, **fields: Any) -> None:
        state.update(fields)

    async with opened(slices=[part]) as store:
        await store.dispatch(open_to_all(a=1, b=[2]))
        assert store.get("part") == {"a": 1, "b": [2]}
        for name in ("state", "action"):
            with pytest.raises(InvalidPayload, match=name):
                await store.dispatch(Action(type="part/open_to_all", payload={name: 1}))


class Stumbling(MemoryJournal):
    """Its `wait` raises once what a journal should not."""

    stumbled = False

    async def wait(self, after: Position) -> None:
        if not self.stumbled:
            self.stumbled = True
            raise RuntimeError("a driver's own error")
        await super().wait(after)


async def test_following_survives_a_stumble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.store.writer.RETRY_SECONDS", 0.01)
    journal = Stumbling()
    async with opened(journal) as one, opened(journal) as two:
        await reached(two, (await one.dispatch(counted())).position)
        await reached(one, (await two.dispatch(counted())).position)


async def test_a_resume_through_the_journal_waits_for_the_node() -> None:
    """Another node has written what this one has not read yet: a cursor from before is honoured all the same."""
    journal = MemoryJournal()
    async with opened(journal) as one, opened(journal) as two:
        start = one.position
        await reached(two, (await one.dispatch(joined("a", name="x"))).position)
        two._state.bus.reset(two.position, (), "forked")  # nothing is in memory any more
        async with two._state.lock:  # it cannot read on
            ahead = (await one.dispatch(joined("b", name="x"))).position
            found = await Backlogs().missed(two.view(ANYBODY), Scope(), start, EVERYTHING)
            assert [change.slice for change in found] == ["room/a"]
            late = asyncio.create_task(Backlogs().missed(two.view(ANYBODY), Scope(), ahead, EVERYTHING))
            await asyncio.sleep(0)
        assert await late == []


# everything at once

acts = st.sampled_from(
    [counted(), joined("a", name="x"), joined("b", name="y"), closed("a"), refused_action(why="no"), broken()]
)
moves = st.lists(
    st.tuples(
        st.integers(0, 1), acts, st.sampled_from([None, "i", "j"]), st.sampled_from(["", "", "", "before", "after"])
    ),
    max_size=25,
)


@settings(max_examples=often(60))
@given(moves=moves)
def test_nodes_agree_with_each_other_and_with_the_journal(moves: Any) -> None:
    asyncio.run(play(moves))


async def play(moves: Any) -> None:
    journal = Meddled(Retention(changes=10, age=0.0, bytes=0, checkpoint=4))
    async with opened(journal) as one, opened(journal) as two:
        seen: dict[int, list[int]] = {0: [], 1: []}
        one.on_change(lambda c: seen[0].append(c.version))
        two.on_change(lambda c: seen[1].append(c.version))
        waiting = []
        for node, action, id, how in moves:
            if how:
                journal.fail.append(how)
            waiting.append(asyncio.create_task((one, two)[node].dispatch(action, id=id)))
            if len(waiting) % 3 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting, return_exceptions=True)
        journal.fail.clear()
        last = await one.dispatch(counted())
        await reached(two, last.position)
        truth = await History(journal).load()
        assert await values(one) == await values(two) == values_of(truth.slices)
        for versions in seen.values():
            assert versions == list(range(versions[0], versions[0] + len(versions))), "a hole or a repeat"


async def values(store: Store) -> Any:
    view = store.view(SERVER)
    return values_of(await view.complete(lambda: view.states(view.versions(EVERYTHING))))


def version_of(store: Store, name: str) -> int:
    held = store.view(SERVER).get(name)
    assert held is not None
    return held.version


def values_of(slices: Mapping[str, SliceState]) -> Any:
    return {name: (state.value, state.position) for name, state in slices.items()}


def test_slices_are_checked_when_they_are_declared() -> None:
    part = Slice("part", initial={})
    with pytest.raises(Malformed):
        Slice("Part", initial={})
    with pytest.raises(Malformed):
        Slice("part", initial={"when": object()})
    with pytest.raises(TypeError, match="coroutine"):

        @part.action
        async def later(state: Any) -> None: ...

    with pytest.raises(TypeError, match="first parameter"):

        @part.action
        def nothing() -> None: ...

    with pytest.raises(ValueError, match="twice"):
        Store([part, Slice("part", initial={})])
    part.on("gone/away")(lambda state: None)
    with pytest.raises(ValueError, match="gone/away"):
        Store([part])


async def test_what_is_kept_of_a_change_takes_little_more_than_it_says() -> None:
    """An encoder may give a short text in a long buffer, and the newest ten thousand changes are kept."""
    wide = Slice("wide", initial={"n": 0})

    @wide.action
    def counted_to(state: Any, *, n: int) -> None:
        state["n"] = n

    async with Store([wide]) as store:
        await store.dispatch([counted_to(n=n) for n in range(100)])
        tracemalloc.start()
        try:
            await store.dispatch([counted_to(n=n) for n in range(1_000, 2_000)])
            gc.collect()
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept / 1_000 < 1_500


def test_forked_processes_draw_ids_of_their_own() -> None:
    """In a process without threads: others must not be forked."""
    script = """
import os
from statestream.core.change import new_id
new_id()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(*(new_id() for _ in range(300)))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    ids = done.stdout.split()
    assert len(set(ids)) == len(ids) == 600
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{12}", each) for each in ids)
