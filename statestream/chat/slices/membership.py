"""The slice `chat_people`: who belongs to a chat, apart from its messages.

    chat_people/<chat>  {"user"?: the owner, "participants"?: […]}

It repeats what the chat says. The rules of a chat depend on it, so that they are asked again when somebody is invited,
and not with every word of a reply.

Invariants: derived from actions of `chat`, in the same requests. Chats of older journals, and those without an owner,
have no instance until somebody is invited.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.messages import State
from statestream.chat.slices.conversation import NAME as CHAT
from statestream.chat.slices.conversation import created, deleted, invited, removed
from statestream.core.change import REMOVED
from statestream.core.rules import State as Committed
from statestream.core.slices import Slice

NAME: Final = "chat_people"

people_slice = Slice(NAME, initial={}, keyed=True, internal=True, hidden=True)


@people_slice.on(created)
def _created(state: Any, *, user: str | None = None) -> Any:
    if user is not None:
        state["user"] = user
    return None if state else REMOVED


@people_slice.on(invited)
def _invited(state: Any, *, person: str, user: str | None = None) -> None:
    if user is not None:
        state["user"] = user
    people = state.get("participants", [])
    if person != user and person not in people:
        state["participants"] = [*people, person]


@people_slice.on(removed)
def _removed(state: Any, *, person: str) -> Any:
    if not state:
        return REMOVED
    state["participants"] = [each for each in state.get("participants", ()) if each != person]
    return None


@people_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def people_of(committed: Committed, key: str) -> State | None:
    """Who belongs to a chat, for a rule; None if the chat does not exist."""
    found = committed.get(f"{NAME}/{key}")
    known: State | None = committed.get(f"{CHAT}/{key}") if found is None else found
    return known
