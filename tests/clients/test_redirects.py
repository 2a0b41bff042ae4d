"""Redirects: the Python client follows them, but only as far as it is safe."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import statestream
from statestream import StreamRefused
from statestream.client import redirects
from tests.support import Server, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving() as running:
        yield running


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_stream_goes_where_it_is_sent(server: Server, status: int) -> None:
    """For each connection again, because the target of a redirect may change."""

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.method)
        return web.Response(status=status, headers={"Location": f"{server.url}{request.path_qs}"})

    seen: list[str] = []
    async with serving(elsewhere) as url, statestream.connect(url, slices=["counter"]) as stream:
        assert set(stream.state) == {"counter"}
        assert seen == ["GET"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_dispatch_stays_a_dispatch_wherever_it_is_sent(server: Server, status: int) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"{server.url}{request.path_qs}"})

    async with serving(elsewhere) as url, statestream.connect(url) as stream:
        result = await stream.dispatch("board/counted", {"by": 2}, id="once")
        assert [name for name, _ in result.changes] == ["board", "counter"]
        assert (await stream.dispatch("board/counted", {"by": 2}, id="once")).duplicate


async def test_303_asks_for_the_answer_at_another_place(server: Server) -> None:
    methods: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        methods.append(request.method)
        if request.path == "/answer":
            assert await request.read() == b""
            return web.json_response({"id": "a", "position": "later:7", "duplicate": False, "changes": []})
        if request.method == "POST":
            return web.Response(status=303, headers={"Location": "/answer"})
        return web.Response(status=307, headers={"Location": f"{server.url}{request.path_qs}"})

    async with serving(elsewhere) as url, statestream.connect(url) as stream:
        result = await stream.dispatch("board/counted", {})
        assert result.position == "later:7", "a position is opaque, whatever it looks like"
    assert methods == ["GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("location", "why"),
    [
        (None, "Location is missing or empty"),
        ("", "Location is missing or empty"),
        ("http://[", "not a URL"),
        ("ftp://127.0.0.1/stream/state", "only http and https"),
        ("javascript:alert(1)", "not a URL|only http and https"),
        ("http://me:secret@127.0.0.1:9/", "contains a login"),
        ("?again", "more than 10 redirects"),
    ],
)
async def test_what_is_not_followed_ends_the_stream_and_says_why(location: str | None, why: str) -> None:
    asked = 0

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=302, headers={} if location is None else {"Location": location})

    async with serving(elsewhere) as url:
        with pytest.raises(StreamRefused, match=why) as refused:
            await statestream.connect(url).__aenter__()
    assert refused.value.status == 302
    assert "secret" not in str(refused.value)
    assert asked == (11 if location == "?again" else 1)


async def test_headers_go_along_within_the_origin_only(server: Server) -> None:
    """Another port is another origin. Whatever a program adds to its requests may be a credential."""
    seen: list[tuple[str, str]] = []
    target = ""

    async def moved(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("X-Key", "")))
        if request.path.startswith("/new/") and not target:
            return web.Response(status=404, text="no such thing here")
        return web.Response(status=307, headers={"Location": f"{target or '/new'}{request.path}"})

    async with serving(moved) as url:
        with pytest.raises(StreamRefused, match="404: no such thing"):
            await statestream.connect(url, headers={"X-Key": "sesame"}).__aenter__()
        assert seen == [("/stream/state", "sesame"), ("/new/stream/state", "sesame")]
        async with serving(moved) as other:
            target = other
            for given in ({"headers": {"X-Key": "sesame"}}, {}):
                stream = statestream.connect(url if given else url.replace("//", "//me:secret@"), **given)
                seen.clear()
                with pytest.raises(StreamRefused, match=f"status 307: {other}/stream/state.* headers") as refused:
                    await stream.__aenter__()
                assert len(seen) == 1, "the other server was not asked"
                assert "secret" not in str(refused.value)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server shows, and what a client trusts."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "req", "-x509", *kind, "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(cert, key)
    return shown, ssl.create_default_context(cafile=str(cert))


async def test_nothing_goes_from_https_to_http(
    server: Server, certificate: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    shown, trusted = certificate

    async def down(request: web.Request) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": f"{server.url}{request.path}"})

    app = web.Application()
    app.router.add_get("/{path:.*}", down)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=shown).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}/state"
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as http:
            with pytest.raises(StreamRefused, match="from https to http"):
                async with redirects.request(http, "GET", url):
                    raise AssertionError("it was followed")
    finally:
        await runner.cleanup()


async def test_the_request_for_a_stream_asks_for_no_copy() -> None:
    headers: list[str] = []

    async def looking(request: web.Request) -> web.StreamResponse:
        headers.append(request.headers.get("Cache-Control", ""))
        return web.Response(status=404)

    async with serving(looking) as url:
        with pytest.raises(StreamRefused):
            await statestream.connect(url).__aenter__()
    assert headers == ["no-cache"]
