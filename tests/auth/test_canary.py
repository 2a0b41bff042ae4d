"""What clients send to authenticate is written nowhere, whatever they send and wherever they send it."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server
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


APP = f"{ROOT / 'tests/apps/besieged.py'}:app"
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Canaries(dict[str, str]):
    """A text for each place, by the name of the place; made when it is first asked for."""

    def __missing__(self, place: str) -> str:
        made = self[place] = f"canary-{len(self)}-{place.replace(' ', '-')}-7f3a91c2e5d8b604"
        return made


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_log_has_a_canary_from_any_place(form: str, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    """At every level, also of the libraries, with a line for each request. A place is named if its canary is found."""
    canaries = Canaries()
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [jwk(KEY, "RS256", kid="1")]}))
    tokens = {canaries["static token"]: {"subject": "ada", "roles": ["editor"]}}
    jwt = f"JWT(issuer={ISSUER!r}, audience={AUDIENCE!r}, algorithms=['RS256'], jwks={str(keys)!r})"
    env = {"AUTH": f"AnyOf(Tokens({tokens}), {jwt})", "CHATTY_UPSTREAM": "http://127.0.0.1:9/v1"}
    env |= {"OPENAI_API_KEY": canaries["key of a provider"]}
    with Server("serve", APP, "--access-log", "--log-format", form, env=env) as server:
        bearer = {"Authorization": f"Bearer {canaries['static token']}"}
        await everything_that_carries(http, server.url, bearer, canaries)
        secrets = await tickets(http, server.url, bearer)
        await told_to_a_chat(http, server.url, bearer, canaries)
        log = server.stop()
    assert log.count("route=/state" if form == "text" else '"route":"/state"') > 3
    assert len(canaries) >= 24
    assert [place for place, canary in canaries.items() if canary in log] == []
    assert [kind for kind, secret in secrets.items() if secret in log] == []


async def everything_that_carries(
    http: aiohttp.ClientSession, url: str, bearer: dict[str, str], canaries: Canaries
) -> None:
    """A request for each place in which a client can put text, whether or not it is accepted."""
    good = signed(claims(name=canaries["claim"], **{canaries["name of a claim"]: 1}), KEY, "RS256", kid="1")
    bad = signed(claims(aud=canaries["audience"], email=canaries["refused claim"]), KEY, "RS256", kid="1")
    named = {name: canaries[f"header {name}"] for name in ("User-Agent", "Referer", "X-Anything", "Last-Event-ID")}
    headers: list[dict[str, str]] = [
        {"Authorization": f"Bearer {canaries['wrong token']}"},
        {"X-API-Key": canaries["API key"]},
        {"Cookie": f"session={canaries['cookie']}; statestream_ticket={canaries['cookie of a ticket']}"},
        {"Authorization": f"Bearer {good}"},
        {"Authorization": f"Bearer {bad}"},
        bearer | named,
        bearer | {"Origin": f"https://{canaries['origin']}.example"},
        bearer | {"Host": f"{canaries['host']}.example"},
        bearer | {"If-None-Match": f'"{canaries["tag"]}"'},
    ]
    for each in headers:
        for path in ("state?slices=board", "stream/state?slices=board"):
            async with http.get(f"{url}/{path}", headers=each) as response:
                assert response.status < 500
    paths = [f"state?slices=note/{canaries['key of a query']}", f"state?at={canaries['position']}"]
    paths += [f"state?{canaries['parameter']}=1", f"history?token={canaries['token of a query']}", canaries["path"]]
    for path in paths:
        async with http.get(f"{url}/{path}", headers=bearer) as response:
            assert response.status < 500
    bodies: list[Any] = [
        {"type": "board/told", "payload": {"text": canaries["payload"]}},
        {"type": "note/written", "key": canaries["key of an action"], "payload": {"text": "x"}},
        {"type": "board/counted", "payload": {"by": canaries["refused payload"]}},
        {"type": f"board/{canaries['action']}", "payload": {}},
        {"type": "board/counted", "payload": {}, canaries["member"]: 1},
        {"type": "board/counted", "payload": {}, "expect": {canaries["expected slice"]: 1}},
        canaries["body"],
    ]
    for body in bodies:
        async with http.post(f"{url}/dispatch", json=body, headers=bearer) as response:
            assert response.status < 500


async def tickets(http: aiohttp.ClientSession, url: str, bearer: dict[str, str]) -> dict[str, str]:
    """The secrets of a ticket and of a pass, both of which were used."""
    async with http.post(f"{url}/tickets", headers=bearer) as response:
        ticket = response.headers["Set-Cookie"].partition(";")[0]
    found = {"ticket": ticket.partition(".")[2]}
    for cookie in (ticket, ticket):  # it is accepted once
        async with http.get(f"{url}/stream/state?slices=board", headers={"Cookie": cookie}) as response:
            if response.status == 200:
                kept = response.headers["Set-Cookie"].partition(";")[0]
    found["pass"] = kept.partition(".")[2]
    async with http.get(f"{url}/stream/state?slices=board", headers={"Cookie": kept}) as response:
        assert response.status == 200
    return found


async def told_to_a_chat(http: aiohttp.ClientSession, url: str, bearer: dict[str, str], canaries: Canaries) -> None:
    """A question with a file, of which the model cannot be reached, and messages on a WebSocket."""
    file = {"type": "file", "mediaType": "image/png", "url": PIXEL, "filename": f"{canaries['name of a file']}.png"}
    question = {"role": "user", "parts": [{"type": "text", "text": canaries["question"]}, file]}
    async with http.post(f"{url}/api/chat", json={"id": "c", "messages": [question]}, headers=bearer) as response:
        await response.read()
        assert response.status < 500
    async with http.ws_connect(f"{url.replace('http', 'ws')}/ws", headers=bearer) as socket:
        await socket.send_str(canaries["message"])
        await socket.send_json({"type": canaries["type of a message"], "chat": canaries["chat of a message"]})
        await socket.receive(timeout=60)


@pytest.mark.parametrize("names", [("authorization", "AUTHORIZATION"), ("x-api-key", "X-Api-Key")])
async def test_headers_are_the_same_however_they_are_spelt(names: tuple[str, str]) -> None:
    secret = "token-1234567890-1234567890-abcdefghij"
    value = secret if "key" in names[0] else f"Bearer {secret}"
    with login_server(f'Tokens({{"{secret}": {{"subject": "ada"}}}})') as server:
        lines = "".join(f"{name}: {value}\r\n" for name in names)
        answer = await raw(server.port, f"GET /me HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
    assert answer.split()[1] == b"401"
