"""What mypy and pyright know of slices: in handlers, in the store and in the clients.

The program below is checked as that of a user is. Each line that ends with `# error` must be one to both of them, and
no other line may be.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.paths import NODE

PROGRAM = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import BaseModel
from typing_extensions import TypedDict, assert_type

from statestream import REMOVED, Action, BlockingStream, Removed, Slice, Store, Stream


class Item(TypedDict):
    text: str
    done: bool


class Todo(TypedDict):
    items: list[Item]


@dataclass
class Board:
    tasks: list[str]


class Room(msgspec.Struct):
    members: list[str]


class Account(BaseModel):
    balance: int


todo = Slice("todo", initial={"items": []}, type=Todo)
board = Slice("board", initial=Board(tasks=[]), type=Board, validate=True)
room = Slice("room", initial=Room(members=[]), type=Room, keyed=True)
account = Slice("account", initial=Account(balance=0), type=Account, keyed=True, internal=True)
names = Slice("names", initial=[], type=list[str])
chosen: Slice[int | None] = Slice("chosen", initial=None, type=int | None)
anything = Slice("anything", initial={})
declared_once: Slice = anything

assert_type(todo, Slice[Todo])
assert_type(board, Slice[Board])
assert_type(room, Slice[Room])
assert_type(account, Slice[Account])
assert_type(names, Slice[list[str]])
assert_type(chosen, Slice[int | None])
assert_type(anything, Slice[Any])


@todo.action
def added(state: Todo, action: Action, *, text: str) -> None:
    state["items"].append({"text": text, "done": False})
    state["items"].append({"text": text, "dnoe": False})  # error
    state["itmes"]  # error


@todo.action
def cleared(state: Todo) -> Todo:
    return {"items": []}


@todo.action  # error
def of_another_slice(state: Board, *, text: str) -> None:
    state.tasks.append(text)


@todo.action  # error
def leaves_another_value(state: Todo) -> int:
    return 1


@todo.action(dispatch=lambda identity: True)
def guarded(state: Todo, *, text: str) -> None: ...


@todo.action(dispatch=lambda identity: True)  # error
def guarded_of_another_slice(state: Board, *, text: str) -> None: ...


@board.action
def put(state: Board, *, task: str) -> Board:
    assert_type(state.tasks, list[str])
    return Board(tasks=[*state.tasks, task])


@board.on(added)
def noted(state: Board, *, text: str) -> None:
    state.tasks.append(text)


@board.on(added)  # error
def noted_elsewhere(state: Todo, *, text: str) -> None: ...


@board.view("viewer")
def short(state: Board) -> list[str]:
    return state.tasks


@board.view("viewer")  # error
def short_of_another_slice(state: Todo) -> list[Item]:
    return state["items"]


@room.action
def joined(state: Room, *, name: str) -> None:
    state.members.append(name)


@room.action
def left(state: Room, *, name: str) -> Removed | None:
    return REMOVED if state.members == [name] else None


@chosen.action
def chose(state: int | None, *, number: int) -> int:
    return number


@anything.action
def happened(state: dict[str, int], *, times: int) -> object:
    return {"times": times}


added(text="x")
added(text=1)  # error
joined("42", name="Ada")
joined("42", nam="Ada")  # error


async def reads(store: Store, stream: Stream, blocking: BlockingStream) -> None:
    assert_type(store.get(todo), Todo)
    assert_type(store.get(room, "42"), Room | None)
    assert_type(await store.read(board), Board)
    assert_type(await store.read(account, "1"), Account | None)
    assert_type(store.get(chosen), int | None)
    assert_type(store.get("todo"), Any)
    assert_type(store.get(anything), Any)
    assert_type(stream.get(todo), Todo | None)
    assert_type(stream.get(room, "42"), Room | None)
    assert_type(stream.get("todo"), Any)
    assert_type(blocking.get(board), Board | None)
    store.get(todo)["itmes"]  # error
    store.get("room", "42")  # error
    store.get(room, "42").members  # error


Store([todo, board, room, account, names, chosen, anything])
Slice("late", initial={}, typ=Todo)  # error
"""
UNTYPED = """\
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
from statestream import Slice, Store

board = Slice("board", initial={"tasks": []})


@board.action
def task_added(state, *, id: str):
    state["tasks"].append({"id": id})


store = Store([board])
store.get("board")["tasks"]
task_added(id="1")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "untyped.py").write_text(UNTYPED)
    return tmp_path


def marked() -> set[int]:
    return {number for number, line in enumerate(PROGRAM.split("\n"), 1) if line.endswith("# error")}


def said(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=230).stdout


@pytest.mark.long
def test_mypy_knows_the_types(program: Path) -> None:
    mypy = [sys.executable, "-m", "mypy", "--no-error-summary", "--cache-dir", str(ROOT / ".mypy_cache/programs")]
    found = said([*mypy, "--strict", "program.py", "untyped.py"], program)
    assert {int(line) for line in re.findall(r"^program\.py:(\d+): error:", found, re.MULTILINE)} == marked(), found
    assert not re.findall(r"^(?!program\.py:)\S+: error:", found, re.MULTILINE), found


@pytest.mark.long
def test_pyright_knows_the_types(program: Path) -> None:
    pyright = [str(NODE / "node_modules/.bin/pyright"), "--pythonpath", sys.executable, "--outputjson"]
    found = json.loads(said([*pyright, "program.py", "untyped.py"], program))["generalDiagnostics"]
    errors = {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found}
    assert errors == {("program.py", line) for line in marked()}, found
