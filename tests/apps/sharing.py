"""Slices that AG-UI clients may set (`board`, `note/<key>`) or not (`count`), and an agent that reads them.

With AUTH, people have names (see `by_name`), and only editors may change the board. The agent says what it finds.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Any

from typing_extensions import TypedDict

from statestream import Refused, Slice, Store, create_app
from statestream.auth import role, signed_in
from statestream.chat import Chat
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from tests.apps.by_name import auth

NAMED = bool(os.environ.get("AUTH"))
RULES: dict[str, Any] = {"read": signed_in, "dispatch": signed_in} if NAMED else {}
EDITORS: dict[str, Any] = {"read": signed_in, "dispatch": role("editor")} if NAMED else {}


class Board(TypedDict):
    tasks: list[str]
    weight: float


board = Slice("board", initial={"tasks": [], "weight": 1.0}, type=Board, **EDITORS)
note = Slice("note", initial={"text": ""}, keyed=True, **RULES)
count = Slice("count", initial={"n": 0}, **RULES)
chat = Chat(titles=False)


@chat.shared_state
@board.action
def replaced(state: Board, *, value: Board) -> Board:
    if len(value["tasks"]) > 5:
        raise Refused("full", "A board has at most five tasks.")
    return value


@board.action
def cleared(state: Board) -> None:
    state["tasks"] = []


@chat.shared_state
@note.action
def written(state: Any, *, value: dict[str, str]) -> Any:
    return value


@count.action
def counted(state: Any) -> None:
    state["n"] += 1


@chat.agent
async def reader(task: Task, context: Context) -> AsyncGenerator[AgentPiece, None]:
    """Says what is on the board."""
    yield f"Tasks: {', '.join((await context.get('board'))['tasks']) or 'none'}."


app = create_app(Store([board, note, count, *chat.slices]), auth=auth if NAMED else None)
chat.setup(app)
