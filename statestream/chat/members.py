"""Who belongs to a chat: its owner, and the participants whom the owner has invited.

People are named by keys, as in `chats/<user>`: the subject of an identity, escaped.

Invariants: pure functions of a chat's state. Nobody belongs to a chat without an owner and participants.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from statestream.chat.messages import State
from statestream.core.names import escape_key

MAX_PARTICIPANTS: Final = 100

person_key = lru_cache(4096)(escape_key)
"""The key of a subject. Raises Malformed if it is too long for one."""


def subject_of(key: str) -> str:
    """The subject whose key that is."""
    return unquote(key)


def participants_of(state: State) -> Sequence[str]:
    """The participants besides the owner, in the order of their invitations."""
    found: Sequence[str] = state.get("participants", ())
    return found


def belongs(state: State, person: str) -> bool:
    """Whether a person is the owner of a chat, or a participant."""
    return state.get("user") == person or person in participants_of(state)
