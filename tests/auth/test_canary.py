"""What clients send to authenticate is written nowhere, whatever they send and wherever they send it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest

from tests.support.issuer import issuer
from tests.support.logins import AUDIENCE, ISSUER, claims, jwk, login_server, new_key, signed

CANARY = "canary-7f3a91c2e5d8b604-canary-xyz"
ENCODED = base64.b64encode(CANARY.encode()).decode().rstrip("=")
BASIC = aiohttp.encode_basic_auth("canary", CANARY)
KEY = new_key("RS256")


def token(**header: Any) -> str:
    return signed(claims(name=CANARY), KEY, "RS256", **header)


REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/me", {"Authorization": f"Bearer {CANARY}"}),
    ("GET", "/me", {"Authorization": CANARY}),
    ("GET", "/me", {"Authorization": BASIC}),
    ("GET", "/me", {"X-API-Key": CANARY}),
    ("GET", "/me", {"X-Forwarded-User": CANARY}),
    ("GET", "/me", {"X-Forwarded-Groups": CANARY}),
    ("GET", "/me", {"Cookie": f"session={CANARY}"}),
    ("GET", "/me", {"Authorization": f"Bearer {token(kid=CANARY)}"}),
    ("GET", "/me", {"Authorization": f"Bearer {token(kid='1', x5u=CANARY)}"}),
    ("GET", "/me", {"Authorization": f"Bearer {signed(claims(sub=CANARY * 2), KEY, 'RS256', kid='1')}"}),
    ("GET", "/me", {"Authorization": f"Bearer {signed(claims(aud=CANARY), KEY, 'RS256', kid='1')}"}),
    ("GET", "/me", {"Authorization": f"Bearer {token(kid='1')}{CANARY}"}),
    ("GET", f"/state?token={CANARY}", {}),
    ("GET", f"/stream/state?access_token={CANARY}", {"Referer": f"https://page.example/?token={CANARY}"}),
    ("GET", f"/{CANARY}", {}),
    ("POST", "/dispatch", {"Authorization": f"Bearer {token(kid='1')}", "Content-Type": "application/json"}),
]


async def test_no_log_has_what_clients_send(http: aiohttp.ClientSession) -> None:
    """At the level at which everything is logged, also by the libraries."""
    async with issuer(jwk(KEY, "RS256", kid="1")) as source:
        parts = [
            'Tokens({"sha256:' + "0" * 64 + '": {"subject": "nobody"}})',
            f'JWT(issuer="{ISSUER}", audience="{AUDIENCE}", algorithms=["RS256"], jwks="{source.url}?key={CANARY}")',
            'ProxyHeader("X-Forwarded-User", proxies=["192.0.2.1"], roles="X-Forwarded-Groups")',
        ]
        with login_server(f"AnyOf({', '.join(parts)})", level="DEBUG", REFETCH_SECONDS=0.0) as server:
            for method, path, headers in REQUESTS:
                body = json.dumps({"type": "board/counted", "payload": {"by": CANARY}}) if method == "POST" else None
                async with http.request(method, f"{server.url}{path}", headers=headers, data=body) as response:
                    text = await response.text() if path != "/me" or response.status != 200 else ""
                    assert response.status < 500, path
                    assert CANARY not in text.replace(f"GET /{CANARY}", ""), (path, headers)
            await raw(server.port, f"GET /me HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\x01{CANARY}\r\n\r\n")
            await raw(
                server.port,
                f"GET /me HTTP/1.1\r\nHost: localhost\r\nauthorization: a\r\nAUTHORIZATION: {CANARY}\r\n\r\n",
            )
            source.answer, source.keys = None, []
            async with http.get(f"{server.url}/me", headers={"Authorization": f"Bearer {token(kid='2')}"}) as response:
                assert response.status == 503
            log = server.stop()
    assert log.count("login_failed reason=") >= 9
    assert "keys that are known stay valid" in log
    for secret in (CANARY, ENCODED, token(kid="1")[:80], BASIC.partition(" ")[2]):
        assert secret not in log


async def raw(port: int, request: str) -> bytes:
    """The answer to bytes that no library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1"))
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)
    writer.close()
    assert answer.split()[1] in (b"400", b"401"), answer
    return answer


@pytest.mark.parametrize("names", [("authorization", "AUTHORIZATION"), ("x-api-key", "X-Api-Key")])
async def test_headers_are_the_same_however_they_are_spelt(names: tuple[str, str]) -> None:
    secret = "token-1234567890-1234567890-abcdefghij"
    value = secret if "key" in names[0] else f"Bearer {secret}"
    with login_server(f'Tokens({{"{secret}": {{"subject": "ada"}}}})') as server:
        lines = "".join(f"{name}: {value}\r\n" for name in names)
        answer = await raw(server.port, f"GET /me HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
    assert answer.split()[1] == b"401"
