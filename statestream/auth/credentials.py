"""The token that a request carries, and the identity that follows from what is known about its sender.

Invariants: a request has at most one credential of each kind, because two programs could choose different ones. Tokens
are taken from headers only: URLs end up in logs and histories.
"""

from __future__ import annotations

import re
from typing import Any, Final

from aiohttp import web

from statestream.core.errors import Malformed, Unauthenticated
from statestream.core.principal import Identity

TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""The characters of a token, by RFC 6750."""


def only_header(request: web.Request, name: str) -> str | None:
    """The value of a header that may occur once; None without it. Raises Unauthenticated."""
    values = request.headers.getall(name, [])
    if len(values) > 1:
        raise Unauthenticated(f"expected one header {name}, got {len(values)}", kind="duplicate")
    return values[0] if values else None


def bearer_token(request: web.Request) -> str | None:
    """The token of `Authorization: Bearer …`; None without it, or for another scheme. Raises Unauthenticated."""
    scheme, _, token = (only_header(request, "Authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return well_formed(token.strip(" "))


def well_formed(token: str) -> str:
    """The token itself. Raises Unauthenticated."""
    if not TOKEN.fullmatch(token):
        raise Unauthenticated("the token is empty, or has characters that no token has", kind="malformed")
    return token


def identity_of_claims(**fields: Any) -> Identity:
    """The identity with these fields. Raises Unauthenticated if they cannot be those of an identity."""
    try:
        return Identity(**fields)
    except Malformed as error:
        raise Unauthenticated(f"the credentials cannot be used: {error}", kind="claims") from None
