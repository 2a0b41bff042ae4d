"""Signed tokens against real servers: the good ones, and each way in which one can be wrong."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hmac import digest as hmac_digest
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream import Unauthenticated
from statestream.auth import JWT
from statestream.auth.jwks import OneKey
from tests.support import Server
from tests.support.logins import (
    AUDIENCE,
    ISSUER,
    SECRET,
    bearer,
    claims,
    login_server,
    new_key,
    public_pem,
    signed,
)
from tests.support.often import often

COMMON = f'issuer="{ISSUER}", audience="{AUDIENCE}"'
KEY, OTHER = new_key("RS256"), new_key("RS256")
PEM = public_pem(KEY)
FAILED = re.compile(r"login_failed reason=(\w+) method=GET route=/me peer=127\.0\.0\.1")


@pytest.fixture(scope="module")
def hmac() -> Iterator[Server]:
    yield from quiet(f'JWT({COMMON}, algorithms=["HS256"], key="{SECRET}")')


@pytest.fixture(scope="module")
def rsa() -> Iterator[Server]:
    yield from quiet(f'JWT({COMMON}, algorithms=["RS256", "PS256"], key={PEM!r})')


def quiet(auth: str) -> Iterator[Server]:
    """Nothing is logged but one line for each failed login, without a secret."""
    server = login_server(auth).start()
    yield server
    log = server.stop()
    known = {line for line in log.splitlines() if not FAILED.fullmatch(line)}
    assert known <= {"refused a request that is not valid HTTP (LineTooLong)"}, log


async def refused(http: aiohttp.ClientSession, server: Server, token: str) -> str:
    """The sentence of the refusal."""
    status, problem = await bearer(http, server.url, token)
    assert (status, problem.get("code")) == (401, "unauthenticated"), problem
    assert "canary" not in str(problem)
    return str(problem["detail"])


async def test_a_good_token_is_an_identity(hmac: Server, http: aiohttp.ClientSession) -> None:
    payload = claims(team={"id": 7}, aud=["other", AUDIENCE])
    status, found = await bearer(http, hmac.url, signed(payload))
    assert status == 200
    assert found == {"subject": "ada", "roles": ["editor"], "claims": payload, "expires": payload["exp"] + 10}


@pytest.mark.parametrize(
    ("roles", "expected"), [("admin  editor", ["admin", "editor"]), (None, []), ([], []), (["a b"], ["a b"])]
)
async def test_roles_are_a_list_or_words(
    hmac: Server, http: aiohttp.ClientSession, roles: Any, expected: list[str]
) -> None:
    assert (await bearer(http, hmac.url, signed(claims(roles=roles))))[1]["roles"] == expected


async def test_within_the_leeway_a_token_is_good(hmac: Server, http: aiohttp.ClientSession) -> None:
    now = int(time.time())
    for times in ({"exp": now - 5}, {"iat": now + 5}, {"nbf": now + 5}):
        assert (await bearer(http, hmac.url, signed(claims(**times))))[0] == 200


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_a_public_key_verifies(rsa: Server, http: aiohttp.ClientSession, algorithm: str) -> None:
    assert (await bearer(http, rsa.url, signed(claims(), KEY, algorithm, kid="whatever")))[1]["subject"] == "ada"


async def test_every_kind_of_key_verifies_its_own_tokens(http: aiohttp.ClientSession) -> None:
    keys = {algorithm: new_key(algorithm) for algorithm in ("ES256", "ES384", "EdDSA")}
    each = [f'JWT({COMMON}, algorithms=["{name}"], key={public_pem(key)!r})' for name, key in keys.items()]
    with login_server(f"AnyOf({', '.join(each)})") as server:
        for algorithm, key in keys.items():
            assert (await bearer(http, server.url, signed(claims(), key, algorithm)))[1]["subject"] == "ada"
            assert (await bearer(http, server.url, signed(claims(), new_key(algorithm), algorithm)))[0] == 401


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def changed(index: int, value: Any) -> str:
    """A good token with another header, payload or signature."""
    parts = signed(claims()).split(".")
    parts[index] = part(value)
    return ".".join(parts)


NOW = int(time.time())
"""When the tests were imported, which may be many minutes before one of them runs."""
GOOD = {"alg": "HS256", "typ": "JWT"}
BAD: dict[str, tuple[Callable[[], str], str]] = {
    "expired": (lambda: signed(claims(exp=NOW - 60)), "has expired"),
    "long expired": (lambda: signed(claims(exp=0)), "has expired"),
    "not yet valid": (lambda: signed(claims(nbf=NOW + 3600)), "not valid yet"),
    "of the future": (lambda: signed(claims(iat=NOW + 3600)), "not valid yet"),
    "another audience": (lambda: signed(claims(aud="canary")), "another audience"),
    "other audiences": (lambda: signed(claims(aud=["canary", "board "])), "another audience"),
    "another issuer": (lambda: signed(claims(iss=f"{ISSUER}/canary")), "another issuer"),
    "no exp": (lambda: signed(claims(exp=None)), "needs the claims"),
    "no iat": (lambda: signed(claims(iat=None)), "needs the claims"),
    "no aud": (lambda: signed(claims(aud=None)), "needs the claims"),
    "no iss": (lambda: signed(claims(iss=None)), "needs the claims"),
    "no sub": (lambda: signed(claims(sub=None)), "needs the claims"),
    "no claims": (lambda: signed({}), "needs the claims"),
    "an empty sub": (lambda: signed(claims(sub="")), "1 to 64 characters"),
    "a long sub": (lambda: signed(claims(sub="canary" * 11)), "1 to 64 characters"),
    "a sub of two lines": (lambda: signed(claims(sub="a\nb")), "without control characters"),
    "a number as sub": (lambda: signed(claims(sub=7)), "of a wrong type"),
    "a text as exp": (lambda: signed(claims(exp=str(NOW + 36_000))), "of a wrong type"),
    "a word as exp": (lambda: signed(claims(exp="canary")), "not a well-formed"),
    "true as iat": (lambda: signed(claims(iat=True)), "of a wrong type"),
    "a list as exp": (lambda: signed(claims(exp=[NOW + 36_000])), "not a well-formed"),
    "no end": (lambda: signed(claims(exp=1e300)), "of a wrong type"),
    "infinite": (lambda: signed(claims(exp=float("inf"))), "not a well-formed"),
    "a number as aud": (lambda: signed(claims(aud=7)), "another audience"),
    "a list as iss": (lambda: changed(1, claims(iss=[ISSUER])), "signature"),
    "roles of a wrong type": (lambda: signed(claims(roles={"canary": 1})), "roles of the token"),
    "numbers as roles": (lambda: signed(claims(roles=[7])), "expected the roles"),
    "a huge number": (lambda: signed(claims(uid=1 << 60)), "cannot be used"),
    "half a character": (lambda: signed(claims(name="\ud800")), "cannot be used"),
    "another secret": (lambda: signed(claims(), "b" + SECRET[1:]), "signature"),
    "another algorithm": (lambda: signed(claims(), SECRET * 2, "HS512"), "algorithm"),
    "none": (lambda: signed(claims(), None, "none"), "algorithm"),
    "None": (lambda: f"{part({'alg': 'None'})}.{part(claims())}.", "algorithm"),
    "none, signed": (lambda: changed(0, {"alg": "none"}), "algorithm"),
    "no algorithm": (lambda: changed(0, {"typ": "JWT"}), "algorithm"),
    "a list as algorithm": (lambda: changed(0, {"alg": ["HS256"]}), "algorithm"),
    "an object as algorithm": (lambda: changed(0, {"alg": {"HS256": 1}}), "algorithm"),
    "a number as kid": (lambda: signed(claims()) and changed(0, GOOD | {"kid": 7}), "not a well-formed"),
    "an extension": (lambda: changed(0, GOOD | {"crit": ["canary"], "canary": 1}), "not a well-formed"),
    "a detached payload": (lambda: changed(0, GOOD | {"b64": False, "crit": ["b64"]}), "not a well-formed"),
    "a changed payload": (lambda: changed(1, claims(sub="root")), "signature"),
    "no signature": (lambda: signed(claims()).rpartition(".")[0] + ".", "signature"),
    "a cut signature": (lambda: changed(2, b"x" * 31), "signature"),
    "two parts": (lambda: signed(claims()).rpartition(".")[0], "not a well-formed"),
    "four parts": (lambda: signed(claims()) + ".canary", "not a well-formed"),
    "one part": (lambda: "canary", "not a well-formed"),
    "dots": (lambda: "..", "not a well-formed"),
    "not base64": (lambda: "a.b.c", "not a well-formed"),
    "a header that is no object": (lambda: changed(0, []), "not a well-formed"),
    "a header that is no JSON": (lambda: changed(0, b"\xff\xfe"), "not a well-formed"),
    "a deep header": (lambda: changed(0, b"[" * 3000), "not a well-formed"),
    "encrypted": (lambda: f"{part({'alg': 'dir', 'enc': 'A128GCM'})}.." + "a.a.a", "not a well-formed|algorithm"),
    "larger than the limit": (lambda: signed(claims(more="x" * 5000)), "at most 6,144 characters"),
    "other characters": (lambda: "{canary}", "characters that no token has"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_wrong_token_is_refused_with_the_reason(hmac: Server, http: aiohttp.ClientSession, name: str) -> None:
    make, words = BAD[name]
    assert re.search(words, await refused(http, hmac, make()))


async def test_a_token_that_no_server_would_read_is_refused(hmac: Server, http: aiohttp.ClientSession) -> None:
    status, problem = await bearer(http, hmac.url, signed(claims(more="canary" * 2000)))
    assert (status, problem["code"]) == (400, "malformed")
    assert (await bearer(http, hmac.url, signed(claims())))[0] == 200


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", [PEM, PEM.strip(), PEM.replace("\n", "\r\n")])
async def test_the_public_key_is_no_secret(rsa: Server, http: aiohttp.ClientSession, algorithm: str, form: str) -> None:
    """Everybody knows it. A server that let tokens choose the algorithm would accept it as the key of an HMAC."""
    header, payload = part({"alg": algorithm, "typ": "JWT"}), part(claims(sub="root"))
    signing = f"{header}.{payload}".encode()
    signature = part(hmac_digest(form.encode(), signing, f"sha{algorithm[2:]}"))
    assert "algorithm" in await refused(http, rsa, f"{header}.{payload}.{signature}")


async def test_another_private_key_makes_no_token(rsa: Server, http: aiohttp.ClientSession) -> None:
    assert "signature" in await refused(http, rsa, signed(claims(), OTHER, "RS256"))
    for more in (
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9"},
    ):
        assert "signature" in await refused(http, rsa, signed(claims(), OTHER, "RS256", **more))
    assert "algorithm" in await refused(http, rsa, signed(claims(), KEY, "RS512"))


async def test_the_log_has_the_kind_and_no_more(http: aiohttp.ClientSession) -> None:
    with login_server(f'JWT({COMMON}, algorithms=["HS256"], key="{SECRET}")') as server:
        for make, _ in BAD.values():
            await bearer(http, server.url, make())
        lines = server.stop().splitlines()
        assert len(lines) == len(BAD)
        kinds = {FAILED.fullmatch(line)[1] for line in lines}  # type: ignore[index]
        assert kinds == {
            "expired",
            "early",
            "audience",
            "issuer",
            "claims",
            "signature",
            "algorithm",
            "malformed",
            "size",
        }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"algorithms": "HS256", "key": SECRET}, 'a list such as ["RS256"]'),
        ({"algorithms": [], "key": SECRET}, 'a list such as ["RS256"]'),
        ({"algorithms": ["none"], "key": SECRET}, "got none"),
        ({"algorithms": ["HS256", "RS256"], "key": SECRET}, "a public key is no secret"),
        ({"algorithms": ["HS256"]}, "`key` or `jwks`, one of them"),
        ({"algorithms": ["RS256"], "key": PEM, "jwks": "keys.json"}, "`key` or `jwks`, one of them"),
        ({"algorithms": ["HS256"], "key": "canary" * 5}, "too short for HS256: expected at least 32 bytes"),
        ({"algorithms": ["HS256"], "key": ""}, "cannot be used with HS256"),
        ({"algorithms": ["HS256", "HS512"], "key": SECRET}, "too short for HS512: expected at least 64 bytes"),
        ({"algorithms": ["HS256"], "key": PEM}, "expected a secret that is not a public key"),
        ({"algorithms": ["HS256"], "key": 7}, "text or bytes, got int"),
        ({"algorithms": ["RS256"], "key": SECRET}, "a public key of this kind as PEM"),
        ({"algorithms": ["ES256"], "key": PEM}, "a public key of this kind as PEM"),
        ({"algorithms": ["HS256"], "jwks": "keys.json"}, "HMAC needs its secret as `key`"),
        ({"algorithms": ["RS256"], "jwks": "canary.json"}, "cannot be read: No such file"),
        ({"algorithms": ["RS256"], "jwks": "http://login.example/canary"}, "begin with https://"),
        ({"algorithms": ["RS256"], "jwks": "https://"}, "expected the URL"),
        ({"algorithms": ["HS256"], "key": SECRET, "leeway": 3600}, "0 to 60 seconds"),
        ({"algorithms": ["HS256"], "key": SECRET, "issuer": ""}, "`issuer`"),
        ({"algorithms": ["HS256"], "key": SECRET, "audience": None}, "`audience`"),
    ],
)
def test_settings_that_would_not_protect_are_explained(more: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        JWT(**{"issuer": ISSUER, "audience": AUDIENCE} | more)
    assert words in str(error.value)
    assert SECRET not in str(error.value)


def test_the_extra_is_asked_for_when_it_is_needed() -> None:
    program = (
        "import sys; sys.modules['jwt'] = None; import statestream.auth as auth; print(auth.JWT.__name__)\n"
        "auth.JWT(issuer='i', audience='a', algorithms=['HS256'], key='k' * 32)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stdout == "JWT\n"
    assert ran.stderr.endswith(
        "ImportError: PyJWT is not installed; it comes with the extra jwt: pip install '.[jwt]' in the checkout\n"
    )


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from([NOW, NOW + 600, ISSUER, AUDIENCE, "HS256", "none"]),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=4), value, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["iss", "aud", "sub", "iat", "exp", "nbf", "jti", "roles", "kid", "alg", "crit", "b64", "typ"])
MEMBERS = st.dictionaries(NAMES | st.text(max_size=4), JSON, max_size=4)
PARTS = st.text("aAeyJ0_-=.", max_size=40) | MEMBERS.map(part)
READER = JWT(issuer=ISSUER, audience=AUDIENCE, algorithms=["HS256"], key=SECRET)


@given(st.lists(PARTS, min_size=1, max_size=5).map(".".join), st.dictionaries(NAMES, JSON), MEMBERS)
@settings(max_examples=often(40))
def test_whatever_a_token_is_made_of_it_is_an_identity_or_refused(
    text: str, replaced: dict[str, Any], header: dict[str, Any]
) -> None:
    """Also if its issuer has signed it."""
    signed_header, payload = part(GOOD | header), part(claims() | replaced)
    signature = part(hmac_digest(SECRET.encode(), f"{signed_header}.{payload}".encode(), "sha256"))
    for token in (text, f"{signed_header}.{payload}.{signature}"):
        with contextlib.suppress(Unauthenticated):
            READER._named_key(token)
            assert READER._identity(READER._verified(token, OneKey(SECRET, ["HS256"])._key)).rights()
