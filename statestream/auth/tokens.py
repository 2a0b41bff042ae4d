"""Static tokens, for programs and small teams: each belongs to one identity.

Invariants: no token is kept, only a hash of it. How long a lookup takes reveals nothing about the tokens: they are
looked up by a hash whose key no client knows.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from msgspec.structs import fields

from statestream.auth.credentials import TOKEN, bearer_token, only_header, well_formed
from statestream.core.errors import Unauthenticated
from statestream.core.principal import Identity

MIN_CHARACTERS: Final = 32
"""16 random bytes in hexadecimal."""
HASHED: Final = "sha256:"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS: Final = {each.name for each in fields(Identity)}


class Tokens:
    """Recognizes the senders of static tokens, in `Authorization: Bearer …` or `X-API-Key`.

    `tokens` maps each token to its Identity, or to a dict of the fields of one. A token has at least 32 characters;
    `secrets.token_urlsafe(32)` makes one. In place of a token, `sha256:` and its SHA-256 in hexadecimal can be given,
    so that the program does not contain the secret. Raises ValueError and TypeError.
    """

    credential_headers: Final = ("Authorization", "X-API-Key")
    """Where it looks for credentials."""

    def __init__(self, tokens: Mapping[str, Identity | Mapping[str, Any]]) -> None:
        if not isinstance(tokens, Mapping) or not tokens:
            raise TypeError('expected a mapping of tokens to identities, such as {"<token>": {"subject": "ada"}}')
        self._key = secrets.token_bytes(32)
        self._identities: dict[bytes, Identity] = {}
        for number, (token, fields_) in enumerate(tokens.items(), 1):
            place = self._place(_digest(token, number))
            if place in self._identities:
                raise ValueError(f"token {number} occurs twice, once as a hash")
            self._identities[place] = _identity(fields_, number)

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._identities)}>"

    async def __call__(self, request: web.Request) -> Identity | None:
        token, key = bearer_token(request), only_header(request, "X-API-Key")
        if token is not None and key is not None:
            raise Unauthenticated("expected `Authorization` or `X-API-Key`, got both", kind="duplicate")
        if key is not None:
            token = well_formed(key)
        if token is None:
            return None
        identity = self._identities.get(self._place(hashlib.sha256(token.encode()).digest()))
        if identity is None:
            raise Unauthenticated("the token is not known", kind="unknown")
        return identity

    def _place(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._key, digest_size=32).digest()


# The messages name a token by its number: it may have been meant as a secret, whatever it looks like.


def _digest(token: Any, number: int) -> bytes:
    if not isinstance(token, str):
        raise TypeError(f"expected token {number} to be text, got {type(token).__name__}")
    if token.startswith(HASHED):
        if not _DIGEST.fullmatch(token.removeprefix(HASHED)):
            raise ValueError(f"expected token {number} as {HASHED} and 64 lower-case hexadecimal digits")
        return bytes.fromhex(token.removeprefix(HASHED))
    if len(token) < MIN_CHARACTERS:
        raise ValueError(f"expected token {number} to have at least {MIN_CHARACTERS} characters, got {len(token)}")
    if not TOKEN.fullmatch(token):
        raise ValueError(f"expected token {number} to consist of ASCII letters, digits and -._~+/ only")
    return hashlib.sha256(token.encode()).digest()


def _identity(fields_: Any, number: int) -> Identity:
    if isinstance(fields_, Identity):
        return fields_
    if not isinstance(fields_, Mapping):
        raise TypeError(f"expected the Identity of token {number}, or a dict of its fields")
    unknown = set(fields_) - _FIELDS
    if unknown or "subject" not in fields_:
        allowed = ", ".join(sorted(_FIELDS - {"subject"}))
        raise ValueError(f"expected a `subject` for token {number}, and beside it only {allowed}")
    try:
        return Identity(**fields_)
    except ValueError as error:
        raise ValueError(f"for token {number}: {error}") from None
