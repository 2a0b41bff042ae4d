"""The application under test: a board, rooms, and handlers that misbehave."""

from __future__ import annotations

from typing import Any

from statestream import REMOVED, Refused, Slice, Store

board = Slice("board", initial={"tasks": [], "count": 0})
room = Slice("room", initial={"members": []}, keyed=True)
counter = Slice("counter", initial=0)


@board.action
def task_added(state: Any, *, id: str, title: str) -> None:
    state["tasks"].append({"id": id, "title": title, "done": False})


@board.action
def counted(state: Any, *, by: int = 1) -> None:
    state["count"] += by


@board.action
def task_moved(state: Any, *, at: int, to: int) -> None:
    if state["tasks"]:
        task = state["tasks"].pop(at % len(state["tasks"]))
        state["tasks"].insert(to % (len(state["tasks"]) + 1), task)


@board.action
def cleared(state: Any) -> None:
    state["tasks"].clear()


@board.action
def refused(state: Any, *, why: str) -> None:
    state["tasks"].append("never seen")
    raise Refused(why, "The board says no.")


@board.action
def broken(state: Any) -> None:
    state["tasks"].append("never seen")
    raise LookupError("secret payload")


@board.action
def not_json(state: Any) -> Any:
    return {"when": object()}


@board.action
def loops(state: Any) -> None:
    for task in state["tasks"]:
        state["tasks"].append(task)


@board.action
def filled(state: Any, *, size: int) -> None:
    state["filler"] = "x" * size


@room.action
def joined(state: Any, *, name: str) -> None:
    state["members"].append(name)


@room.action
def closed(state: Any) -> Any:
    return REMOVED


@counter.action
def added(state: int, *, by: int) -> int:
    return state + by


@counter.on(counted)
def also_counted(state: int, *, by: int = 1) -> int:
    return state + by


store = Store([board, room, counter])
