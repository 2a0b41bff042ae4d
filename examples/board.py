"""A shared board. Serve it: statestream serve examples/board.py:store --journal sqlite:///board.db"""

from typing_extensions import TypedDict

from statestream import Refused, Slice, Store


class Task(TypedDict):
    """Something to do."""

    id: str
    title: str
    done: bool


class Board(TypedDict):
    tasks: list[Task]


class Room(TypedDict):
    members: list[str]


board = Slice("board", initial={"tasks": []}, type=Board)


@board.action
def task_added(state: Board, *, id: str, title: str) -> None:
    """A task was put on the board."""
    if any(task["id"] == id for task in state["tasks"]):
        raise Refused("exists", f"There is a task {id} already.")
    state["tasks"].append({"id": id, "title": title, "done": False})


@board.action
def task_done(state: Board, *, id: str) -> None:
    """A task was done."""
    for task in state["tasks"]:
        if task["id"] == id:
            task["done"] = True


room = Slice("room", initial={"members": []}, type=Room, keyed=True)  # room/42, room/lobby …


@room.action
def joined(state: Room, *, name: str) -> None:
    """Somebody entered the room."""
    state["members"].append(name)


store = Store([board, room])
