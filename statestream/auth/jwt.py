"""Tokens that an issuer has signed: JSON Web Tokens, RFC 7519, verified as RFC 8725 recommends.

Invariants: the algorithms are fixed, and all of one kind, so no token can choose how it is verified. Nothing of a token
is used before its signature is verified, except `alg` to refuse it, and `kid` to find the key. An identity expires
at the moment from which its token is refused.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Sequence
from typing import Any, Final, Self

from aiohttp import web

from statestream.auth.credentials import bearer_token, identity_of_claims
from statestream.auth.jwks import KeyFile, Keys, KeyURL, OneKey, VerifyingKey
from statestream.core.errors import Unauthenticated
from statestream.core.principal import Identity

MAX_TOKEN: Final = 6 << 10
"""Characters. The server refuses headers of more than 8 KiB in any case."""
MAX_LEEWAY: Final = 60.0
MIN_HMAC_BYTES: Final = 32
HMAC: Final = ("HS256", "HS384", "HS512")
PUBLIC: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REQUIRED: Final = ("exp", "iat", "aud", "iss", "sub")
TIMES: Final = ("exp", "iat", "nbf")
REFUSALS: Final = {
    "ExpiredSignatureError": ("expired", "the token has expired"),
    "ImmatureSignatureError": ("early", "the token is not valid yet"),
    "InvalidSignatureError": ("signature", "the signature of the token is wrong"),
    "InvalidAudienceError": ("audience", "the token is for another audience"),
    "InvalidIssuerError": ("issuer", "the token is from another issuer"),
    "InvalidAlgorithmError": ("algorithm", "the token is signed by an algorithm that is not accepted"),
    "InvalidKeyError": ("algorithm", "the token is signed by an algorithm that does not fit its key"),
    "MissingRequiredClaimError": ("claims", f"a token needs the claims {', '.join(REQUIRED)}"),
    "InvalidIssuedAtError": ("claims", "a claim of the token is of a wrong type"),
    "InvalidSubjectError": ("claims", "a claim of the token is of a wrong type"),
    "InvalidJTIError": ("claims", "a claim of the token is of a wrong type"),
}
"""By the name of PyJWT's exception, whose own message quotes the token: what the log says, and what the client."""
MALFORMED: Final = ("malformed", "the token is not a well-formed JSON Web Token")


class JWT:
    """Recognizes the senders of JSON Web Tokens in `Authorization: Bearer …`. It needs the extra `jwt`.

    A token must have the claims `exp`, `iat`, `aud`, `iss` and `sub`, where `iss` is `issuer`, and `aud` is or contains
    `audience`. `algorithms` are those that the issuer uses, either HMAC (`HS256`) or with public keys (`RS256`,
    `PS256`, `ES256`, `EdDSA`). `key` is the secret for HMAC, of at least 32 bytes, or one public key as PEM. `jwks` is
    a JWK set instead: the path of a file, or an https URL. `roles` is the claim with the roles, a list or words
    separated by spaces. `leeway` is by how many seconds clocks may differ. Raises ValueError, TypeError, and
    ImportError without PyJWT.
    """

    credential_headers: Final = ("Authorization",)
    """Where it looks for credentials."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        key: str | bytes | None = None,
        jwks: str | os.PathLike[str] | None = None,
        roles: str = "roles",
        leeway: float = 10.0,
    ) -> None:
        if importlib.util.find_spec("jwt") is None or importlib.util.find_spec("cryptography") is None:
            raise ImportError(
                "PyJWT is not installed; it comes with the extra jwt: pip install '.[jwt]' in the checkout", name="jwt"
            )
        for name, text in (("issuer", issuer), ("audience", audience), ("roles", roles)):
            if not isinstance(text, str) or not text:
                raise TypeError(f"expected `{name}` to be text")
        if not 0 <= leeway <= MAX_LEEWAY:
            raise ValueError(f"expected `leeway` to be 0 to {MAX_LEEWAY:g} seconds, got {leeway:g}")
        self._algorithms = _checked_algorithms(algorithms)
        self._issuer, self._audience, self._roles, self._leeway = issuer, audience, roles, leeway
        self._keys = _keys(self._algorithms, key, jwks)

    def __repr__(self) -> str:
        return f"<JWT: {', '.join(self._algorithms)}>"

    async def __call__(self, request: web.Request) -> Identity | None:
        """Raises Unauthenticated, and Unavailable if the keys cannot be fetched."""
        token = bearer_token(request)
        if token is None:
            return None
        if len(token) > MAX_TOKEN:
            raise Unauthenticated(f"expected a token of at most {MAX_TOKEN:,} characters", kind="size")
        key = await self._keys.find(self._named_key(token))
        if key is None:
            raise Unauthenticated("the token names a key that its issuer does not have", kind="key")
        return self._identity(self._verified(token, key))

    async def __aenter__(self) -> Self:
        if isinstance(self._keys, KeyURL):
            self._keys.refresh(0.0)  # now, so that a wrong URL is logged when the server starts
        return self

    async def __aexit__(self, *_: object) -> None:
        if isinstance(self._keys, KeyURL):
            await self._keys.close()

    def _named_key(self, token: str) -> str | None:
        """The `kid` of a token whose `alg` is accepted. Raises Unauthenticated."""
        from jwt import PyJWTError, get_unverified_header

        try:
            header = get_unverified_header(token)
        except PyJWTError as error:
            raise _refused(error) from None
        if header.get("alg") not in self._algorithms:
            raise _refusal(*REFUSALS["InvalidAlgorithmError"])
        kid: str | None = header.get("kid")
        return kid

    def _verified(self, token: str, key: VerifyingKey) -> dict[str, Any]:
        """The claims of the token. Raises Unauthenticated."""
        from jwt import PyJWTError, decode

        try:
            claims = decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": list(REQUIRED), "enforce_minimum_key_length": True},
            )
        except PyJWTError as error:
            raise _refused(error) from None
        if not all(_is_time(claims[name]) for name in TIMES if name in claims):
            raise _refusal(*REFUSALS["InvalidIssuedAtError"])  # PyJWT takes texts such as "17e8" as well
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        roles = claims.get(self._roles, [])
        if isinstance(roles, str):
            roles = roles.split()
        if not isinstance(roles, list):
            raise Unauthenticated("expected the roles of the token as a list of names", kind="claims")
        expires = math.floor(claims["exp"]) + self._leeway
        return identity_of_claims(subject=claims["sub"], roles=roles, claims=claims, expires=expires)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _refused(error: Exception) -> Unauthenticated:
    """What an exception of PyJWT means, without its message."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return _refusal(*next((REFUSALS[name] for name in names if name in REFUSALS), MALFORMED))


def _refusal(kind: str, sentence: str) -> Unauthenticated:
    return Unauthenticated(sentence, kind=kind)


def _checked_algorithms(algorithms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(algorithms, str) or not algorithms:
        raise TypeError('expected `algorithms` to be a list such as ["RS256"]')
    unknown = [name for name in algorithms if name not in (*HMAC, *PUBLIC)]
    if unknown:
        raise ValueError(f"expected algorithms out of {', '.join((*HMAC, *PUBLIC))}, got {unknown[0]}")
    if any(name in HMAC for name in algorithms) and any(name in PUBLIC for name in algorithms):
        raise ValueError("expected algorithms with HMAC or with public keys, got both: a public key is no secret")
    return tuple(algorithms)


def _keys(algorithms: tuple[str, ...], key: str | bytes | None, jwks: str | os.PathLike[str] | None) -> Keys:
    """Raises ValueError, TypeError."""
    if (key is None) == (jwks is None):
        raise TypeError("expected `key` or `jwks`, one of them")
    if key is not None:
        if not isinstance(key, str | bytes):
            raise TypeError(f"expected `key` to be text or bytes, got {type(key).__name__}")
        return OneKey(_prepared(key, algorithms), algorithms)
    assert jwks is not None
    if algorithms[0] in HMAC:
        raise ValueError("HMAC needs its secret as `key`; a JWK set is for public keys")
    if isinstance(jwks, str) and "://" in jwks:
        return KeyURL(jwks, algorithms)
    return KeyFile(jwks, algorithms)


def _prepared(key: str | bytes, algorithms: tuple[str, ...]) -> Any:
    """The key as PyJWT uses it. Raises ValueError, without the key, if it fits no algorithm or is too weak."""
    from jwt import PyJWTError
    from jwt.algorithms import get_default_algorithms

    prepared: Any = None
    for name in algorithms:
        algorithm = get_default_algorithms()[name]
        try:
            prepared = algorithm.prepare_key(key)
            prepared = prepared.public_key() if hasattr(prepared, "private_bytes") else prepared
            weakness = algorithm.check_key_length(prepared)
        except (PyJWTError, ValueError, TypeError):
            hint = "a secret that is not a public key" if name in HMAC else "a public key of this kind as PEM"
            raise ValueError(f"`key` cannot be used with {name}: expected {hint}") from None
        if weakness is not None or (name in HMAC and len(prepared) < MIN_HMAC_BYTES):
            size = {"HS384": 48, "HS512": 64}.get(name, MIN_HMAC_BYTES)
            least = f"{size} bytes" if name in HMAC else "2,048 bits"
            raise ValueError(f"`key` is too short for {name}: expected at least {least}")
    return prepared
