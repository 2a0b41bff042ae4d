"""Who may read the slices of a chat, on a server that authenticates.

Without authentication, every chat is everybody's, and no rule applies.

Invariants: the rules depend on the identity and on who belongs to a chat, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from statestream.chat.members import belongs, person_key
from statestream.chat.nodes.presence import presence_slice
from statestream.chat.slices.archive import archive_slice
from statestream.chat.slices.conversation import chat_slice
from statestream.chat.slices.listing import chats_slice
from statestream.chat.slices.membership import people_of
from statestream.core.errors import Malformed
from statestream.core.principal import Identity
from statestream.core.slices import Slice


def member(identity: Identity | None, key: str, state: Any) -> bool:
    """The chat with that key, and who is present in it: those who belong to the chat."""
    people, person = people_of(state, key), _key(identity)
    return people is not None and person is not None and belongs(people, person)


def member_of_page(identity: Identity | None, key: str, state: Any) -> bool:
    """A page of the archive, whose key begins with that of its chat."""
    return member(identity, key.rpartition(":")[0], state)


def own(identity: Identity | None, key: str) -> bool:
    """A person's list of chats."""
    return _key(identity) == key


RULES: Final[Mapping[Slice, Callable[..., bool]]] = {
    chat_slice: member,
    presence_slice: member,
    archive_slice: member_of_page,
    chats_slice: own,
}


def _key(identity: Identity | None) -> str | None:
    try:
        return None if identity is None else person_key(identity.subject)
    except Malformed:  # such a person has no chats
        return None
