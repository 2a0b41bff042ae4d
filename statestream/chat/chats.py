"""The chats of a store: their keys, and their committed state as a view gives it.

Invariants: reads only. A state must not be mutated. What reads a state raises NotLoaded if it is away: callers that
await use `view.complete`.
"""

from __future__ import annotations

from typing import Final

from statestream.chat.messages import State
from statestream.chat.slices.archive import KEY_ROOM
from statestream.chat.slices.conversation import chat_slice, name_of
from statestream.core.errors import Malformed, NotFound
from statestream.core.names import escape_key
from statestream.store.view import StoreView

MAX_KEY: Final = 128 - KEY_ROOM


def chat_key(chat_id: str) -> str:
    """The key of a chat whose id a client has chosen. Raises Malformed if it is too long."""
    key = escape_key(chat_id)
    check_length(key)
    return key


def check_length(key: str) -> None:
    """Raises Malformed if a key is too long to be a chat's."""
    if len(key) > MAX_KEY:
        raise Malformed(f"expected a chat id of at most {MAX_KEY} characters, got more")


def missing() -> NotFound:
    """The error for a chat that does not exist, or that the sender of a request does not belong to."""
    return NotFound("there is no chat with this id; create one with POST /api/chats")


def exists(view: StoreView, key: str) -> bool:
    return view.version(name_of(key)) > 0


def state_of(view: StoreView, key: str) -> State:
    """The chat's committed state, or the initial one if the chat does not exist."""
    chat = view.get(name_of(key))
    state: State = chat_slice.initial if chat is None else chat.value
    return state


def owner_of(view: StoreView, key: str) -> str | None:
    """The owner of a chat, as a key; None if it has none or does not exist."""
    return owner_in(state_of(view, key))


def owner_in(state: State) -> str | None:
    """The owner that a chat's state names."""
    owner = state.get("user")
    return None if owner is None else str(owner)
