"""The slice `chat_erasure`: the deleted chats of which something may be left in the journal.

    chat_erasure/<key>  {"pages": the pages of its archive}

A chat is deleted by an action, and erased after that. If the process ends in between, the next one that starts finds
the instance and erases the chat.

Invariants: an instance exists from the deletion of its chat until the chat is erased. So long, no chat with the same id
can be created, because it would be erased, too.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.nodes.presence import NAME as PRESENCE
from statestream.chat.slices import (
    archive,
    deleted_chats,
    kept_files,
    later,
    membership,
    provider,
    runs,
    storage,
    uploads,
    waits,
)
from statestream.chat.slices.conversation import deleted, name_of
from statestream.core.change import REMOVED
from statestream.core.selection import Selection
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_erasure"
_FAMILIES: Final = (
    later.NAME,
    provider.NAME,
    storage.NAME,
    runs.NAME,
    waits.NAME,
    uploads.NAME,
    kept_files.NAME,
    membership.NAME,
    PRESENCE,
)

erasures_slice = Slice(NAME, initial={"pages": 0}, keyed=True, internal=True, hidden=True)


@erasures_slice.on(deleted)
def _deleted(state: Any, *, pages: int = 0) -> None:
    state["pages"] = pages


@erasures_slice.action
def erased(state: Any) -> Any:
    """Nothing is left of the chat."""
    return REMOVED


def undeleted(key: str) -> dict[str, int]:
    """The versions that a request expects that must not find a deleted chat."""
    return {f"{deleted_chats.NAME}/{key}": 0, f"{NAME}/{key}": 0}


def pending(view: StoreView) -> list[str]:
    """The chats that are still to be erased."""
    return [name.partition("/")[2] for name in view.versions(Selection.family(NAME))]


def names_left(view: StoreView, key: str) -> list[str]:
    """The instances of a chat that is to be erased; none if it was. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    if state is None:
        return []
    pages = (f"{archive.NAME}/{key}:{page}" for page in range(state.value["pages"]))
    return [name_of(key), *(f"{family}/{key}" for family in _FAMILIES), *pages]
