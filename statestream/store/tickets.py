"""Tickets, and the passes that they are exchanged for, as a part of the state: so every process accepts them.

A browser cannot send headers with an EventSource or a WebSocket, but it sends cookies. Somebody who has authenticated
gets a ticket as a cookie; the first connection that presents it exchanges it for a pass, for all further connections.

Invariants: declared in stores that authenticate, and hidden. There is one instance for each subject, with the hashes of
its tickets and passes: nobody can make a cookie from what is in the journal. A ticket is exchanged once, whichever
processes see it, because the exchange is an action. What has lapsed is removed with the next ticket of the subject.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from statestream.core.change import REMOVED, Action
from statestream.core.errors import Refused
from statestream.core.principal import Identity
from statestream.core.slices import Slice

NAME: Final = "stream_ticket"
TICKET_MS: Final = 30_000
PASS_MS: Final = 12 * 3_600_000
"""How long a pass is valid if the credentials do not expire earlier."""
MAX_OF_A_SUBJECT: Final = 100
"""Of tickets, and of passes. The one that would lapse first makes room for a new one."""

ticket_slice = Slice(NAME, initial={"tickets": {}, "passes": {}}, keyed=True, internal=True, hidden=True)


@ticket_slice.action
def issued(state: Any, action: Action, *, ticket: str, holder: str, expires: float | None, cookie: str) -> None:
    _forget(state, action.at)
    _make_room(state["tickets"])
    until = _until(expires, action.at + TICKET_MS)
    state["tickets"][ticket] = {"until": until, "holder": holder, "expires": expires, "cookie": cookie}


@ticket_slice.action
def exchanged(state: Any, action: Action, *, ticket: str, to: str) -> None:
    found = state["tickets"].get(ticket)
    if found is None or found["until"] <= action.at:
        raise Refused("used", "The ticket was used already, or has expired.")
    del state["tickets"][ticket]
    _make_room(state["passes"])
    state["passes"][to] = {**found, "until": _until(found["expires"], action.at + PASS_MS)}


@ticket_slice.action
def lapsed(state: Any, action: Action) -> Any:
    _forget(state, action.at)
    return None if state["tickets"] or state["passes"] else REMOVED


def _until(expires: float | None, at: int) -> int:
    return at if expires is None else min(at, int(expires * 1000))


def _forget(state: Any, at: int) -> None:
    for kind in (state["tickets"], state["passes"]):
        for digest in [digest for digest, each in kind.items() if each["until"] <= at]:
            del kind[digest]


def _make_room(kind: Any) -> None:
    while len(kind) >= MAX_OF_A_SUBJECT:
        del kind[min(kind, key=lambda digest: kind[digest]["until"])]


def digest_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def holder_of(identity: Identity) -> str:
    """An identity without its expiry. As text, because claims may be nested as deep as a state may be."""
    kept = {"subject": identity.subject, "roles": sorted(identity.roles), "claims": dict(identity.claims)}
    return orjson.dumps(kept).decode()


def entry_identity(entry: Mapping[str, Any]) -> Identity:
    """The identity of an entry. It expires when the entry lapses."""
    return Identity(**orjson.loads(entry["holder"]), expires=entry["until"] / 1000)


def is_over(state: Mapping[str, Any], at: int) -> bool:
    """Whether everything of a subject has lapsed."""
    return all(each["until"] <= at for kind in (state["tickets"], state["passes"]) for each in kind.values())
