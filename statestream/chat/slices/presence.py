"""The slice `presence`: who is in each chat, and who is typing.

    presence/<chat>  {"people": {user: {"since", "typing", "nodes": {node: "here" | "typing"}}}}

Several streams of one person count once.

Invariants: each entry of `nodes` is written by that node, and removed for it only when it is lost. An instance without
people is removed.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from statestream.core.change import REMOVED, Action
from statestream.core.slices import Slice

NAME: Final = "presence"

Activity = Literal["here", "typing", "gone"]

presence_slice = Slice(NAME, initial={"people": {}}, keyed=True, internal=True)


@presence_slice.action
def seen(state: Any, action: Action, *, node: str, people: dict[str, Activity]) -> Any:
    """The people whose streams a node holds have changed: what they do now."""
    for user, activity in people.items():
        entry = state["people"].get(user)
        if activity != "gone":
            if entry is None:
                typing = activity == "typing"
                state["people"][user] = {"since": action.at, "typing": typing, "nodes": {node: activity}}
            else:
                entry["nodes"][node] = activity
                entry["typing"] = "typing" in entry["nodes"].values()
        elif entry is not None:
            _remove(state, user, node)
    return REMOVED if not state["people"] else None


@presence_slice.action
def node_lost(state: Any, *, node: str) -> Any:
    """A node is lost, and with it the streams that it held."""
    for user in list(state["people"]):
        _remove(state, user, node)
    return REMOVED if not state["people"] else None


def _remove(state: Any, user: str, node: str) -> None:
    entry = state["people"][user]
    if entry["nodes"].pop(node, None) is not None and not entry["nodes"]:
        del state["people"][user]
    else:
        entry["typing"] = "typing" in entry["nodes"].values()
