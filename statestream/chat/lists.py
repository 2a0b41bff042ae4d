"""The slice `chats`: the chats of each person, live, for sidebars.

    chats/<user>  {"chats": {id: {"created_at", "updated_at", "status": "idle" | "streaming", "title"?}}}

Invariants: made from the actions of `chat` that say whose chat it is; nobody writes it directly. Only the newest are
listed.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat import conversation as chat
from statestream.core.change import Action
from statestream.core.slices import Slice

MAX_LISTED: Final = 500

chats_slice = Slice("chats", initial={"chats": {}}, keyed=True, internal=True)


def _whose(action: Action) -> str | None:
    return action.payload.get("user")


@chats_slice.on(chat.created, key=_whose)
def _created(state: Any, action: Action) -> None:
    chats = state["chats"]
    if action.key not in chats:
        chats[action.key] = {"created_at": action.at, "updated_at": action.at, "status": "idle"}
    if len(chats) > MAX_LISTED:
        del chats[min(chats.keys() - {action.key}, key=lambda key: chats[key]["updated_at"])]


@chats_slice.on(chat.asked, key=_whose)
@chats_slice.on(chat.regenerated, key=_whose)
def _asked(state: Any, action: Action) -> None:
    _touch(state, action, status="streaming")


@chats_slice.on(chat.ended, key=_whose)
def _ended(state: Any, action: Action) -> None:
    _touch(state, action, status="idle")


@chats_slice.on(chat.titled, key=_whose)
def _titled(state: Any, action: Action, *, title: str) -> None:
    _touch(state, action, title=title)


def _touch(state: Any, action: Action, **what: str) -> None:
    """A chat that is not listed any more stays so."""
    if action.key in state["chats"]:
        state["chats"][action.key].update(what, updated_at=action.at)
