"""Static tokens: whom they stand for, which requests are refused, and what is written about it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from statestream.auth import Identity, Tokens
from tests.support import Server
from tests.support.logins import login_server, who

ADA, BOT = "ada-1234567890-canary-abcdefghijk", "bot-1234567890-canary-abcdefghijk"
OLD = "old-1234567890-canary-abcdefghijk"
HASH = f"sha256:{hashlib.sha256(BOT.encode()).hexdigest()}"
AUTH = f"""Tokens({{
    {ADA!r}: {{"subject": "ada", "roles": ["editor", "admin"], "claims": {{"team": 7}}}},
    {HASH!r}: Identity(subject="bot"),
    {OLD!r}: {{"subject": "old", "expires": 1_000_000_000}},
}})"""


REFUSED: list[str] = []
"""The answers to failed logins."""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = login_server(AUTH).start()
    yield server
    log = server.stop()
    lines = log.splitlines()
    assert all(
        re.fullmatch(r"login_failed reason=\w+ method=GET route=/me peer=127\.0\.0\.1", line) for line in lines
    ), log
    assert "canary" not in log
    assert len(lines) == len(REFUSED), "one line for each failed login"


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
async def test_a_token_stands_for_its_identity(running: Server, http: aiohttp.ClientSession, name: str) -> None:
    scheme = "Bearer " if name == "Authorization" else ""
    status, found = await who(http, running.url, {name: f"{scheme}{ADA}"})
    assert (status, found) == (
        200,
        {"subject": "ada", "roles": ["admin", "editor"], "claims": {"team": 7}, "expires": None},
    )
    assert (await who(http, running.url, {name: f"{scheme.lower()}{BOT}"}))[1]["subject"] == "bot"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Basic Y2FuYXJ5OmNhbmFyeQ=="}, {"Authorization": ""}, {"Cookie": f"token={ADA}"}]
)
async def test_without_a_token_nobody_asks(running: Server, http: aiohttp.ClientSession, headers: Any) -> None:
    assert await who(http, running.url, headers) == (200, None)


BAD: list[tuple[list[tuple[str, str]], str]] = [
    ([("Authorization", f"Bearer {ADA}x")], "not known"),
    ([("Authorization", f"Bearer {HASH}")], "characters that no token has"),
    ([("Authorization", f"Bearer {HASH.removeprefix('sha256:')}")], "not known"),
    ([("Authorization", f"Bearer {OLD}")], "expired"),
    ([("Authorization", "Bearer")], "empty"),
    ([("Authorization", f"Bearer {ADA} {ADA}")], "characters that no token has"),
    ([("Authorization", f"Bearer {ADA}, Bearer {BOT}")], "characters that no token has"),
    ([("Authorization", "Bearer ca\xf1ary-1234567890-canary-abcdefghijk")], "characters that no token has"),
    ([("Authorization", f"Bearer {ADA}"), ("Authorization", f"Bearer {ADA}")], "one header Authorization, got 2"),
    ([("Authorization", f"Bearer {ADA}"), ("Authorization", "Basic Y2FuYXJ5")], "one header Authorization, got 2"),
    ([("X-API-Key", ADA), ("X-API-Key", BOT)], "one header X-API-Key, got 2"),
    ([("Authorization", f"Bearer {ADA}"), ("X-API-Key", ADA)], "got both"),
    ([("X-API-Key", "")], "empty"),
    ([("X-API-Key", "canary" * 1000)], "not known"),
]


@pytest.mark.parametrize(("headers", "words"), BAD, ids=range(len(BAD)))
async def test_a_wrong_token_is_refused_and_not_ignored(
    running: Server, http: aiohttp.ClientSession, headers: list[tuple[str, str]], words: str
) -> None:
    async with http.get(f"{running.url}/me", headers=headers) as response:
        text = await response.text()
        assert response.status == 401
        REFUSED.append(text)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert words in text
    assert "canary" not in text


async def test_a_token_in_the_url_is_not_read(running: Server, http: aiohttp.ClientSession) -> None:
    for name in ("token", "access_token", "api_key", "X-API-Key"):
        async with http.get(f"{running.url}/me?{name}={ADA}") as response:
            assert await response.json() is None
        async with http.get(f"{running.url}/state?{name}={ADA}") as response:
            assert response.status == 400
            assert "canary" not in await response.text()


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ({}, "a mapping of tokens"),
        ([ADA], "a mapping of tokens"),
        ({"short-canary": {"subject": "a"}}, "token 1 to have at least 32 characters, got 12"),
        ({f"{ADA} ": {"subject": "a"}}, "token 1 to consist of ASCII"),
        ({7: {"subject": "a"}}, "token 1 to be text, got int"),
        ({"sha256:canary": {"subject": "a"}}, "token 1 as sha256: and 64"),
        ({HASH.upper().replace("SHA256", "sha256"): {"subject": "a"}}, "token 1 as sha256: and 64"),
        ({BOT: {"subject": "a"}, HASH: {"subject": "b"}}, "token 2 occurs twice"),
        ({ADA: "ada"}, "the Identity of token 1"),
        ({ADA: {"roles": []}}, "a `subject` for token 1"),
        ({ADA: {"subject": "a", "role": "canary"}}, "a `subject` for token 1, and beside it only claims, expires, rol"),
        ({ADA: {"subject": ""}}, "for token 1: expected the subject"),
        ({ADA: {"subject": "a", "roles": "canary"}}, "for token 1: expected the roles"),
    ],
)
def test_tokens_that_cannot_be_used_are_explained_without_them(tokens: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        Tokens(tokens)
    assert words in str(error.value)
    assert "canary" not in str(error.value)


def test_a_token_is_kept_as_a_hash_only() -> None:
    held = vars(Tokens({ADA: Identity(subject="ada")}))
    assert "canary" not in repr(held)
    assert hashlib.sha256(ADA.encode()).digest() not in held["_identities"], "not as the hash that others may know"
