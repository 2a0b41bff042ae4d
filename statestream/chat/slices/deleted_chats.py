"""The slice `deleted_chat`: the ids of chats that a person has deleted, so that nobody else can use them again.

    deleted_chat/<key>  {"at": when}

A new chat with the same id would give its owner the history of the deleted one, as long as the journal keeps it.

Invariants: nothing of the chat but its id. A chat that the server's own code has deleted leaves nothing.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices.conversation import deleted
from statestream.core.change import REMOVED, Action
from statestream.core.slices import Slice

NAME: Final = "deleted_chat"

deleted_slice = Slice(NAME, initial={"at": 0}, keyed=True, internal=True, hidden=True)


@deleted_slice.on(deleted)
def _deleted(state: Any, action: Action) -> Any:
    if action.actor is None:
        return REMOVED
    state["at"] = action.at
    return None
