"""The slice `chats`: the chats of each person, live, for sidebars.

    chats/<user>  {"chats": {id: {"created_at", "updated_at", "status": "idle" | "streaming", "title"?}}}

Invariants: derived from those actions of `chat` that name the owner of the chat; nothing writes it directly. It lists
the newest chats only.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices import conversation
from statestream.core.change import Action
from statestream.core.slices import Slice

MAX_LISTED: Final = 500

chats_slice = Slice("chats", initial={"chats": {}}, keyed=True, internal=True)


def _owner(action: Action) -> str | None:
    return action.payload.get("user")


@chats_slice.on(conversation.created, key=_owner)
def _created(state: Any, action: Action) -> None:
    chats = state["chats"]
    if action.key not in chats:
        chats[action.key] = {"created_at": action.at, "updated_at": action.at, "status": "idle"}
    if len(chats) > MAX_LISTED:
        del chats[min(chats.keys() - {action.key}, key=lambda key: chats[key]["updated_at"])]


@chats_slice.on(conversation.asked, key=_owner)
@chats_slice.on(conversation.regenerated, key=_owner)
def _asked(state: Any, action: Action) -> None:
    _update(state, action, status="streaming")


@chats_slice.on(conversation.ended, key=_owner)
def _ended(state: Any, action: Action) -> None:
    _update(state, action, status="idle")


@chats_slice.on(conversation.titled, key=_owner)
def _titled(state: Any, action: Action, *, title: str) -> None:
    _update(state, action, title=title)


def _update(state: Any, action: Action, **fields: str) -> None:
    """Does not add a chat: one that has dropped out of the list stays out."""
    if action.key in state["chats"]:
        state["chats"][action.key].update(fields, updated_at=action.at)
