"""Who acts: the one on whose behalf a request reads or dispatches.

Invariants: plain data. An identity says who somebody is, a principal adds how the server looks at them. What they may
do is decided by the rules of the slices, in `store.rights`.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson
from msgspec import Struct, field
from msgspec.structs import force_setattr

from statestream.core.errors import Malformed
from statestream.core.values import plain

MAX_SUBJECT: Final = 64
OF_A_TOKEN: Final = ("exp", "iat", "nbf", "jti")
"""Claims about a token, not about its subject."""


class Identity(Struct, frozen=True, kw_only=True):
    """A person or a program, as an authenticator has recognized it.

    `subject` names it, in at most 64 characters: it is the actor of what it dispatches and the author of its messages.
    `roles` and `claims` are for rules. `claims` is JSON, such as the payload of a token. `expires` is the Unix time in
    seconds at which its credentials become invalid; None means never. Raises Malformed for anything else.
    """

    subject: str
    roles: Collection[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict)
    expires: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.subject, str) or not 0 < len(self.subject) <= MAX_SUBJECT:
            raise Malformed(f"expected the subject of an identity as text of 1 to {MAX_SUBJECT} characters")
        if not self.subject.isprintable():
            raise Malformed("expected the subject of an identity without control characters and line breaks")
        force_setattr(self, "roles", _checked_roles(self.roles))
        if self.claims:
            force_setattr(self, "claims", plain(dict(self.claims)))

    def rights(self) -> bytes:
        """What rules can tell identities apart by, without what differs between one token and the next (RFC 7519)."""
        claims = {name: claim for name, claim in self.claims.items() if name not in OF_A_TOKEN}
        known = {"subject": self.subject, "roles": sorted(self.roles), "claims": claims}
        return orjson.dumps(known, option=orjson.OPT_SORT_KEYS)


def _checked_roles(roles: Any) -> frozenset[str]:
    """Raises Malformed."""
    try:
        if not isinstance(roles, str) and all(map(str.isprintable, found := frozenset(roles))):
            return found
    except TypeError:  # not a collection, or of something else than text
        pass
    raise Malformed('expected the roles of an identity as a list of names, such as ["editor"]')


class Principal(Struct, frozen=True, kw_only=True):
    """Somebody with an identity, somebody without one, or the server's own code.

    `internal` marks the server's own code, to which no rule applies. `closed` says that the server authenticates: then
    slices without rules are closed.
    """

    identity: Identity | None = None
    internal: bool = False
    closed: bool = False

    @property
    def subject(self) -> str | None:
        """The actor of what they dispatch. Handlers and causes show it; ids are idempotent for each actor."""
        return None if self.identity is None else self.identity.subject


ANYBODY: Final = Principal()
SERVER: Final = Principal(internal=True)


class Scope(Struct, frozen=True, kw_only=True, gc=False):
    """How a principal sees the slices that it may read. Readers of equal scopes and selections share bytes.

    `guarded`: rules apply, so a cause has a payload only if it is of an action of the very slice. `views` has, for each
    slice that is seen through a view, its name and the number of the view.
    """

    guarded: bool = False
    views: tuple[tuple[str, int], ...] = ()

    @property
    def tag(self) -> str | None:
        """Stands for the views in the frames that begin a stream; None if there are none."""
        if not self.views:
            return None
        text = ",".join(f"{name}:{number}" for name, number in self.views)
        return f"{zlib.crc32(text.encode()):08x}"

    def view_of(self, name: str) -> int | None:
        """The number of the view through which a slice or instance is seen."""
        family = name.partition("/")[0]
        return next((number for viewed, number in self.views if viewed == family), None)
