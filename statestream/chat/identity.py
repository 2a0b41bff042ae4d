"""The person behind a request, and their presence through state streams.

Invariants: a person is whom the server's authenticator has recognized, by the subject of their identity; nothing that a
request says of itself counts. Without authentication, everybody is anonymous. A person is present in the chats whose
`presence/<chat>` their stream asks for, exactly as long as the stream is open and they belong to the chat.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.files import is_name
from statestream.chat.nodes.presence import NAME, Presence
from statestream.chat.visit import Visit
from statestream.core.errors import Malformed, Unauthenticated
from statestream.core.names import escape_key
from statestream.core.principal import MAX_SUBJECT
from statestream.core.selection import Selection
from statestream.core.values import check_member
from statestream.server.authentication import SIGN_IN
from statestream.server.origin import is_foreign
from statestream.server.request import identity_of, view_of
from statestream.server.stream import StreamObserver

MAX_PRESENT: Final = 20
"""The chats in which one stream can make a person present."""


def person(request: web.Request) -> str | None:
    """The name of the person, or None. Raises Malformed if it cannot be a key, or a member of an object."""
    identity = identity_of(request)
    return None if identity is None else check_person(identity.subject)


def check_person(subject: str) -> str:
    """The name of a person who can take part in chats. Raises Malformed."""
    if len(subject) > MAX_SUBJECT:
        raise Malformed(f"expected a person's name of at most {MAX_SUBJECT} characters, got more")
    escape_key(subject)
    if not is_name(subject, MAX_SUBJECT):
        raise Malformed("expected a person's name without control characters and line breaks")
    return check_member(subject)


def visit(request: web.Request, conversations: Conversations) -> Visit:
    """The conversations as the sender of a request may use them.

    Raises Unauthenticated for somebody without credentials, if the server authenticates; Malformed.
    """
    principal = view_of(request).principal
    if principal.closed and principal.identity is None:
        raise Unauthenticated(SIGN_IN)
    return Visit(conversations, principal, person(request))


def presence_observer(presence: Presence) -> StreamObserver:
    """An observer of state streams that enters their people into presence, unless a page of another site opened it."""

    def opened(request: web.Request, selection: Selection) -> Callable[[], None] | None:
        keys = [name.partition("/")[2] for name in selection.names if name.startswith(f"{NAME}/")]
        user = person(request) if keys and not is_foreign(request) else None
        if user is None:
            return None
        if len(keys) > MAX_PRESENT:
            raise Malformed(f"expected at most {MAX_PRESENT} names of `presence/…` for a person, got {len(keys)}")
        closed = ExitStack()
        for key in keys:
            closed.callback(presence.enter(key, user))
        return closed.close

    return opened
