"""Pages of other origins, and names that lead to a server without being its own: what a browser sends, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from statestream import Slice, Store, create_app
from tests.support import BOARD, ROOT, Server
from tests.support.exchange import HANDSHAKE, JSON, Answer, exchange

APP = f"{ROOT / 'tests/apps/embedded.py'}:app"
FRONT, OTHER = "https://app.example.com", "capacitor://localhost"
ACTION = b'{"type": "board/counted", "payload": {}}'


@pytest.fixture(scope="module")
def embedded() -> Iterator[Server]:
    env = {"ORIGINS": f"{FRONT} {OTHER}", "NAMES": "live.example.org", "PYTHONPATH": str(ROOT)}
    with Server.serving(APP, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[Server]:
    """The board application on a loopback address, without any settings."""
    with Server.serving() as running:
        yield running


# who may write, and open a WebSocket

OWN = {"Host": "live.example.org"}
SENDERS: dict[str, tuple[dict[str, str], bool]] = {
    "a program": ({}, True),
    "the same": ({"Origin": "http://live.example.org"}, True),
    "the same, behind TLS": ({"Origin": "https://live.example.org"}, True),
    "the same, in capitals": ({"Host": "Live.Example.Org", "Origin": "http://live.example.org"}, True),
    "its port": ({"Host": "live.example.org:8000", "Origin": "http://live.example.org:8000"}, True),
    "the port that goes without saying": (
        {"Host": "live.example.org:443", "Origin": "https://live.example.org"},
        True,
    ),
    "an address": ({"Host": "[::1]:8000", "Origin": "http://[::1]:8000"}, True),
    "the same, as its browser says": ({"Origin": "http://live.example.org", "Sec-Fetch-Site": "same-origin"}, True),
    "the same, behind a proxy that tells nothing": (
        {"Host": "localhost", "Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
        True,
    ),
    "the same, without a referrer": ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
    "a person": ({"Sec-Fetch-Site": "none"}, True),
    "one that is allowed": ({"Origin": FRONT, "Sec-Fetch-Site": "cross-site"}, True),
    "one that is allowed, of the same site": ({"Origin": FRONT, "Sec-Fetch-Site": "same-site"}, True),
    "one that is allowed, of an old browser": ({"Origin": FRONT}, True),
    "an application on a telephone": ({"Origin": OTHER}, True),
    "another": ({"Origin": "http://evil.example"}, False),
    "another port": ({"Host": "live.example.org:8000", "Origin": "http://live.example.org:8001"}, False),
    "a port": ({"Origin": "http://live.example.org:8000"}, False),
    "the port of another scheme": ({"Host": "live.example.org:443", "Origin": "http://live.example.org"}, False),
    "a longer one": ({"Origin": "http://live.example.org.evil.com"}, False),
    "a shorter one": ({"Origin": "http://example.org"}, False),
    "one in front": ({"Origin": "http://live.example.org@evil.com"}, False),
    "another one below the same site": ({"Origin": "http://live.example.org", "Sec-Fetch-Site": "same-site"}, False),
    "a page over HTTP of a server with TLS": (
        {"Origin": "http://live.example.org", "Sec-Fetch-Site": "cross-site"},
        False,
    ),
    "another site, without its name": ({"Sec-Fetch-Site": "cross-site"}, False),
    "the same site, without its name": ({"Sec-Fetch-Site": "same-site"}, False),
    "a word that no browser says": ({"Sec-Fetch-Site": "trusted"}, False),
    "another, that a person opened": ({"Origin": "http://evil.example", "Sec-Fetch-Site": "none"}, False),
    "a page without one": ({"Origin": "null"}, False),
    "an empty one": ({"Origin": ""}, False),
    "a pattern": ({"Origin": "*"}, False),
    "nonsense": ({"Origin": "http://["}, False),
    "a port that is none": ({"Origin": "http://live.example.org:x"}, False),
    "a file": ({"Origin": "file://"}, False),
    "another protocol": ({"Origin": "ftp://live.example.org"}, False),
    "a WebSocket's": ({"Origin": "ws://live.example.org"}, False),
    "an extension": ({"Origin": "chrome-extension://abcdefgh"}, False),
    "a person in front": ({"Origin": "http://ana@live.example.org"}, False),
    "a path behind": ({"Origin": "http://live.example.org/"}, False),
    "no protocol": ({"Origin": "//live.example.org"}, False),
    "two in one": ({"Origin": "http://live.example.org, http://live.example.org"}, False),
    "one that is allowed, over HTTP": ({"Origin": "http://app.example.com"}, False),
    "one that is allowed, in capitals": ({"Origin": "https://App.example.com"}, False),
    "one that is allowed, with its port": ({"Origin": "https://app.example.com:443"}, False),
    "one that is allowed, with a dot": ({"Origin": "https://app.example.com."}, False),
    "one below one that is allowed": ({"Origin": "https://x.app.example.com"}, False),
    "one behind one that is allowed": ({"Origin": "https://app.example.com.evil.com"}, False),
    "one that ends like one that is allowed": ({"Origin": "https://evilapp.example.com"}, False),
}
WRITES: dict[str, tuple[str, dict[str, str], bytes, int]] = {
    "/dispatch": ("POST", JSON, ACTION, 200),
    "/api/chats": ("POST", {}, b"", 201),
    "/api/chats/c/stop": ("POST", {}, b"", 404),
    "/api/chat": ("POST", JSON, b'{"id": "c", "messages": []}', 400),
    "/ag-ui": ("POST", JSON, b"{}", 400),
    "/login": ("POST", {}, b"", 204),
    "/nowhere": ("POST", {}, b"", 404),
    "/state": ("DELETE", {}, b"", 405),
    "/ws": ("GET", HANDSHAKE, b"", 101),
    "/api/chat?": ("GET", HANDSHAKE, b"", 101),
}


@pytest.mark.parametrize("sender", SENDERS)
def test_only_pages_of_known_origins_write_and_open_websockets(embedded: Server, sender: str) -> None:
    headers, allowed = SENDERS[sender]
    for path, (method, more, body, status) in WRITES.items():
        answer = exchange(embedded.port, method, path, OWN | headers | more, body)
        if allowed:
            assert answer.status == status, (path, answer.body)
        else:
            assert (answer.status, answer.code) == (403, "forbidden_origin"), path


@pytest.mark.parametrize("twice", ["Origin", "Sec-Fetch-Site"])
def test_a_header_that_is_there_twice_is_foreign(embedded: Server, twice: str) -> None:
    value = FRONT if twice == "Origin" else "same-origin"
    for path, (method, more, body, _) in WRITES.items():
        headers = [*more.items(), (twice, value), (twice, value)]
        assert exchange(embedded.port, method, path, headers, body).code == "forbidden_origin", path


def test_a_foreign_page_changes_nothing(server: Server) -> None:
    for headers, allowed in SENDERS.values():
        if not allowed and "Host" not in headers:
            exchange(server.port, "POST", "/dispatch", headers | JSON, ACTION)
    assert json.loads(exchange(server.port, "GET", "/state?slices=counter").body)["slices"]["counter"] == 0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_that_a_form_can_send_is_refused(embedded: Server, kind: str) -> None:
    """An old browser may send a form without saying from where."""
    for path, (method, more, body, _) in WRITES.items():
        if more is JSON:
            headers = {"Content-Type": kind} if kind else {}
            assert exchange(embedded.port, method, path, headers, body).status == 415


# who may read

READS: dict[str, tuple[str, dict[str, str], bytes, int]] = {
    "/state": ("GET", {}, b"", 200),
    "/state?slices=board": ("GET", {"If-None-Match": "*"}, b"", 304),
    "/state?slices=nothing": ("GET", {}, b"", 404),
    "/state?at=x": ("GET", {}, b"", 400),
    "/history": ("GET", {}, b"", 200),
    "/metrics": ("GET", {}, b"", 200),
    "/stream/state": ("GET", {}, b"", 200),
    "/stream/state?slices=nothing": ("GET", {}, b"", 404),
    "/nowhere": ("GET", {}, b"", 404),
    "/fails": ("GET", {}, b"", 500),
    "/moved": ("GET", {}, b"", 302),
    "/cookies": ("GET", {}, b"", 200),
    "/js/statestream.js": ("GET", {}, b"", 200),
    "/dispatch": ("POST", JSON, ACTION, 200),
    "/dispatch?": ("POST", JSON, b"{", 400),
    "/dispatch?x=1": ("POST", JSON, ACTION, 400),
    "/history?": ("POST", JSON, ACTION, 405),
    "/api/chats": ("POST", {}, b"", 201),
    "/api/chats/none": ("GET", {}, b"", 404),
    "/ag-ui": ("POST", JSON, b'{"threadId": "t", "runId": "r", "messages": []}', 200),
    "/ws": ("GET", HANDSHAKE, b"", 101),
}


def shared(answer: Answer) -> dict[str, str]:
    """The headers of CORS."""
    headers = ((name.title(), value) for name, value in answer.headers.items())  # an ASGI server may send lower case
    return {name: value for name, value in headers if name.startswith("Access-Control-")}


@pytest.mark.usefixtures("each_mode")
def test_every_answer_can_be_read_by_an_allowed_origin_and_by_no_other() -> None:
    with Server.serving(APP, env={"ORIGINS": f"{FRONT} {OTHER}", "PYTHONPATH": str(ROOT)}) as server:
        for path, (method, more, body, status) in READS.items():
            for origin in (FRONT, OTHER):
                answer = exchange(server.port, method, path, more | {"Origin": origin}, body)
                headers = shared(answer)
                exposed = headers.pop("Access-Control-Expose-Headers").split(", ")
                assert {"ETag", "Retry-After", "Location", "x-vercel-ai-ui-message-stream"} <= set(exposed)
                assert (answer.status, headers) == (
                    status,
                    {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"},
                ), path
                assert answer.headers.get_all("Vary") == ["Origin"], path
            for origin in ("https://evil.example", "null", f"http://localhost:{server.port}", None):
                foreign = {} if origin is None else {"Origin": origin}
                answer = exchange(server.port, method, path, more | foreign, body)
                assert (shared(answer), answer.headers.get_all("Vary")) == ({}, ["Origin"]), (path, origin)
        log = server.stop()
    assert "LookupError: a bug" in log


def test_a_server_without_other_origins_says_nothing_of_them(server: Server) -> None:
    for path in ("/state", "/stream/state", "/nowhere"):
        answer = exchange(server.port, "GET", path, {"Origin": FRONT})
        assert (shared(answer), answer.headers["Vary"]) == ({}, None)


# preflights

ROUTES = {
    "/stream/state": "GET",
    "/dispatch": "POST",
    "/state": "GET",
    "/history": "GET",
    "/api/chats": "POST",
    "/api/chats/c": "DELETE, GET",
    "/api/chats/c/stop": "POST",
    "/api/chats/c/stream": "GET, POST",
    "/api/chat": "GET, POST",
    "/ag-ui": "POST",
    "/login": "POST",
}


@pytest.mark.parametrize("under", ["", "/live"])
def test_a_preflight_names_the_methods_and_the_headers_of_its_route(under: str) -> None:
    with Server.serving(APP, env={"ORIGINS": FRONT, "UNDER": under, "PYTHONPATH": str(ROOT)}) as server:
        for path, methods in ROUTES.items():
            for method in methods.split(", "):
                asks = {"Origin": FRONT, "Access-Control-Request-Method": method}
                answer = exchange(server.port, "OPTIONS", f"{under}{path}", asks)
                headers = shared(answer)
                takes = {name.lower() for name in headers["Access-Control-Allow-Headers"].split(", ")}
                assert {"content-type", "authorization", "last-event-id", "x-api-key", "if-none-match"} <= takes
                assert "*" not in takes
                assert (answer.status, answer.body, headers["Access-Control-Allow-Methods"]) == (204, b"", methods)
                assert headers["Access-Control-Allow-Origin"] == FRONT
                assert headers["Access-Control-Allow-Credentials"] == "true"
                assert int(headers["Access-Control-Max-Age"]) > 0


def test_a_preflight_of_another_origin_or_for_another_method_is_refused(embedded: Server) -> None:
    def asked(path: str, origin: str, method: str) -> Answer:
        return exchange(embedded.port, "OPTIONS", path, {"Origin": origin, "Access-Control-Request-Method": method})

    for path, methods in ROUTES.items():
        answer = asked(path, "https://evil.example", methods.split(", ")[0])
        assert (answer.status, answer.code, shared(answer)) == (403, "forbidden_origin", {})
        answer = asked(path, FRONT, "PATCH")
        assert (answer.status, answer.code, answer.headers["Access-Control-Allow-Methods"]) == (
            405,
            "method_not_allowed",
            None,
        )
    assert asked("/nowhere", FRONT, "GET").status == 404
    assert exchange(embedded.port, "OPTIONS", "/state").status == 405


# names

NAMES: dict[str, tuple[str, bool]] = {
    "localhost": ("localhost", True),
    "localhost, with a port": ("localhost:8000", True),
    "localhost, with a dot": ("localhost.", True),
    "localhost, in capitals": ("LocalHost", True),
    "the address": ("127.0.0.1", True),
    "the address, with a port": ("127.0.0.1:9", True),
    "another address of the machine": ("127.0.0.9:8000", True),
    "the address of IPv6": ("[::1]:8000", True),
    "a site": ("evil.example", False),
    "a site, with a port": ("evil.example:8000", False),
    "a site that begins like it": ("localhost.evil.example", False),
    "a site that ends like it": ("notlocalhost", False),
    "a site that looks like an address": ("127.0.0.1.nip.io", False),
    "another address": ("192.0.2.1", False),
    "no address": ("0.0.0.0:8000", False),
    "an address of IPv6 elsewhere": ("[2001:db8::1]:8000", False),
    "nothing": ("", False),
    "a colon": (":8000", False),
    "nonsense": ("[", False),
}


@pytest.mark.parametrize("name", NAMES)
def test_on_a_loopback_address_the_server_answers_to_its_own_names_only(local: Server, name: str) -> None:
    host, known = NAMES[name]
    for method, path, more, body in (
        ("GET", "/state", {}, b""),
        ("GET", "/stream/state", {}, b""),
        ("GET", "/nowhere", {}, b""),
        ("POST", "/dispatch", JSON, ACTION),
    ):
        answer = exchange(local.port, method, path, {"Host": host} | more, body)
        if known:
            assert answer.status in (200, 404), path
        else:
            assert (answer.status, answer.code) in {(421, "misdirected_request"), (400, "malformed")}, path
            assert not host or host.encode() not in answer.body.replace(b"localhost", b"")


def test_a_request_without_a_host_is_a_programs(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"GET /state HTTP/1.0\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.0 200"


def test_a_server_with_names_answers_to_these_and_to_its_addresses() -> None:
    with Server("serve", BOARD, "--allowed-host", "live.example.org", "--allowed-host", "two.example") as server:
        for host in ("live.example.org", "live.example.org:443", "TWO.example", "localhost", "127.0.0.1:8000"):
            assert exchange(server.port, "GET", "/state", {"Host": host}).status == 200, host
        for host in ("evil.example", "a.live.example.org", "live.example.org.evil.com", "example.org", "192.0.2.1"):
            assert exchange(server.port, "GET", "/state", {"Host": host}).code == "misdirected_request", host


def test_a_server_for_everybody_answers_to_any_name_unless_names_are_given() -> None:
    with Server("serve", BOARD, "--host", "0.0.0.0", "--insecure") as server:
        for host in ("anything.example", "0.0.0.0:8000", "192.0.2.1"):
            assert exchange(server.port, "GET", "/state", {"Host": host}).status == 200, host
    with Server("serve", BOARD, "--host", "0.0.0.0", "--insecure", "--allowed-host", "live.example.org") as server:
        assert exchange(server.port, "GET", "/state", {"Host": "live.example.org"}).status == 200
        assert exchange(server.port, "GET", "/state", {"Host": "127.0.0.1"}).status == 200  # where it arrives
        assert exchange(server.port, "GET", "/state", {"Host": "anything.example"}).code == "misdirected_request"


def test_a_part_of_another_application_answers_to_its_own_names_as_well() -> None:
    with Server.serving(APP, env={"UNDER": "/live", "PYTHONPATH": str(ROOT)}) as server:
        assert exchange(server.port, "GET", "/live/state", {"Host": "localhost:8000"}).status == 200
        for path in ("/live/state", "/live/nowhere", "/live/stream/state"):
            assert exchange(server.port, "GET", path, {"Host": "evil.example"}).code == "misdirected_request"
    with Server(
        "serve", APP, "--host", "0.0.0.0", "--insecure", env={"UNDER": "/live", "PYTHONPATH": str(ROOT)}
    ) as server:
        assert exchange(server.port, "GET", "/live/state", {"Host": "live.example.org"}).status == 200


async def test_a_runner_of_ones_own_is_judged_by_where_a_connection_arrives() -> None:
    runner = web.AppRunner(create_app(Store([Slice("board", initial={})])), handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        for host, status in (("localhost", 200), ("evil.example", 421)):
            answer = await asyncio.to_thread(exchange, port, "GET", "/state", {"Host": host})
            assert (answer.status, answer.headers["Server"]) == (status, None)
    finally:
        await runner.cleanup()


def test_the_name_that_it_listens_on_is_its_own() -> None:
    name = socket.gethostname()
    try:
        if not socket.gethostbyname(name).startswith("127."):
            pytest.skip("the machine's own name is not in its /etc/hosts, with an address of 127.0.0.0/8")
    except OSError:
        pytest.skip("the machine's own name is not in its /etc/hosts")
    with Server("serve", BOARD, "--host", name.upper()) as server:
        assert exchange(server.port, "GET", "/state", {"Host": f"{name}:8000"}).status == 200
        assert exchange(server.port, "GET", "/state", {"Host": "evil.example"}).code == "misdirected_request"


def test_a_recording_is_for_this_machine_only_as_well(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "run.jsonl"
    record = [sys.executable, "-m", "statestream", "record", server.url, "-o", str(path), "--seconds", "0.2"]
    subprocess.run(record, check=True, cwd=ROOT, capture_output=True)
    with Server("replay", str(path), "--serve") as playback:
        assert exchange(playback.port, "GET", "/stream/state", {"Host": "evil.example"}).code == "misdirected_request"
        assert exchange(playback.port, "GET", "/").status == 200


# a banner, pages, and settings that are none


@pytest.mark.parametrize("under", ["", "/live"])
def test_no_answer_names_the_software(under: str) -> None:
    with Server.serving(APP, env={"ORIGINS": FRONT, "UNDER": under, "PYTHONPATH": str(ROOT)}) as server:
        for prefix in ("", "/live"):
            for path, (method, more, body, _) in READS.items():
                for origin in (FRONT, "https://evil.example"):
                    answer = exchange(server.port, method, prefix + path, more | {"Origin": origin}, body)
                    assert (answer.headers["Server"], answer.headers["X-Powered-By"]) == (None, None), path
        for raw in (b"NONSENSE\r\n\r\n", b"GET /state HTTP/2.0\r\nHost: x\r\n\r\n", b"GET /state HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
                connection.sendall(raw)
                received = b""
                while data := connection.recv(1 << 16):
                    received += data
            assert b" 400 " in received
            assert b"\r\nServer:" not in received
        server.stop()


def test_our_pages_run_their_own_scripts_only(embedded: Server) -> None:
    page = exchange(embedded.port, "GET", "/page")
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert policy["script-src"].startswith("'self' 'sha256-")
    for path in READS:
        answer = exchange(embedded.port, READS[path][0], path, READS[path][1], READS[path][2])
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert answer.headers["Content-Security-Policy"] is None, path


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "any origin": ({"origins": ["*"]}, ValueError, "pattern"),
    "a family of origins": ({"origins": ["https://*.example.com"]}, ValueError, "pattern"),
    "one text": ({"origins": "https://app.example.com"}, TypeError, r'\["https://app.example.com"\]'),
    "no text": ({"origins": [None]}, TypeError, "NoneType"),
    "no origin": ({"origins": ["null"]}, ValueError, "as browsers send them"),
    "no scheme": ({"origins": ["app.example.com"]}, ValueError, "as browsers send them"),
    "a path": ({"origins": ["https://app.example.com/"]}, ValueError, "without a path"),
    "a port that goes without saying": ({"origins": ["https://app.example.com:443"]}, ValueError, "the port"),
    "capitals": ({"origins": ["https://App.example.com"]}, ValueError, "lower case"),
    "one name": ({"hosts": "live.example.org"}, TypeError, r'\["live.example.org"\]'),
    "no name": ({"hosts": [None]}, TypeError, "NoneType"),
    "a name with a port": ({"hosts": ["live.example.org:8000"]}, ValueError, "without a port"),
    "a URL": ({"hosts": ["https://live.example.org"]}, ValueError, "host names"),
    "any name": ({"hosts": ["*"]}, ValueError, "host names"),
}


@pytest.mark.parametrize("case", WRONG)
def test_settings_that_no_browser_could_match_are_refused(case: str) -> None:
    settings, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        create_app(Store([]), **settings)
