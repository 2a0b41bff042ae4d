"""A shared board. Serve it: statestream serve examples/board.py:store --journal sqlite:///board.db"""

from typing import Any

from statestream import Refused, Slice, Store

board = Slice("board", initial={"tasks": []})


@board.action
def task_added(state: Any, *, id: str, title: str) -> None:
    """A task was put on the board."""
    if any(task["id"] == id for task in state["tasks"]):
        raise Refused("exists", f"There is a task {id} already.")
    state["tasks"].append({"id": id, "title": title, "done": False})


@board.action
def task_done(state: Any, *, id: str) -> None:
    """A task was done."""
    for task in state["tasks"]:
        if task["id"] == id:
            task["done"] = True


room = Slice("room", initial={"members": []}, keyed=True)  # room/42, room/lobby …


@room.action
def joined(state: Any, *, name: str) -> None:
    """Somebody entered the room."""
    state["members"].append(name)


store = Store([board, room])
