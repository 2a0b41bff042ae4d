"""A server that says who asks (`tests/apps/logins.py`), and the keys and tokens to ask it with."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.support.paths import ROOT
from tests.support.server import Server

ISSUER, AUDIENCE = "https://login.example", "board"
SECRET = "a secret of more than thirty-two bytes"
Headers = dict[str, str] | Iterable[tuple[str, str]]


def login_server(auth: str, *, level: str = "WARNING", **limits: float) -> Server:
    """The server with the authenticator of this expression. `limits` are those of fetches, such as REFETCH_SECONDS."""
    env = {"AUTH": auth, "JWKS": json.dumps(limits), "LOG": level}
    return Server("serve", f"{ROOT / 'tests/apps/logins.py'}:app", env=env)


def claims(**more: Any) -> dict[str, Any]:
    """Those of a good token; None takes one away."""
    now = int(time.time())
    known = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600, "roles": ["editor"]} | more
    return {name: value for name, value in known.items() if value is not None}


def signed(payload: dict[str, Any], key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(payload, key, algorithm=algorithm, headers=header)


def new_key(algorithm: str) -> Any:
    """A private key."""
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}[algorithm])
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65537, 2048)


def public_pem(key: Any) -> str:
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    pem: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, kind)
    return pem.decode()


def jwk(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    """The public key, as an issuer publishes it."""
    return {**get_default_algorithms()[algorithm].to_jwk(key.public_key(), as_dict=True), **more}


async def who(http: aiohttp.ClientSession, url: str, headers: Headers) -> tuple[int, Any]:
    """The status and the answer of the route that says who asks."""
    async with http.get(f"{url}/me", headers=headers) as response:
        is_json = response.content_type.endswith("json")
        return response.status, await response.json(content_type=None) if is_json else await response.text()


async def bearer(http: aiohttp.ClientSession, url: str, token: str) -> tuple[int, Any]:
    return await who(http, url, {"Authorization": f"Bearer {token}"})
