"""Instances of keyed slices leave the memory and come back, and nobody can tell."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream import REMOVED, Action, Slice, Store
from statestream.core.change import Position, SliceState
from statestream.core.errors import JournalUnusable, NotInMemory, StatestreamError, TooLarge, VersionConflict
from statestream.core.principal import SERVER
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import Journal, MemoryJournal, Retention, SqliteJournal
from statestream.journal.history import History
from statestream.store.loaded import LoadedSlices
from statestream.store.unloading import Unloading
from tests.support.counting import Counting
from tests.support.often import often

total = Slice("total", initial=0)
note = Slice("note", initial={"text": ""}, keyed=True)
label = Slice("label", initial=[], keyed=True)
SLICES = [total, note, label]
FEW = Retention(changes=40, age=0.0, bytes=0, checkpoint=3)


@note.action
def written(state: Any, *, text: str) -> None:
    state["text"] += text


@note.action
def replaced(state: Any, *, text: str) -> Any:
    return {"text": text}


@note.action
def removed(state: Any) -> Any:
    return REMOVED


@total.on(written)
def _written(state: int) -> int:
    return state + 1


@label.on(written, key=lambda action: action.payload["text"])
def _labelled(state: Any, action: Action) -> Any:
    return [*state, action.key][-3:]


def unload(store: Store) -> None:
    """What is unloaded in time, at once: also what no checkpoint has."""
    asyncio.get_running_loop().create_task(Unloading(store._state.slices, lambda _: False).unload(-1))


async def unloaded(store: Store) -> Store:
    await Unloading(store._state.slices, lambda _: False).unload(-1)
    return store


async def state_of(store: Store) -> dict[str, tuple[Any, int]]:
    """Everything, by way of the names and versions that the store knows."""
    view = store.view(SERVER)
    states = await view.complete(lambda: view.states(view.versions(EVERYTHING)))
    assert {name: state.version for name, state in states.items()} == view.versions(EVERYTHING)
    return plain(states)


def plain(states: Any) -> dict[str, tuple[Any, int]]:
    return {name: (state.value, state.version) for name, state in states.items()}


KEYS = ("a", "b", "c", "d")
key, node = st.sampled_from(KEYS), st.integers(0, 1)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("write"), node, key, st.sampled_from(("x", "y", "z"))),
        st.tuples(st.just("replace"), node, key, st.sampled_from(("x", "y"))),
        st.tuples(st.just("remove"), node, key, st.just("")),
        st.tuples(st.just("expect"), node, key, st.just("e")),
        st.tuples(st.just("several"), node, key, st.just("s")),
        st.tuples(st.sampled_from(("read", "unload", "turn", "look", "restart")), node, key, st.just("")),
    ),
    max_size=30,
)


@settings(max_examples=often(60), deadline=None)
@given(moves=moves)
def test_a_node_that_unloads_all_the_time_is_like_one_that_never_does(moves: Any) -> None:
    asyncio.run(play(MemoryJournal(FEW), moves))


@settings(max_examples=often(15), deadline=None)
@given(moves=moves)
def test_the_same_on_a_file(tmp_path_factory: pytest.TempPathFactory, moves: Any) -> None:
    path = tmp_path_factory.mktemp("loading") / "j.db"
    asyncio.run(play(lambda: SqliteJournal(path, FEW), moves))


async def play(journal: Any, moves: Any) -> None:
    """Nodes 0 and 1 unload; node 2 never does."""
    made = (lambda: journal) if isinstance(journal, MemoryJournal) else journal
    nodes = [Store(SLICES, journal=made(), idle=3600.0) for _ in range(2)]
    nodes.append(Store(SLICES, journal=made(), idle=None))
    for store in nodes:
        await store.__aenter__()
    waiting: list[asyncio.Task[Any]] = []
    for what, number, key, text in moves:
        store, view = nodes[number], nodes[number].view(SERVER)
        if what == "unload":
            unload(store)
        elif what == "turn":
            await asyncio.sleep(0)
        elif what == "read":
            waiting.append(asyncio.create_task(store.read(f"note/{key}")))
        elif what in ("look", "restart"):
            await settled(nodes, waiting)
        else:
            action = {
                "write": [written(key, text=text)],
                "replace": [replaced(key, text=text)],
                "remove": [removed(key)],
                "expect": [written(key, text=text)],
                "several": [written(each, text=text) for each in KEYS],
            }[what]
            expect = {f"note/{key}": view.version(f"note/{key}")} if what == "expect" else None
            waiting.append(asyncio.create_task(quietly(store.dispatch(action, expect=expect))))
        if what == "restart":
            await store.__aexit__()
            nodes[number] = Store(SLICES, journal=made(), idle=3600.0)
            await nodes[number].__aenter__()
    await settled(nodes, waiting)
    for store in nodes:
        await store.__aexit__()


async def quietly(work: Any) -> None:
    with contextlib.suppress(VersionConflict):
        await work


async def settled(nodes: list[Store], waiting: list[asyncio.Task[Any]]) -> None:
    """All nodes agree, value by value, and their journal with them."""
    await asyncio.gather(*waiting)
    waiting.clear()
    for store in nodes:
        await store.caught_up()
    truth = await state_of(nodes[2])
    for store in nodes[:2]:
        assert await state_of(store) == truth
    journal = nodes[2]._state.journal
    assert plain((await History(journal).load()).slices) == truth
    assert plain((await History(journal).newest(Selection(names=frozenset()))).slices) == {"total": truth["total"]}


# what is in memory


async def test_what_nobody_uses_leaves_the_memory(tmp_path: Path) -> None:
    async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db", Retention(checkpoint=1)), idle=0.02) as store:
        await store.dispatch(written("a", text="x"))
        async with asyncio.timeout(60):
            while store._state.slices.in_memory:
                await asyncio.sleep(0.01)
        with pytest.raises(NotInMemory, match=r"note/a is not in memory; use `await store.read"):
            store.get("note/a")
        assert await store.read("note/a") == {"text": "x"} == store.get("note/a")
        assert store.get("total") == 1
        assert store.get("note/b") is None is await store.read("note/b")


async def test_what_is_used_stays() -> None:
    slices = LoadedSlices()
    for name in ("total", "note/a", "note/b", "note/c"):
        slices.put(name, SliceState(0, Position(seq=1, tag="t")))
    slices.hold(["note/c"])
    for _ in range(3):
        slices.begin_turn()
        slices.get("note/a")
    assert slices.idle(2) == ["note/b"]
    slices.release(["note/c"])
    assert slices.idle(2) == ["note/b", "note/c"]


async def test_what_has_changed_since_the_checkpoint_stays(tmp_path: Path) -> None:
    async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db"), idle=3600) as store:
        await store.dispatch(written("a", text="x"))
        await store._state.unloading.unload(-1)
        assert store.get("note/a") == {"text": "x"}


@pytest.mark.parametrize("idle", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(idle: float) -> None:
    with pytest.raises(ValueError, match="expected `idle` to be a number of seconds"):
        Store(SLICES, idle=idle)


async def test_without_a_time_everything_stays(tmp_path: Path) -> None:
    for _ in range(2):
        async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db"), idle=None) as store:
            await store.dispatch(written("a", text="x"))
            await unloaded(store)
            assert store.get("note/a")


# what it costs


async def filled(journal: Journal, count: int) -> None:
    async with Store(SLICES, journal=journal) as store:
        for start in range(0, count, 200):
            await store.dispatch([replaced(f"{n}", text=f"{n}") for n in range(start, min(start + 200, count))])


@pytest.mark.parametrize("count", [30, 3_000])
async def test_reading_one_of_many_reads_one(tmp_path: Path, count: int) -> None:
    """However many there are, the journal is asked for a fixed number of rows."""
    await filled(SqliteJournal(tmp_path / "j.db"), count)
    journal = Counting(SqliteJournal(tmp_path / "j.db"))
    async with Store(SLICES, journal=journal) as store:
        assert journal.values == 1, "of the plain slice"
        await store.dispatch(written("7", text="x"))
        assert await store.read("note/7") == {"text": "7x"}
        assert journal.values == 2
        then = await store.view(SERVER).past.snapshot_at(store.position, Selection(names=frozenset(("note/9",))))
        assert plain(then.slices)["note/9"][0] == {"text": "9"}
        assert journal.values == 3


async def test_a_family_of_the_past_that_is_too_large_is_refused_without_reading_it(tmp_path: Path) -> None:
    await filled(SqliteJournal(tmp_path / "j.db"), 1_200)
    journal = Counting(SqliteJournal(tmp_path / "j.db"))
    async with Store(SLICES, journal=journal) as store:
        view, before = store.view(SERVER), journal.values
        with pytest.raises(TooLarge):
            await view.past.snapshot_at(store.position, Selection.family("note"))
        with pytest.raises(TooLarge):
            await view.complete(lambda: view.snapshot(Selection.family("note")))
        assert journal.values == before


async def test_many_who_want_the_same_read_it_once(tmp_path: Path) -> None:
    await filled(SqliteJournal(tmp_path / "j.db"), 30)
    journal = Counting(SqliteJournal(tmp_path / "j.db"))
    async with Store(SLICES, journal=journal) as store:
        before = journal.values
        assert await asyncio.gather(*(store.read("note/3") for _ in range(50))) == [{"text": "3"}] * 50
        assert journal.values == before + 1


async def test_a_cancelled_reader_leaves_the_others(tmp_path: Path) -> None:
    await filled(SqliteJournal(tmp_path / "j.db"), 30)
    async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db")) as store:
        first, second = (asyncio.create_task(store.read("note/3")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == {"text": "3"}


async def test_damage_to_one_instance_concerns_that_one(tmp_path: Path) -> None:
    await filled(SqliteJournal(tmp_path / "j.db"), 3)
    with sqlite3.connect(tmp_path / "j.db") as sql:
        sql.execute("UPDATE snapshots SET value = CAST('{\"text\":\"9\"}' AS BLOB) WHERE slice = 'note/1'")
    sql.close()
    async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db")) as store:
        with pytest.raises(JournalUnusable, match="damaged"):
            await store.read("note/1")
        with pytest.raises(StatestreamError):
            await store.dispatch(written("1", text="x"))
        await store.dispatch(written("2", text="x"))
        assert await store.read("note/2") == {"text": "2x"}


async def test_a_fetch_survives_a_trim(tmp_path: Path) -> None:
    """The checkpoint that it knows is gone."""
    retention = Retention(changes=4, age=0.0, bytes=0, checkpoint=1)
    async with Store(SLICES, journal=SqliteJournal(tmp_path / "j.db", retention), idle=3600) as store:
        for n in range(30):
            await store.dispatch(replaced(str(n % 3), text=str(n)))
            await unloaded(store)
            assert await store.read(f"note/{(n + 1) % 3}") == (None if n < 2 else {"text": str(n - 2)})
            await store._state.upkeep._look()
