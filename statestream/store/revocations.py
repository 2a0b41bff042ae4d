"""Subjects whose credentials were revoked, as a part of the state: so every process knows, also after a restart.

Invariants: declared in stores that authenticate, and hidden. A revocation is about credentials that were issued before
it. Credentials that do not tell when they were issued count as issued before.
"""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import Any, Final, Literal

from statestream.core.change import REMOVED, Action
from statestream.core.principal import Identity
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "revocation"
revocation_slice = Slice(NAME, initial={"at": 0}, keyed=True, internal=True, hidden=True)


@revocation_slice.action
def revoked(state: Any, action: Action) -> None:
    state["at"] = action.at


@revocation_slice.action
def reinstated(state: Any) -> Any:
    return REMOVED


@lru_cache(maxsize=1_000)  # one request asks several times
def key_of(subject: str) -> str:
    """The key of a subject: any text, in the same short form."""
    return hashlib.sha256(subject.encode()).hexdigest()[:32]


WhyNot = Literal["expired", "revoked"]


def why_not(view: StoreView, identity: Identity) -> WhyNot | None:
    """Why the credentials of an identity are not valid any more; None if they are. Raises NotLoaded."""
    if identity.expires is not None and identity.expires <= time.time():
        return "expired"
    return "revoked" if is_revoked(view, identity) else None


def is_revoked(view: StoreView, identity: Identity) -> bool:
    """Whether the credentials of an identity were revoked after they were issued (the claim `iat`, Unix seconds)."""
    state = view.get(f"{NAME}/{key_of(identity.subject)}")
    if state is None:
        return False
    issued = identity.claims.get("iat")
    return not isinstance(issued, (int, float)) or issued * 1000 <= state.value["at"]
