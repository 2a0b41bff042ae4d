"""A ticket opens one stream or WebSocket, and what it is exchanged for opens all further ones, in any process."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support import MODES, ROOT, PlainClient, Server, dispatch

APP = f"{ROOT / 'tests/apps/ticketed.py'}:app"
NAME = "statestream_ticket"
SECRET = re.compile(r"[0-9a-f]{32}\.[A-Za-z0-9_-]{43}")
Http = aiohttp.ClientSession


def ticketed(journal: Path | None = None, **env: str) -> Server:
    return Server("serve", APP, env=env | ({} if journal is None else {"JOURNAL": f"sqlite:///{journal}"}))


@pytest.fixture(scope="module", params=MODES[:2])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Tests share it, so that each has people of its own."""
    made = ticketed(tmp_path_factory.mktemp("tickets") / "board.db")
    made.mode = request.param
    with made as running:
        yield running


def bearer(token: str = "ann") -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(secret: str) -> dict[str, str]:
    return {"Cookie": f"{NAME}={secret}"}


def secret_in(response: aiohttp.ClientResponse) -> str:
    """The secret that a response sets, which must be a new one."""
    name, _, value = response.headers["Set-Cookie"].partition(";")[0].partition("=")
    assert name == NAME
    assert SECRET.fullmatch(value)
    return value


async def ticket(http: Http, url: str, token: str = "ann", **headers: str) -> str:
    async with http.post(f"{url}/tickets", headers=bearer(token) | headers) as response:
        assert response.status == 204, await response.text()
        return secret_in(response)


@asynccontextmanager
async def stream(http: Http, url: str, secret: str, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
    async with http.get(f"{url}/stream/state", headers=cookie(secret) | headers) as response:
        yield response


async def status_of(http: Http, url: str, secret: str) -> int:
    async with stream(http, url, secret) as response:
        return response.status


async def exchanged(http: Http, url: str, secret: str) -> str:
    """The pass that a stream gives for a ticket."""
    async with stream(http, url, secret) as response:
        assert response.status == 200, await response.text()
        assert (await response.content.readline()) == b"event: state.initial\n"
        return secret_in(response)


async def test_a_stream_opens_with_a_ticket_and_returns_with_a_pass(server: Server, http: Http) -> None:
    first = await ticket(http, server.url)
    second = await exchanged(http, server.url, first)
    assert second != first
    for _ in range(2):
        async with stream(http, server.url, second) as response:
            assert response.status == 200
            assert "Set-Cookie" not in response.headers
        server.kill()
        server.start()
    assert await status_of(http, server.url, first) == 401


async def test_a_ticket_is_used_once_however_many_ask(tmp_path: Path, http: Http) -> None:
    journal = tmp_path / "board.db"
    with ticketed(journal) as one, ticketed(journal) as other:
        secret = await ticket(http, one.url)
        asked = [status_of(http, each.url, secret) for each in (one, other) * 4]
        assert sorted(await asyncio.gather(*asked)) == [200, *[401] * 7]
        kept = await exchanged(http, one.url, await ticket(http, other.url))
        assert [await status_of(http, each.url, kept) for each in (other, one)] == [200, 200]


async def test_a_socket_opens_with_a_ticket_and_returns_with_a_pass(server: Server, http: Http) -> None:
    url = server.url.replace("http", "ws")
    for path in ("/ws", "/api/chat"):
        first = await ticket(http, server.url)
        async with http.ws_connect(f"{url}{path}", headers=cookie(first)) as socket:
            second = secret_in(socket._response)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await http.ws_connect(f"{url}{path}", headers=cookie(first))
        async with http.ws_connect(f"{url}{path}", headers=cookie(second)):
            pass
        assert await status_of(http, server.url, second) == 200


async def test_the_cookie_is_for_streams_and_sockets_only(server: Server, http: Http) -> None:
    first = await ticket(http, server.url)
    kept = await exchanged(http, server.url, await ticket(http, server.url))
    for secret in (first, kept):
        body = {"type": "board/noted", "payload": {"text": "forged"}}
        async with http.post(f"{server.url}/dispatch", json=body, headers=cookie(secret)) as response:
            assert response.status == 401
        for method, path in (("POST", "/tickets"), ("GET", "/state?slices=board"), ("GET", "/history?slices=board")):
            async with http.request(method, f"{server.url}{path}", headers=cookie(secret)) as response:
                assert response.status == 401, path
        foreign = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
        async with http.get(f"{server.url}/stream/state?slices=board", headers=cookie(secret) | foreign) as response:
            assert response.status == 401
    assert await status_of(http, server.url, first) == 200, "nothing of this has used it"


async def test_a_header_counts_more_than_the_cookie(server: Server, http: Http) -> None:
    secret = await ticket(http, server.url)
    async with stream(http, server.url, secret, **bearer("bob")) as response:
        assert response.status == 200
        assert "Set-Cookie" not in response.headers
    assert await status_of(http, server.url, secret) == 200


async def test_only_somebody_who_has_signed_in_gets_one(server: Server, http: Http) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}):
        async with http.post(f"{server.url}/tickets", headers=headers) as response:
            assert response.status == 401
            assert "Set-Cookie" not in response.headers
    async with http.post(f"{server.url}/tickets?token=ann", headers=bearer()) as response:
        assert response.status == 400
    foreign = {"Origin": "https://elsewhere.example"}
    async with http.post(f"{server.url}/tickets", headers=bearer() | foreign) as response:
        assert response.status == 403


async def test_a_server_without_logins_has_no_tickets(http: Http) -> None:
    with Server.serving() as open_to_all:
        async with http.post(f"{open_to_all.url}/tickets", headers=bearer()) as response:
            assert response.status == 404
        assert await status_of(http, open_to_all.url, "0" * 32 + "." + "A" * 43) == 200


@pytest.mark.parametrize("secret", ["", "x", "0" * 32 + "." + "A" * 43, "ü" * 76])
async def test_what_is_not_a_ticket_is_refused(server: Server, http: Http, secret: str) -> None:
    assert await status_of(http, server.url, secret) == 401


async def test_one_good_cookie_among_several_suffices(server: Server, http: Http) -> None:
    kept = await exchanged(http, server.url, await ticket(http, server.url))
    for others in (f"a=b; {NAME}=x; {NAME}={kept}", f"{NAME}={kept}; {NAME}=x"):
        async with http.get(f"{server.url}/stream/state", headers={"Cookie": others}) as response:
            assert response.status == 200


async def test_a_ticket_and_a_pass_lapse(http: Http) -> None:
    with ticketed(LIVES='{"TICKET_MS": 300, "PASS_MS": 1500}') as server:
        stolen, good = await ticket(http, server.url), await ticket(http, server.url)
        kept = await exchanged(http, server.url, good)
        async with stream(http, server.url, kept) as response:
            assert response.status == 200
            frames = (await response.content.read()).decode()
        assert '"reason":"expired"' in frames
        assert await status_of(http, server.url, kept) == 401
        assert await status_of(http, server.url, stolen) == 401


async def test_a_pass_lasts_no_longer_than_the_credentials(server: Server, http: Http) -> None:
    now = time.time()
    async with http.post(f"{server.url}/tickets", headers=bearer(f"ann:{now + 100}:{now}")) as response:
        assert "Max-Age=30;" in response.headers["Set-Cookie"] or "Max-Age=29;" in response.headers["Set-Cookie"]
        secret = secret_in(response)
    async with stream(http, server.url, secret) as response:
        [age] = re.findall(r"Max-Age=(\d+);", response.headers["Set-Cookie"])
        assert 60 < int(age) <= 100


async def revoke(http: Http, server: Server, subject: str) -> None:
    async with http.post(f"{server.url}/revoke/{subject}", headers=bearer("boss")) as response:
        assert response.status == 200


async def test_a_revocation_reaches_tickets_and_passes(server: Server, http: Http) -> None:
    now = time.time()
    old, new = f"carl:{now + 600}:{now - 10}", f"carl:{now + 600}:{now + 60}"
    for token, after in ((old, 401), (new, 200), ("dora", 401), ("bob", 200)):
        unused, kept = await ticket(http, server.url, token), await ticket(http, server.url, token)
        kept = await exchanged(http, server.url, kept)
        if after == 401:
            await revoke(http, server, token.partition(":")[0])
        assert [await status_of(http, server.url, each) for each in (unused, kept)] == [after, after]


async def test_a_revocation_ends_a_stream_that_a_pass_has_opened(server: Server, http: Http) -> None:
    kept = await exchanged(http, server.url, await ticket(http, server.url, "emma"))
    async with stream(http, server.url, kept) as response:
        await response.content.readline()
        await revoke(http, server, "emma")
        assert '"reason":"revoked"' in (await response.content.read()).decode()


ORIGIN = "https://app.example.com"


PAGES: list[tuple[dict[str, str], set[str]]] = [
    ({}, {"SameSite=Strict"}),
    ({"X-Forwarded-Proto": "https"}, {"SameSite=Strict", "Secure"}),
    ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, {"SameSite=Strict", "Secure"}),
    ({"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, {"SameSite=None", "Secure", "Partitioned"}),
]


@pytest.mark.parametrize("mount", ["", "/a/b"])
async def test_the_cookie_fits_the_page(http: Http, mount: str) -> None:
    with ticketed(ORIGINS=ORIGIN, **({"MOUNT": mount} if mount else {})) as server:
        url = f"{server.url}{mount}"
        for headers, attributes in PAGES:
            async with http.post(f"{url}/tickets", headers=bearer() | headers) as response:
                first, secret = response.headers["Set-Cookie"], secret_in(response)
            async with stream(http, url, secret) as response:
                second = response.headers["Set-Cookie"]
            for text in (first, second):
                _, _, *found = text.split("; ")
                assert set(found) == {"HttpOnly", f"Path={mount or '/'}", *attributes}


async def test_a_ticket_that_an_error_has_cost_is_replaced(server: Server, http: Http) -> None:
    headers = cookie(await ticket(http, server.url))
    async with http.get(f"{server.url}/stream/state?slices=nothing", headers=headers) as response:
        assert response.status == 404
        kept = secret_in(response)
    assert await status_of(http, server.url, kept) == 200


async def test_no_secret_is_written_down(tmp_path: Path, http: Http) -> None:
    with ticketed(tmp_path / "board.db", LOG="DEBUG") as server:
        first = await ticket(http, server.url)
        second = await exchanged(http, server.url, first)
        assert [await status_of(http, server.url, each) for each in (first, second)] == [401, 200]
        async with http.get(f"{server.url}/history?slices=*&cause=full", headers=bearer()) as response:
            text = await response.text()
        async with http.get(f"{server.url}/state?slices=*", headers=bearer()) as response:
            text += await response.text()
        status, _ = await dispatch(http, server.url, "stream_ticket/lapsed", {}, key="x")
        assert status == 401
        written = b"".join(each.read_bytes() for each in tmp_path.iterdir())
        log = server.stop()
    assert "login_failed reason=ticket" in log
    assert b"stream_ticket" in written
    assert "stream_ticket" not in text
    for secret in (first, second):
        hidden = secret.partition(".")[2]
        assert hidden not in log
        assert hidden not in text
        assert hidden.encode() not in written


async def test_a_stream_of_a_plain_client_returns_with_its_pass(server: Server, http: Http) -> None:
    """A cut stream resumes at its cursor, with the cookie alone."""
    kept = await exchanged(http, server.url, await ticket(http, server.url))
    with PlainClient(server.port, "slices=board", cookie=f"{NAME}={kept}") as ann:
        ann.read_until(lambda frame: frame.event == "state.initial")
        ann.cut()
        body = {"type": "board/noted", "payload": {"text": "meanwhile"}}
        async with http.post(f"{server.url}/dispatch", json=body, headers=bearer("bob")) as response:
            assert response.status == 200
        ann.connect()
        frames = ann.read_until(lambda _: ann.state["board"] == {"text": "meanwhile"})
        assert frames[0].event == "state.resumed"
