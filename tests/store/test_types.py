"""Slices with types in a store: what handlers receive and leave, what is refused, and what programs read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from statestream import REMOVED, Action, Change, HandlerFailed, Removed, Slice, Store
from statestream.core.errors import InvalidValue, JournalUnusable, UnknownSlice
from statestream.core.principal import Identity, Principal
from statestream.journal.memory import MemoryJournal


class Item(TypedDict):
    text: str
    done: bool


class Todo(TypedDict):
    items: list[Item]


@dataclass
class Task:
    title: str
    due: datetime | None = None


@dataclass
class Board:
    tasks: list[Task] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    number: int = 0


class Room(msgspec.Struct):
    members: set[str]


class Account(BaseModel):
    balance: int
    owner: str | None = None


def todo(**more: Any) -> Slice[Todo]:
    declared = Slice("todo", initial={"items": []}, type=Todo, **more)

    @declared.action
    def added(state: Todo, *, text: str, done: Any = False) -> None:
        state["items"].append({"text": text, "done": done})

    return declared


def board() -> Slice[Board]:
    declared = Slice("board", initial=Board(), type=Board)

    @declared.action
    def put(state: Board, *, title: str, due: datetime | None = None) -> None:
        state.tasks.append(Task(title=title, due=due))

    @declared.action
    def looked(state: Board) -> None:
        assert isinstance(state.tasks, list)

    @declared.action
    def spoiled(state: Board) -> None:
        state.tasks.append("no task")  # type: ignore[arg-type]

    @declared.action
    def replaced(state: Board, *, titles: list[str]) -> Board:
        return Board(tasks=[Task(title=title) for title in titles])

    return declared


def room() -> Slice[Room]:
    declared = Slice("room", initial=Room(members=set()), type=Room, keyed=True)

    @declared.action
    def joined(state: Room, action: Action, *, name: str) -> None:
        assert action.key == "42"
        state.members.add(name)

    @declared.action
    def left(state: Room, *, name: str) -> Removed | None:
        state.members.discard(name)
        return None if state.members else REMOVED

    @declared.on("board/put", key=lambda action: "42")
    def announced(state: Room, *, title: str) -> None:
        state.members.add(title)

    return declared


async def test_handlers_receive_objects_and_what_they_change_is_a_patch() -> None:
    declared, rooms = board(), room()
    changes: list[Change] = []
    async with Store([declared, rooms]) as store:
        for number in range(20):
            await store.dispatch(Action(type="board/put", payload={"title": str(number)}))
        store.on_change(changes.append)
        due = datetime(2026, 1, 2, tzinfo=UTC)
        await store.dispatch(Action(type="board/put", payload={"title": "x", "due": due.isoformat()}))
        await store.dispatch(Action(type="board/looked"))
        [put, announced] = changes
        value = {"title": "x", "due": "2026-01-02T00:00:00Z"}
        assert put.patches == [{"op": "add", "path": "/tasks/20", "value": value}]
        assert announced.slice == "room/42"
        seen = store.get(declared)
        assert seen.tasks[-1] == Task(title="x", due=due)
        seen.tasks.clear()
        assert len(store.get(declared).tasks) == 21
        assert store.get("board")["tasks"][-1] == value
        await store.dispatch(Action(type="board/replaced", payload={"titles": ["a"]}))
        assert (await store.read(declared)) == Board(tasks=[Task(title="a")])


async def test_an_instance_is_removed_and_begins_anew() -> None:
    rooms = room()
    async with Store([board(), rooms]) as store:
        for name in ("Ada", "Bob"):
            await store.dispatch(Action(type="room/joined", payload={"name": name}, key="42"))
        assert store.get(rooms, "42") == Room(members={"Ada", "Bob"})
        for name in ("Ada", "Bob"):
            await store.dispatch(Action(type="room/left", payload={"name": name}, key="42"))
        assert store.get(rooms, "42") is None
        assert await store.read(rooms, "42") is None
        await store.dispatch(Action(type="room/joined", payload={"name": "Eve"}, key="42"))
        assert store.get(rooms, "42") == Room(members={"Eve"})


async def test_a_frozen_object_is_replaced() -> None:
    counter = Slice("counter", initial=Frozen(), type=Frozen)

    @counter.action
    def added(state: Frozen, *, by: int) -> Frozen:
        return Frozen(number=state.number + by)

    async with Store([counter]) as store:
        await store.dispatch([added(by=1), added(by=2)])
        assert store.get(counter) == Frozen(number=3)


async def test_a_handler_that_leaves_another_type_fails_with_the_place_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    declared = todo(validate=True)
    async with Store([declared, board()]) as store:
        await store.dispatch(Action(type="todo/added", payload={"text": "a"}))
        good = Action(type="todo/added", payload={"text": "b"})
        bad = Action(type="todo/added", payload={"text": "c", "done": "a secret"})
        for refused in (bad, [good, bad]):
            with pytest.raises(HandlerFailed) as failed:
                await store.dispatch(refused)
            assert "the value of todo does not fit its type: at /items/" in str(failed.value)
            assert "/done: Input should be a valid boolean" in str(failed.value)
            assert "secret" not in str(failed.value)
        with pytest.raises(HandlerFailed, match="the value of board does not fit its type: at /tasks/0"):
            await store.dispatch(Action(type="board/spoiled"))
        assert "the handler of todo for todo/added failed" in caplog.text
        assert store.get("todo") == {"items": [{"text": "a", "done": False}]}
        await store.dispatch(good)
        assert len(store.get(declared)["items"]) == 2


async def test_nothing_is_checked_unless_it_is_asked_for() -> None:
    declared = todo()
    async with Store([declared]) as store:
        await store.dispatch(Action(type="todo/added", payload={"text": "a", "done": "no"}))
        assert store.get(declared)["items"][0]["done"] == "no"


async def test_what_a_journal_has_need_not_fit_newer_code() -> None:
    """A typed program learns of it where it reads; a handler fails, and repairs nothing by accident."""
    journal = MemoryJournal()
    async with Store([Slice("board", initial={"tasks": [{"name": "x"}]})], journal=journal):
        pass
    declared = board()
    async with Store([declared], journal=journal) as store:
        assert store.get("board") == {"tasks": [{"name": "x"}]}
        with pytest.raises(InvalidValue, match="at /tasks/0/title: Field required"):
            store.get(declared)
        with pytest.raises(HandlerFailed, match="at /tasks/0/title: Field required"):
            await store.dispatch(Action(type="board/put", payload={"title": "y"}))


@pytest.mark.parametrize("fits", [True, False])
async def test_an_upgrade_must_lead_to_the_type(fits: bool) -> None:
    journal = MemoryJournal()
    async with Store([Slice("board", initial={"names": ["x"]})], journal=journal):
        pass
    declared = Slice("board", initial=Board(), type=Board, version=2)

    @declared.upgrade(2)
    def with_titles(state: Any) -> Any:
        return {"tasks": [{"title" if fits else "name": name} for name in state["names"]]}

    store = Store([declared], journal=journal)
    if not fits:
        with pytest.raises(JournalUnusable, match=r"cannot be upgraded: .* at /tasks/0/title: Field required"):
            await store.__aenter__()
        return
    async with store:
        assert store.get(declared) == Board(tasks=[Task(title="x")])


async def test_a_view_receives_what_handlers_receive_and_may_return_objects() -> None:
    declared = Slice("account", initial=Account(balance=5, owner="Ada"), type=Account, keyed=True)

    @declared.action
    def paid(state: Account, *, amount: int) -> None:
        state.balance += amount

    @declared.view("viewer")
    def without_owner(state: Account) -> Account:
        return Account(balance=state.balance)

    @declared.view("counter")
    def only_balance(state: Account) -> int:
        return state.balance

    @declared.view("wrong")
    def wrong(state: Account) -> Task:
        return state  # type: ignore[return-value]

    async with Store([declared]) as store:
        await store.dispatch(paid("1", amount=2))
        shown = {}
        for role in ("viewer", "counter", "wrong", "other"):
            view = store.view(Principal(identity=Identity(subject="x", roles=frozenset([role]))))
            shown[role] = view.states(["account/1"])["account/1"].value
        assert shown == {
            "viewer": {"balance": 7, "owner": None},
            "counter": 7,
            "wrong": None,
            "other": {"balance": 7, "owner": "Ada"},
        }


async def test_a_slice_is_read_by_its_declaration() -> None:
    declared, rooms = todo(), room()
    store = Store([declared, rooms, board()])
    with pytest.raises(UnknownSlice, match="todo has no value: the store is not open"):
        store.get(declared)
    async with store:
        assert store.get(declared) == store.get("todo") == {"items": []}
        with pytest.raises(UnknownSlice, match="another one with the name todo"):
            store.get(todo())
        with pytest.raises(TypeError, match="a key beside room"):
            store.get(rooms)
        with pytest.raises(TypeError, match="todo without a key"):
            await store.read(declared, "42")
        with pytest.raises(TypeError, match="a key with a slice only"):
            store.get("room", "42")  # type: ignore[call-overload]
