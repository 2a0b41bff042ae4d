"""A secret ballot: the public slice counts the votes, the hidden ones store them."""

from __future__ import annotations

from typing import Any

from statestream import Slice, Store

ballot = Slice("ballot", initial={"count": 0})
votes = Slice("votes", initial={"of": []}, hidden=True)
voter = Slice("voter", initial={"times": 0}, keyed=True, hidden=True)
room = Slice("room", initial={"members": []}, keyed=True)


@ballot.action
def cast(state: Any, *, who: str, choice: str) -> None:
    state["count"] += 1


@votes.on(cast)
def kept(state: Any, *, choice: str) -> None:
    state["of"].append(choice)


@voter.on(cast, key=lambda action: str(action.payload["who"]))
def counted(state: Any) -> None:
    state["times"] += 1


@room.action
def joined(state: Any, *, name: str) -> None:
    state["members"].append(name)


store = Store([ballot, votes, voter, room])
