"""The slice `chat_wait`: data about a waiting reply that is not in the chat itself.

    chat_wait/<chat>  {"reply": its id, "expires_at"?, "asker"?, "deciders"?: {<part>: identity}, "brought"?: what the
                       question brings for its reply}

`expires_at` is when the reply ends if calls are still undecided by then. The slice has the identities of the person who
asked and of those who decided, because the reply continues with their rights. They are absent on a server that does not
authenticate.

Invariants: the slice is hidden. An instance exists while the reply waits; the same requests write both. Only its own
actions create one.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.slices.conversation import deleted, ended
from statestream.core.change import REMOVED
from statestream.core.principal import Identity
from statestream.core.slices import Slice

NAME: Final = "chat_wait"

waits_slice = Slice(NAME, initial={}, keyed=True, internal=True, hidden=True)


@waits_slice.action
def begun(
    state: Any,
    *,
    reply: str,
    asker: dict[str, Any] | None = None,
    expires_at: int | None = None,
    brought: dict[str, Any] | None = None,
) -> None:
    """The reply of this chat waits, on behalf of the person who asked."""
    state["reply"] = reply
    state["deciders"] = {}
    if asker is not None:
        state["asker"] = asker
    for name, value in (("expires_at", expires_at), ("brought", brought)):
        if value is not None:
            state[name] = value


@waits_slice.action
def decided(
    state: Any,
    *,
    reply: str,
    parts: list[int],
    decider: dict[str, Any] | None = None,
    expires_at: int | None = None,
) -> Any:
    """Somebody has decided about some of the calls. Others are still undecided, until `expires_at`."""
    if state.get("reply") != reply:
        return REMOVED
    state.pop("expires_at", None)
    if expires_at is not None:
        state["expires_at"] = expires_at
    state["deciders"].update({str(part): decider for part in parts})
    return None


@waits_slice.action
def forgotten(state: Any, *, reply: str) -> Any:
    """The reply continues, or has ended without this slice: a version that does not know it has ended it."""
    return REMOVED if state.get("reply") in (None, reply) else None


@waits_slice.on(ended)
@waits_slice.on(deleted)
def _over(state: Any) -> Any:
    return REMOVED


def kept(identity: Identity | None) -> dict[str, Any] | None:
    """An identity as it is stored in the state."""
    if identity is None:
        return None
    roles, claims = sorted(identity.roles), dict(identity.claims)
    expires = {} if identity.expires is None else {"expires": identity.expires}
    return {"subject": identity.subject, "roles": roles, "claims": claims, **expires}


def identity_of(kept: Any) -> Identity | None:
    """The identity from which `kept` made this value."""
    return None if kept is None else Identity(**kept)
