"""The public keys of an issuer: one key, or a JWK set in a file or at a URL, which changes while the server runs.

Invariants: keys that are held are replaced by keys only, never by an error. Nobody who sends tokens can make the server
fetch more often than once in REFETCH_SECONDS. A fetch has a limit in time and size, follows no redirect, and does not
depend on the request that caused it. Secret keys are not taken from a set: who can read it could make tokens.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import aiohttp
import orjson
from msgspec import Struct
from yarl import URL

from statestream.core.errors import Unavailable
from statestream.server.hosts import is_loopback

log = logging.getLogger("statestream")

REFETCH_SECONDS: Final = 10.0
"""The least time between two fetches, whatever the tokens ask for."""
MAX_AGE_SECONDS: Final = 600.0
"""After this time, the next request causes a fetch, so that keys that the issuer has withdrawn are dropped."""
FETCH_SECONDS: Final = 5.0
MAX_BYTES: Final = 256 << 10
MAX_KEYS: Final = 100
KINDS: Final = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("EdDSA",)}
"""The algorithms of each kind of key, by how their names begin."""


class VerifyingKey(Struct, frozen=True, kw_only=True):
    """A key, and the algorithms with which it may be used."""

    key: Any
    algorithms: tuple[str, ...]


class Keys(Protocol):
    """The keys of an issuer."""

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """The key that a token names by `kid`; the only key if it names none. Raises Unavailable."""


class OneKey:
    """A key that never changes. It does not matter how tokens name it."""

    def __init__(self, key: Any, algorithms: Collection[str]) -> None:
        self._key = VerifyingKey(key=key, algorithms=tuple(algorithms))

    async def find(self, kid: str | None) -> VerifyingKey | None:
        return self._key


class KeyFile:
    """The JWK set in a file, which is read again after it has changed. Raises ValueError if it cannot be read now."""

    def __init__(self, path: str | os.PathLike[str], algorithms: Collection[str]) -> None:
        self._path, self._algorithms = Path(path), algorithms
        self._seen: tuple[int, ...] | None = self._signature()
        self._keys = self._read()

    async def find(self, kid: str | None) -> VerifyingKey | None:
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            try:
                self._keys = self._read()
            except ValueError as error:
                _complain(str(error))
        return _found(self._keys, kid)

    def _signature(self) -> tuple[int, ...] | None:
        """Differs if the file was replaced or written to; None if there is no file."""
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self) -> Mapping[str | None, VerifyingKey]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise ValueError(f"the JWK set {self._path.name} cannot be read: {os.strerror(error.errno or 0)}") from None
        try:
            return usable_keys(data, self._algorithms)
        except ValueError as error:
            raise ValueError(f"the JWK set {self._path.name} cannot be used: {error}") from None


class KeyURL:
    """The JWK set at a URL. It is fetched for the first token, for names of keys that it does not have, and by age."""

    def __init__(self, url: str, algorithms: Collection[str]) -> None:
        self._url, self._algorithms = _checked(url), algorithms
        self._shown = str(self._url.with_user(None).with_query(None).with_fragment(None))
        self._keys: Mapping[str | None, VerifyingKey] = {}
        self._began_at = float("-inf")
        self._failed = False
        self._fetch: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> VerifyingKey | None:
        """Raises Unavailable if the key is not known, and the newest set could not be fetched."""
        key = _found(self._keys, kid)
        if key is None:
            if (fetch := self.refresh(REFETCH_SECONDS)) is not None:
                await asyncio.wait({fetch})  # if this request is cancelled, the fetch goes on for the others
            key = _found(self._keys, kid)
            if key is None and self._failed:
                raise Unavailable("the keys of the issuer of this token cannot be fetched now; try again in a moment")
        else:
            self.refresh(MAX_AGE_SECONDS)
        return key

    def refresh(self, age: float) -> asyncio.Task[None] | None:
        """The fetch in progress. Starts one if the last one began `age` seconds ago."""
        if self._fetch is not None and self._fetch.done():
            self._fetch = None
        if self._fetch is None and time.monotonic() >= self._began_at + age:
            self._began_at = time.monotonic()
            self._fetch = asyncio.create_task(self._fetched())
        return self._fetch

    async def close(self) -> None:
        """Ends a fetch that is in progress."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})
            self._fetch = None

    async def _fetched(self) -> None:
        self._failed = True
        try:
            self._keys = usable_keys(await self._body(), self._algorithms)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _complain(f"{self._shown} cannot be fetched ({type(error).__name__})")
        except ValueError as error:
            _complain(f"the JWK set at {self._shown} cannot be used: {error}")
        else:
            self._failed = False

    async def _body(self) -> bytes:
        """Raises ValueError for anything but a response of bounded size."""
        limits = aiohttp.ClientTimeout(total=FETCH_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=limits, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.get(self._url, headers={"Accept": "application/json"}, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"expected status 200, got {response.status}")
            body = b""
            while len(body) <= MAX_BYTES and (chunk := await response.content.readany()):
                body += chunk
            return body


def _complain(sentence: str) -> None:
    log.error("%s; the keys that are known stay valid", sentence)


def usable_keys(data: bytes, algorithms: Collection[str]) -> Mapping[str | None, VerifyingKey]:
    """The keys of a JWK set that can verify signatures by one of the algorithms. Raises ValueError if there are none.

    Other keys are left out, so that an issuer can publish keys for other purposes beside them. If several keys have
    the same name, none of them is used.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 10} KiB")
    try:
        listed = orjson.loads(data)["keys"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise ValueError('expected a JSON object with the member "keys"') from None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f"expected `keys` to be a list of at most {MAX_KEYS} keys")
    keys: dict[str | None, VerifyingKey] = {}
    repeated: set[str | None] = set()
    for jwk in listed:
        if isinstance(jwk, dict) and (key := _usable(jwk, algorithms)) is not None:
            kid = jwk.get("kid")
            repeated |= {kid} & keys.keys()
            keys[kid] = key
    for kid in repeated:
        del keys[kid]
    if not keys:
        raise ValueError(f"it has no key that verifies {', '.join(algorithms)}")
    return keys


def _usable(jwk: Mapping[str, Any], algorithms: Collection[str]) -> VerifyingKey | None:
    """The key, if it verifies signatures by one of the algorithms."""
    from jwt import PyJWTError  # with the extra `jwt` only
    from jwt.algorithms import get_default_algorithms

    kid, kty, alg = jwk.get("kid"), jwk.get("kty"), jwk.get("alg")
    if not isinstance(kid, str | None) or not isinstance(kty, str) or jwk.get("use", "sig") != "sig":
        return None
    fitting = [name for name in algorithms if name.startswith(KINDS.get(kty, ())) and alg in (None, name)]
    for name in fitting:
        algorithm = get_default_algorithms()[name]
        try:
            key: Any = algorithm.from_jwk(dict(jwk))
            key = key.public_key() if "d" in jwk else key
            if algorithm.check_key_length(key) is None:
                shared = tuple(fitting) if kty == "RSA" else (name,)  # a curve has one algorithm
                return VerifyingKey(key=algorithm.prepare_key(key), algorithms=shared)
        except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):  # members that are missing or wrong
            continue
    return None


def _found(keys: Mapping[str | None, VerifyingKey], kid: str | None) -> VerifyingKey | None:
    if kid is None and len(keys) == 1:
        return next(iter(keys.values()))
    return keys.get(kid)


def _checked(text: str) -> URL:
    """Raises ValueError, without the URL: it may contain a password."""
    try:
        url = URL(text)
        host = url.host
    except ValueError:
        host = None
    if not host:
        raise ValueError("expected the URL of a JWK set, such as https://login.example/.well-known/jwks.json")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(host)):
        raise ValueError("expected the URL of a JWK set to begin with https://; keys over http could be anybody's")
    return url
