"""A board whose payloads have annotations of every kind that a description must say."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from statestream import Slice, Store

board = Slice("board", initial={"tasks": {}})
room = Slice("room", initial={"members": []}, keyed=True)
secret = Slice("secret", initial=0, hidden=True)
audit = Slice("audit", initial=0, internal=True)


class Owner(BaseModel):
    name: str
    teams: list[str] = []


@board.action
def added(state: Any, *, id: str, kind: Literal["bug", "wish"] = "bug", owner: Owner | None = None) -> None:
    """Adds a task."""
    state["tasks"][f"task {id[:10]}"] = kind


@board.action
def weighed(state: Any, *, weight: float, votes: dict[str, int]) -> None:
    state["weight"] = weight


@board.action
def noted(state: Any, *, note: Any) -> None:
    state["note"] = "noted"


@room.action
def joined(state: Any, *, name: str) -> None:
    state["members"] = [name]


@room.action
def value(state: Any, *, name: str) -> None:
    """Has the name that one could give to the value of its slice."""


@secret.action
def hidden(state: int) -> int:
    return state + 1


@audit.action
def counted(state: int) -> int:
    return state + 1


store = Store([board, room, secret, audit])
