"""Slices of every kind for the inspector, some with rules: what everybody may read, and what only the chief may.

INSPECT is the setting of that name: `yes`, `no`, `chief` for a rule, or nothing. With OPEN, nobody has to log in.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel

from statestream import REMOVED, Action, Identity, Refused, Slice, Store, create_app
from statestream.auth import anyone, role, signed_in
from tests.apps.by_name import auth


class Owner(BaseModel):
    name: str
    teams: list[str] = []


def own(identity: Identity | None, key: str) -> bool:
    return identity is not None and identity.subject == key


board = Slice("board", initial={"tasks": [], "count": 0}, read=anyone, dispatch=anyone)
people = anyone if "OPEN" in os.environ else signed_in
room = Slice("room", initial={"members": []}, keyed=True, read=people, dispatch=people)
payroll = Slice("payroll", initial={"of": {}}, read=role("chief"), dispatch=role("chief"))
diary = Slice("diary", initial={"pages": []}, keyed=True, read=own, dispatch=signed_in)


@board.action
def task_added(
    state: Any, *, title: str, kind: Literal["bug", "wish"] = "bug", owner: Owner | None = None, weight: float = 1.0
) -> None:
    """Adds a task."""
    state["tasks"].append(
        {"title": title, "kind": kind, "weight": weight, **({"owner": owner.model_dump()} if owner else {})}
    )


@board.action
def counted(state: Any, *, by: int) -> None:
    if by == 0:
        raise Refused("nothing", "Zero is not counted.")
    state["count"] += by


@board.action
def noted(state: Any, *, name: str, value: Any) -> None:
    state[name] = value


@room.action
def joined(state: Any, action: Action, *, name: str) -> None:
    state["members"].append(name)


@room.action
def closed(state: Any) -> Any:
    return REMOVED


@payroll.action
def paid(state: Any, *, who: str, amount: int) -> None:
    state["of"][who] = amount


@diary.action
def written(state: Any, *, text: str) -> None:
    state["pages"].append(text)


SETTINGS: dict[str, Any] = {"yes": True, "no": False, "chief": role("chief"), "": None}
app = create_app(
    Store([board, room, payroll, diary], journal=os.environ.get("JOURNAL", "memory:")),
    auth=None if "OPEN" in os.environ else auth,
    handoff=os.environ.get("HANDOFF") != "0",
    inspect=SETTINGS[os.environ.get("INSPECT", "")],
)
