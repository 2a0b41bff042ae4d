"""Keys that an issuer publishes: which of them count, how they change, and what happens if they cannot be had."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from statestream.auth.jwks import MAX_BYTES, KeyURL, usable_keys
from tests.support import Server, eventually
from tests.support.issuer import issuer
from tests.support.logins import AUDIENCE, ISSUER, bearer, claims, jwk, login_server, new_key, signed

ONE, TWO, OTHER_RSA, ELLIPTIC = new_key("RS256"), new_key("RS256"), new_key("RS256"), new_key("ES256")
FIRST, SECOND = jwk(ONE, "RS256", kid="1"), jwk(TWO, "RS256", kid="2")
AT_ONCE = {"REFETCH_SECONDS": 0.0}
"""Every unknown name of a key causes a fetch."""


def by_keys(source: str, **limits: float) -> Server:
    common = f'issuer="{ISSUER}", audience="{AUDIENCE}"'
    return login_server(f'JWT({common}, algorithms=["RS256"], jwks={source})', **limits)


def token(key: Any, kid: str | None, algorithm: str = "RS256", **more: Any) -> str:
    return signed(claims(**more), key, algorithm, **({} if kid is None else {"kid": kid}))


async def status(http: aiohttp.ClientSession, server: Server, of: str) -> int:
    return (await bearer(http, server.url, of))[0]


# a file


def put(path: Path, *keys: dict[str, Any]) -> None:
    """As deployments do: the file is never half written."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": keys}))
    new.replace(path)


async def test_a_file_is_read_again_when_it_changes(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    put(path, FIRST)
    with by_keys(f"Path({str(path)!r})") as server:
        assert await status(http, server, token(ONE, "1")) == 200
        assert await status(http, server, token(ONE, None)) == 200, "there is no other key"
        assert await status(http, server, token(TWO, "2")) == 401
        put(path, FIRST, SECOND)
        assert await status(http, server, token(TWO, "2")) == 200
        assert await status(http, server, token(ONE, "1")) == 200
        assert await status(http, server, token(ONE, None)) == 401, "which key is meant is not known"
        assert await status(http, server, token(ONE, "2")) == 401
        put(path, SECOND)
        assert await status(http, server, token(ONE, "1")) == 401, "a key that is withdrawn no longer counts"
        for broken in (b"{", b'{"keys":[]}', b"x" * (MAX_BYTES + 1)):
            path.write_bytes(broken)
            assert await status(http, server, token(TWO, "2")) == 200
        path.unlink()
        assert [await status(http, server, token(TWO, "2")) for _ in range(3)] == [200] * 3
        put(path, FIRST)
        assert await status(http, server, token(ONE, "1")) == 200
        complaints = [line for line in server.stop().splitlines() if not line.startswith("login_failed ")]
        assert len(complaints) == 4, "one for each state of the file"
        assert all("keys.json" in line and "stay valid" in line and str(tmp_path) not in line for line in complaints)
        assert "cannot be read: No such file" in complaints[3]


# a URL


async def test_when_the_keys_rotate_all_clients_share_one_fetch(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        with by_keys(f'"{source.url}"', **AT_ONCE) as server:
            assert await status(http, server, token(ONE, "1")) == 200
            assert len(source.asked) == 1, "once when the server starts"
            source.keys, before = [SECOND], len(source.asked)
            source.gate.clear()
            asking = [asyncio.create_task(status(http, server, token(TWO, "2", n=n))) for n in range(20)]
            await eventually(lambda: len(source.asked) > before)
            source.gate.set()
            assert set(await asyncio.gather(*asking)) == {200}
            assert len(source.asked) == before + 1
            assert await status(http, server, token(ONE, "1")) == 401, "a key that is withdrawn no longer counts"


async def test_unknown_names_of_keys_cause_no_more_fetches_than_one_in_a_while(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        with by_keys(f'"{source.url}"') as server:
            for n in range(30):
                assert await status(http, server, token(OTHER_RSA, f"{n}")) == 401
            assert await status(http, server, token(OTHER_RSA, None)) == 401
            for algorithm in ("HS256", "none"):
                forged = signed(claims(), "s" * 32 if algorithm == "HS256" else None, algorithm, kid="new")
                assert await status(http, server, forged) == 401
            assert await status(http, server, token(ONE, "1")) == 200
            assert len(source.asked) == 1


async def test_a_client_that_leaves_does_not_end_the_fetch(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        source.gate.clear()
        with by_keys(f'"{source.url}"') as server:
            leaving = asyncio.create_task(status(http, server, token(ONE, "1")))
            await eventually(lambda: source.asked)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            staying = asyncio.create_task(status(http, server, token(ONE, "1")))
            source.gate.set()
            assert await staying == 200
            assert len(source.asked) == 1


ANSWERS = {
    "an error": web.Response(status=500, text="canary"),
    "a page": web.Response(text="<html>canary</html>", content_type="text/html"),
    "no keys": web.json_response({"keys": []}),
    "keys of another kind": web.json_response({"keys": [{"kty": "oct", "k": "Y2FuYXJ5" * 8, "kid": "2"}]}),
    "a redirect": web.Response(status=302, headers={"Location": "http://169.254.169.254/canary"}),
    "too much": web.Response(body=b'{"keys":[' + b" " * MAX_BYTES + b"]}"),
    "not what it says": web.Response(body=b"canary", headers={"Content-Encoding": "gzip"}),
}


async def test_an_answer_that_cannot_be_used_changes_nothing(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        url = source.url.replace("//", "//canary:canary@") + "?key=canary"
        with by_keys(f'"{url}"', **AT_ONCE) as server:
            assert await status(http, server, token(ONE, "1")) == 200
            for answer in ANSWERS.values():
                source.answer, before = answer, len(source.asked)
                found, problem = await bearer(http, server.url, token(TWO, "2"))
                assert (found, problem["code"]) == (503, "unavailable"), "whether the key is right is not known now"
                assert await status(http, server, token(ONE, "1")) == 200
                assert len(source.asked) == before + 1
            source.answer, source.keys = None, [FIRST, SECOND]
            assert await status(http, server, token(TWO, "2")) == 200
            assert source.asked[0].headers["Authorization"].startswith("Basic "), "the login of the URL is sent"
            log = server.stop()
    assert "canary" not in log
    assert log.count("the keys that are known stay valid") == len(ANSWERS) == len(log.splitlines())
    assert "/jwks.json cannot be used: expected status 200, got 302" in log


async def test_a_fetch_has_an_end(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        source.gate.clear()
        with by_keys(f'"{source.url}"', FETCH_SECONDS=0.3) as server:
            found, problem = await bearer(http, server.url, token(ONE, "1"))
            assert (found, problem["code"]) == (503, "unavailable")
            assert "TimeoutError" in server.stop()


async def test_a_server_stops_while_it_fetches() -> None:
    async with issuer(FIRST) as source:
        source.gate.clear()
        with by_keys(f'"{source.url}"') as server:
            await eventually(lambda: source.asked)
            assert await asyncio.to_thread(server.stop) == ""


async def test_a_server_starts_before_its_issuer(http: aiohttp.ClientSession) -> None:
    async with issuer(FIRST) as source:
        source.answer = web.Response(status=502)
        with by_keys(f'"{source.url}"', **AT_ONCE) as server:
            await eventually(lambda: source.asked)
            source.answer = None
            assert await status(http, server, token(ONE, "1")) == 200


async def test_keys_are_fetched_again_after_a_while(http: aiohttp.ClientSession) -> None:
    """Requests do not wait for it. A key that the issuer has withdrawn is refused then."""
    async with issuer(FIRST) as source:
        with by_keys(f'"{source.url}"', MAX_AGE_SECONDS=0.1) as server:
            assert await status(http, server, token(ONE, "1")) == 200
            source.keys = [SECOND]

            async def withdrawn() -> bool:
                return await status(http, server, token(ONE, "1")) == 401

            await eventually(withdrawn)
            assert await status(http, server, token(TWO, "2")) == 200


# which keys count


def public(key: Any, algorithm: str, **more: Any) -> dict[str, Any]:
    return jwk(key, algorithm, kid="a", **more)


SMALL = rsa.generate_private_key(65537, 1024)
PRIVATE = {**RSAAlgorithm.to_jwk(ONE, as_dict=True), "kid": "a"}


@pytest.mark.parametrize(
    ("keys", "usable"),
    [
        ([public(ONE, "RS256")], ("RS256", "PS256")),
        ([public(ONE, "RS256", alg="PS256", use="sig")], ("PS256",)),
        ([public(ELLIPTIC, "ES256")], ("ES256",)),
        ([PRIVATE], ("RS256", "PS256")),
        ([public(ONE, "RS256", use="enc")], None),
        ([public(ONE, "RS256", alg="RSA-OAEP")], None),
        ([public(ONE, "RS256", alg="HS256")], None),
        ([public(ONE, "RS256", alg="none")], None),
        ([public(ONE, "RS256", kty="EC")], None),
        ([public(ONE, "RS256", n=7)], None),
        ([public(ONE, "RS256", n="!")], None),
        ([public(SMALL, "RS256")], None),
        ([public(new_key("ES384"), "ES384")], None),
        ([public(new_key("EdDSA"), "EdDSA")], None),
        ([{"kty": "oct", "kid": "a", "k": "A" * 64}], None),
        ([{"kty": "oct", "kid": "a", "k": "A" * 64, "alg": "RS256"}], None),
        ([{"kid": "a"}, {}, [], None, {"kty": "RSA", "kid": ["a"]}], None),
        ([public(ONE, "RS256"), public(TWO, "RS256")], None),
        ([public(ONE, "RS256")] * 101, None),
        ("canary", None),
    ],
)
def test_a_key_counts_for_what_it_is_meant_for(keys: Any, usable: tuple[str, ...] | None) -> None:
    data = orjson.dumps({"keys": keys})
    if usable is None:
        with pytest.raises(ValueError) as error:
            usable_keys(data, ("RS256", "PS256", "ES256"))
        assert "canary" not in str(error.value)
    else:
        [(kid, key)] = usable_keys(data, ("RS256", "PS256", "ES256")).items()
        assert (kid, key.algorithms) == ("a", usable)
        assert not hasattr(key.key, "private_bytes")


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("https://login.example/keys", True),
        ("http://127.0.0.1:8000/keys", True),
        ("http://127.9.9.9/keys", True),
        ("http://[::1]:8000/keys", True),
        ("http://localhost/keys", True),
        ("http://login.example/canary", False),
        ("http://localhost.login.example/canary", False),
        ("http://127.0.0.1.login.example/canary", False),
        ("http://127.0.0.1@login.example/canary", False),
        ("http://10.0.0.1/canary", False),
        ("file:///canary", False),
        ("https:///canary", False),
        ("https://[canary", False),
    ],
)
def test_keys_come_over_https_only_except_from_this_machine(url: str, right: bool) -> None:
    if right:
        KeyURL(url, ("RS256",))
        return
    with pytest.raises(ValueError, match="expected the URL of a JWK set") as error:
        KeyURL(url, ("RS256",))
    assert "canary" not in str(error.value)
