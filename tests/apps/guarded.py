"""Slices with every kind of rule."""

from __future__ import annotations

import os
from typing import Any

from statestream import REMOVED, Action, Identity, Refused, Slice, Store, create_app
from statestream.core.rules import anyone, role, signed_in
from tests.apps.by_name import auth


def member(identity: Identity | None, key: str, state: Any) -> bool:
    room = state.get(f"room/{key}")
    return identity is not None and room is not None and identity.subject in room["members"]


def listed(identity: Identity | None, state: Any) -> bool:
    return identity is not None and identity.subject in state.get("roster")["names"]


def own(identity: Identity | None, key: str) -> bool:
    return identity is not None and identity.subject == key


notice = Slice("notice", initial={"text": ""}, read=anyone, dispatch=role("editor"))
salary = Slice("salary", initial={"of": {}})
roster = Slice("roster", initial={"names": []}, read=role("chief"), dispatch=role("chief"))
staff = Slice("staff", initial={"news": []}, read=listed, dispatch=listed)
room = Slice("room", initial={"members": [], "messages": []}, keyed=True, read=member, dispatch=member)
inbox = Slice("inbox", initial={"mail": []}, keyed=True, read=own, dispatch=signed_in)
people = Slice("people", initial={"by": {}}, read=signed_in, dispatch=role("editor"))
log = Slice("log", initial={"count": 0}, read=anyone)


@notice.action
def posted(state: Any, *, text: str) -> None:
    state["text"] = text


@salary.action
def paid(state: Any, *, who: str, amount: int) -> None:
    state["of"][who] = amount


@roster.action
def enrolled(state: Any, *, name: str) -> None:
    state["names"].append(name)


@roster.action
def dismissed(state: Any, *, name: str) -> None:
    state["names"].remove(name)


@staff.action
def told(state: Any, *, text: str) -> None:
    state["news"].append(text)


@room.action(dispatch=signed_in)
def opened(state: Any, action: Action) -> None:
    if state["members"]:
        raise Refused("taken", "The room exists.")
    state["members"].append(action.actor)


@room.action
def said(state: Any, *, text: str) -> None:
    state["messages"].append(text)


@room.action
def invited(state: Any, *, name: str) -> None:
    state["members"].append(name)


@room.action
def expelled(state: Any, *, name: str) -> None:
    state["members"].remove(name)


@room.action
def closed(state: Any) -> Any:
    return REMOVED


@inbox.action
def sent(state: Any, action: Action, *, text: str) -> None:
    state["mail"].append({"from": action.actor, "text": text})


@people.action
def joined(state: Any, *, name: str, email: str) -> None:
    state["by"][name] = {"name": name, "email": email}


@people.view("viewer")
def without_addresses(value: Any) -> Any:
    return {"by": {name: {"name": person["name"]} for name, person in value["by"].items()}}


@log.on(said)
def counted(state: Any) -> None:
    state["count"] += 1


store = Store([notice, salary, roster, staff, room, inbox, people, log], journal=os.environ.get("JOURNAL", "memory:"))
app = create_app(store, auth=auth, heartbeat=1.0, handoff=os.environ.get("HANDOFF") != "0")
