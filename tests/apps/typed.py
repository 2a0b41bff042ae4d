"""Slices with types of every kind, and with names and descriptions that try to break what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field
from typing_extensions import NotRequired, TypedDict

from statestream import Action, Slice, Store
from statestream.auth import anyone, role


class Item(TypedDict):
    """An entry of the list."""

    text: str
    done: bool
    due: NotRequired[str]


class Todo(TypedDict):
    items: list[Item]
    owner: str | None


todo = Slice("todo", initial={"items": [], "owner": None}, type=Todo, validate=True)


@todo.action
def added(state: Todo, *, text: str, done: Any = False) -> None:
    """Adds an entry."""
    state["items"].append({"text": text, "done": done})


class Kind(Enum):
    BUG = "bug"
    WISH = "wish"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Task:
    """A task. */ alert(1) /*"""

    id: UUID
    title: str
    kind: Kind
    level: Level = Level.LOW
    due: date | None = None
    at: tuple[int, int] = (0, 0)
    path: tuple[str, ...] = ()
    labels: set[str] = field(default_factory=set)


@dataclass
class Board:
    tasks: dict[str, Task] = field(default_factory=dict)
    by_kind: dict[Kind, list[str]] = field(default_factory=dict)
    changed: datetime | None = None


board = Slice("board", initial=Board(), type=Board)


@board.action
def put(state: Board, action: Action, *, task: Task) -> None:
    """Puts a task on the board.

    It replaces the one with the same id. */ export type Broken = 1; /*
    """
    state.tasks[str(task.id)] = task
    state.by_kind.setdefault(task.kind, []).append(str(task.id))
    state.changed = datetime.fromtimestamp(action.at / 1000, UTC)


@board.action
def emptied(state: Board) -> Board:
    return Board(changed=state.changed)


@board.action
def miswritten(state: Board) -> None:
    state.tasks["x"] = "no task"  # type: ignore[assignment]


class Member(msgspec.Struct):
    """Somebody in a room."""

    name: str
    joined: datetime
    role: Literal["host", "guest"] = "guest"


class Room(msgspec.Struct):
    members: list[Member]


room = Slice("room", initial=Room(members=[]), type=Room, keyed=True)


@room.action
def joined(state: Room, action: Action, *, name: str) -> None:
    state.members.append(Member(name=name, joined=datetime.fromtimestamp(action.at / 1000, UTC)))


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: float


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: float


class Group(BaseModel):
    """Shapes that belong together."""

    kind: Literal["group"] = "group"
    shapes: list[Annotated[Circle | Square | Group, Field(discriminator="kind")]]


drawing = Slice("drawing", initial=Group(shapes=[]), type=Group)


@drawing.action
def drew(state: Group, *, shape: Circle | Square) -> None:
    state.shapes.append(shape)


class Node(TypedDict):
    label: str
    children: list[Node]


tree = Slice("tree", initial={"label": "root", "children": []}, type=Node)

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    rows: list[T]
    next: T | None = None


pages = Slice("pages", initial={"rows": []}, type=Page[int])
Hostile = TypedDict(
    "Hostile",
    {
        'a"b': int,
        "a`${1}\\": int,
        "new\nline": int,
        "*/ }": int,
        "__proto__": NotRequired[int],
        "constructor": int,
        "größe": int,
        "שלום\u202e": int,
        "\u2028": int,
        "😀": int,
        "": int,
        "7": int,
        "class": Annotated[str, Field(description="first */ export type Broken = 2; /*\r\n\u2028second \u202e")],
        "enum": Literal["'", '"', "`${x}`", "\n", "*/", "\u202e", "\\", "😀"],
        "numbers": Literal[1, -1, True] | None,
    },
)
hostile = Slice(
    "hostile",
    initial={
        **dict.fromkeys(Hostile.__annotations__.keys() - {"__proto__"}, 0),
        "class": "",
        "enum": "'",
        "numbers": 1,
    },
    type=Hostile,
    version=1,
)
constructor = Slice("constructor", initial=0, type=int)


class string(TypedDict):
    """The name of a type of TypeScript."""

    string: str


class State(TypedDict):
    """The name of what the text itself declares."""

    Actions: string


class Record(TypedDict):
    Array: NotRequired[list[dict[Literal["a", "b"], string]]]
    rest: dict[str, Any]


names = Slice("names", initial={"Actions": {"string": ""}}, type=State)
globals_ = Slice("globals", initial={"rest": {}}, type=Record)
other_item = Slice("other", initial=[], type=list[TypedDict("Item", {"id": int})])  # type: ignore[misc]


@hostile.action
def größer(state: Hostile, **others: Any) -> None:
    """Letters that few languages allow in names."""


salary = Slice("salary", initial={"of": {}}, type=dict[str, dict[str, int]], read=role("chief"), dispatch=anyone)


class Public(TypedDict):
    people: int


@salary.view("viewer")
def counted(state: dict[str, dict[str, int]]) -> Public:
    return {"people": len(state["of"])}


untyped = Slice("untyped", initial={})
secret = Slice("secret", initial={"label": "", "children": []}, type=Node | Item, hidden=True)
audit = Slice("audit", initial=0, type=int, internal=True)


@secret.action
def whispered(state: Any) -> None: ...


@audit.action
def noted(state: int) -> int:
    return state + 1


store = Store(
    [
        *(todo, board, room, drawing, tree, pages, hostile, constructor, names, globals_, other_item),
        *(salary, untyped, secret, audit),
    ]
)
