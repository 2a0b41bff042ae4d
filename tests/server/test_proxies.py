"""Streams through the proxies of docs/howto/proxies.md: Debian's nginx and Caddy, with the page's own files.

A proxy runs as a process of the test's, with a folder and a port of its own; the system's service is not touched.
With TLS they speak HTTP/2, to curl and to Chromium.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest

import statestream
from statestream import StreamRefused
from tests.support import BOARD, ROOT, PlainClient, Server, dispatch, eventually
from tests.support.browser import Tab
from tests.support.chats import chatty
from tests.support.exchange import JSON, exchange
from tests.support.logins import login_server, who
from tests.support.node import Node
from tests.support.pages import files_of
from tests.support.provider import open_gate, script, started

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PROXIES = ("nginx", "nginx, HTTP/1.0", "nginx, nothing said", "nginx, TLS", "caddy", "caddy, TLS")
QUIET = f"{ROOT / 'tests/apps/quick.py'}:app"
SITE, UPSTREAM = "live.example.org", "statestream"
HEARTBEAT = 0.2
READ_TIMEOUT = 1
PAGES_TIMEOUT = 60
"""The page's own, for what may be silent: a chat keeps its stream alive every 15 s, and a model takes its time."""
NGINX = """
{user} daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off; gzip on; gzip_http_version 1.0; gzip_proxied any; gzip_types application/json text/plain;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    {site}
}}
"""


class Reader(PlainClient):
    """Offers compression, as every browser does."""

    def ask(self, cursor: str = "", header: str = "Last-Event-ID") -> None:
        assert self.socket
        lines = [f"GET {self.target} HTTP/1.0", "Host: localhost", "Accept-Encoding: gzip, deflate"]
        lines += [f"{header}: {cursor}"] if cursor else []
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())


class SecureReader(Reader):
    """curl, over TLS and HTTP/2; what it prints comes through a socket, as from a server."""

    def __init__(self, port: int, query: str, authority: Path) -> None:
        super().__init__(port, query)
        self.authority = authority
        self.process: subprocess.Popen[bytes] | None = None

    def dial(self, timeout: float = 20.0) -> None:
        self.close()
        self.socket, self.end = socket.socketpair()
        self.socket.settimeout(timeout)

    def ask(self, cursor: str = "", header: str = "Last-Event-ID") -> None:
        command = ["curl", "-q", "--silent", "--show-error", "--no-buffer", "--include", "--http2", "--noproxy", "*"]
        command += ["--cacert", str(self.authority), "--header", "Accept-Encoding: gzip, deflate"]
        command += ["--header", f"{header}: {cursor}"] if cursor else []
        self.process = subprocess.Popen([*command, f"https://localhost:{self.port}{self.target}"], stdout=self.end)
        self.end.close()

    def answered(self) -> PlainClient:
        super().answered()
        assert self.head.startswith("HTTP/2 "), self.head
        return self

    def cut(self) -> None:
        self.close()

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        super().close()


class Proxy:
    """How a proxy is reached."""

    def __init__(self, kind: str, folder: Path, port: int) -> None:
        self.port = port
        self.tls = kind.endswith("TLS")
        name = "caddy/pki/authorities/local/root.crt" if kind.startswith("caddy") else "site.crt"
        self.authority = folder / name
        self.url = f"https://localhost:{port}" if self.tls else f"http://127.0.0.1:{port}"

    async def listens(self) -> None:
        """With TLS only once a handshake succeeds: Caddy takes connections before it has made its certificate."""

        async def there() -> bool:
            try:
                trusted = ssl.create_default_context(cafile=self.authority) if self.tls else None
                name = "localhost" if self.tls else None
                _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trusted, server_hostname=name)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(there)

    def reader(self, query: str) -> Reader:
        return SecureReader(self.port, query, self.authority) if self.tls else Reader(self.port, query)

    def session(self) -> aiohttp.ClientSession:
        trusted = ssl.create_default_context(cafile=self.authority) if self.tls else True
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))


def make_certificate(folder: Path) -> None:
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "site.key"), "-out", str(folder / "site.crt")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
    subprocess.run(["openssl", "req", "-x509", *kind, *name, *files], check=True, capture_output=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        return int(unused.getsockname()[1])


def nginx_site(kind: str, folder: Path, port: int, upstream: int, patience: int) -> str:
    """The page's file with other ports and patience; as `kind` says also with the page's advice left out."""
    site = files_of("howto/proxies.md")["statestream.conf"]
    for given, wanted in [("127.0.0.1:8000", f"127.0.0.1:{upstream}"), ("listen 8080", f"listen 127.0.0.1:{port}")]:
        assert site.count(given) == 1
        site = site.replace(given, wanted)
    if kind == "nginx, TLS":
        make_certificate(folder)
        secure = f"ssl http2; ssl_certificate {folder}/site.crt; ssl_certificate_key {folder}/site.key;"
        site = site.replace(f"listen 127.0.0.1:{port};", f"listen 127.0.0.1:{port} {secure}")
    if kind in ("nginx, login", "nginx, identity"):
        (folder / "users").write_text("ana:{PLAIN}sesame\n")
        [_, _, lines] = re.findall(r"```nginx.*?\n(.*?)```", (ROOT / "docs/howto/proxies.md").read_text(), re.DOTALL)
        assert lines.startswith("auth_basic ")
        lines = lines.replace("/etc/nginx/statestream.users", f"{folder}/users")
        site = site.replace("    location / {", f"{lines}\n    location / {{")
    if kind == "nginx, identity":
        [lines] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/howto/authenticate.md").read_text(), re.DOTALL)
        beside = "        proxy_set_header Host $http_host;\n"
        assert beside in site
        site = site.replace(beside, beside + lines)
    if kind == "nginx, HTTP/1.0":
        site = site.replace("proxy_http_version 1.1", "proxy_http_version 1.0")
    if kind == "nginx, nothing said":
        site = re.sub(r"^ +proxy_(http_version|set_header|read_timeout).*\n", "", site, flags=re.MULTILINE)
        return site.replace("location / {", f"location / {{ proxy_read_timeout {patience}s;")
    assert f"proxy_read_timeout {PAGES_TIMEOUT}s" in site
    return site.replace(f"proxy_read_timeout {PAGES_TIMEOUT}s", f"proxy_read_timeout {patience}s")


def command(kind: str, folder: Path, port: int, upstream: int, patience: int) -> list[str]:
    program = shutil.which(kind.split(",")[0], path=PATH)
    if program is None:
        pytest.skip(f"{kind} is not installed: .ci/setup test does that")
    if kind.startswith("caddy"):
        text = files_of("howto/proxies.md")["Caddyfile"]
        assert ":8080 {" in text
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
        site, https = f":{port} {{\n\tbind 127.0.0.1", "off"
        if kind == "caddy, TLS":
            site, https = f"localhost{site}\n\ttls internal", "disable_redirects"  # they would take port 80
        text = text.replace(":8080 {", site)
        (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https {https}\n\tskip_install_trust\n}}\n{text}")
        return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    user = "user root root;" if os.getuid() == 0 else ""  # who may read the test's folder
    (folder / "nginx.conf").write_text(
        NGINX.format(user=user, folder=folder, site=nginx_site(kind, folder, port, upstream, patience))
    )
    return [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


@contextmanager
def proxy(kind: str, folder: Path, upstream: int, patience: int = READ_TIMEOUT) -> Iterator[Proxy]:
    """A proxy before `upstream`, with so many seconds of patience for a silent one if it is nginx."""
    port = free_port()
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    errors = folder / "output.log"
    with errors.open("w") as output:
        process = subprocess.Popen(
            command(kind, folder, port, upstream, patience), env=os.environ | home, stdout=output, stderr=output
        )
    try:
        yield Proxy(kind, folder, port)
    finally:
        alive = process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        said = "".join(log.read_text() for log in (folder / "error.log", errors) if log.exists())
        assert alive, f"the proxy ended by itself: {said}"
        assert "[emerg]" not in said, said


@pytest.fixture
def server() -> Iterator[Server]:
    """The board application for a site behind a proxy; without the page's `Host`, nginx passes on the second name."""
    names = ("--allowed-host", SITE, "--allowed-host", UPSTREAM)
    with Server("serve", BOARD, *names) as running:
        yield running


@pytest.fixture(params=PROXIES)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_a_stream_passes_at_once_and_is_resumed(kind: str, tmp_path: Path, server: Server) -> None:
    with proxy(kind, tmp_path, server.port) as before, ExitStack() as stack:
        await before.listens()
        async with before.session() as http:
            client = before.reader("slices=*")
            stack.callback(client.close)
            await asyncio.to_thread(client.connect)
            assert client.status == 200
            assert "text/event-stream" in client.head
            assert "content-encoding" not in client.head.lower()
            await asyncio.to_thread(client.read_until, lambda frame: frame.event == "state.initial")
            for number in range(3):  # one by one: an update that waits for the next one to push it would never come
                status, answer = await dispatch(
                    http, before.url, "board/task_added", {"id": str(number), "title": "Ship it"}
                )
                assert status == 200
                await asyncio.to_thread(client.read_to, answer["position"])
            assert len(client.state["board"]["tasks"]) == 3
            client.cut()
            _, missed = await dispatch(http, before.url, "board/counted")
            await asyncio.to_thread(client.connect)
            await asyncio.to_thread(client.read_to, missed["position"])
            assert client.state["board"]["count"] == 1
            assert client.reasons == ["start"], "the cursor was not passed on"


def chat_streams(url: str, question: str) -> dict[str, tuple[str, dict[str, object]]]:
    """What a front end of each protocol posts."""
    message = {"id": "q1", "role": "user", "content": question, "parts": [{"type": "text", "text": question}]}
    return {
        "ui": (f"{url}/api/chat", {"id": "ui", "messages": [message]}),
        "text": (f"{url}/api/chats/ui/stream", {"messages": [message]}),
        "ag-ui": (f"{url}/ag-ui", {"threadId": "ui", "runId": "r", "messages": [message]}),
    }


@pytest.mark.parametrize("kind", ["nginx", "nginx, TLS", "caddy", "caddy, TLS"])
async def test_a_chat_passes_at_once_in_every_protocol(kind: str, tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """A reply that waits is read up to there; it is long enough for a proxy that compresses."""
    with ExitStack() as stack:
        upstream = stack.enter_context(contextmanager(started)(sys.executable, "-m", "tests.support.upstream"))
        server = stack.enter_context(chatty(upstream))
        before = stack.enter_context(proxy(kind, tmp_path, server.port, PAGES_TIMEOUT))
        await before.listens()
        question = await script(
            http,
            upstream,
            "Through?",
            {"say": "so " * 500 + "far"},
            {"wait": "through"},
            {"say": "!"},
            {"finish": "stop"},
        )
        async with AsyncExitStack() as answers:
            session = await answers.enter_async_context(before.session())
            for url, body in chat_streams(before.url, question).values():  # the first asks, the others join
                answer = await answers.enter_async_context(session.post(url, json=body))
                data = b""
                while b"far" not in data:
                    piece = await asyncio.wait_for(answer.content.readany(), 10)
                    assert piece, (url, answer.status, data)
                    data += piece
            following = session.ws_connect(f"{before.url}/ws?session_id=ui", origin=before.url)
            socket = await answers.enter_async_context(following)
            while not (frame := await socket.receive_json(timeout=60)).get("stream_chunk"):
                pass
            assert frame["chunk"].endswith("far")
            await open_gate(http, upstream, "through")
            while not (frame := await socket.receive_json(timeout=60)).get("stream_end"):
                pass


@pytest.mark.parametrize("kind", ["nginx", "nginx, nothing said", "caddy"])
async def test_the_site_is_reached_by_its_name_only_and_its_pages_are_its_own(
    kind: str, tmp_path: Path, server: Server
) -> None:
    body = b'{"type": "board/counted", "payload": {}}'
    with proxy(kind, tmp_path, server.port) as before:
        await before.listens()

        def sent(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return exchange(before.port, "POST", "/dispatch", named | JSON, body).status

        assert sent(Host=SITE) == 200
        assert sent(Host=SITE, Origin=f"https://{SITE}", Sec_Fetch_Site="same-origin") == 200
        assert sent(Host=SITE, Origin="https://evil.example", Sec_Fetch_Site="cross-site") == 403
        assert sent(Host=SITE, Origin="https://evil.example", Forwarded="host=evil.example") == 403
        assert sent(Host=SITE, Origin="https://evil.example", X_Forwarded_Host="evil.example") == 403
        told = kind != "nginx, nothing said"
        assert sent(Host=SITE, Origin=f"https://{SITE}") == (200 if told else 403)
        assert sent(Host="evil.example") == (421 if told else 200)


async def test_nginx_keeps_the_metrics_to_the_house(
    tmp_path: Path, server: Server, http: aiohttp.ClientSession
) -> None:
    with proxy("nginx", tmp_path, server.port) as before:
        await before.listens()
        async with http.get(f"{before.url}/metrics") as answer:
            assert answer.status == 403


async def test_a_quiet_stream_outlives_the_proxys_patience_and_its_end_is_told(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with (
        Server("serve", QUIET, env={"HEARTBEAT": str(HEARTBEAT), "NAMES": UPSTREAM}) as server,
        proxy(kind, tmp_path, server.port) as before,
        ExitStack() as stack,
    ):
        await before.listens()
        client = before.reader("slices=board")
        stack.callback(client.close)
        await asyncio.to_thread(client.connect)
        beats = 0
        while beats * HEARTBEAT < 2 * READ_TIMEOUT:
            frames = await asyncio.to_thread(client.read_until, lambda frame: frame.event == "heartbeat")
            assert [frame.event for frame in frames[-1:]] == ["heartbeat"]
            beats += 1
        assert await server.metric(http, "subscribers") == 1
        client.close()

        async def nobody() -> bool:
            return await server.metric(http, "subscribers") == 0

        await eventually(nobody)


@pytest.mark.parametrize("kind", ["nginx", "nginx, HTTP/1.0", "nginx, nothing said"])
async def test_a_stream_without_heartbeats_is_cut_by_the_proxy(kind: str, tmp_path: Path, server: Server) -> None:
    """The test before this one could not fail otherwise: the proxy's patience is real."""
    with proxy(kind, tmp_path, server.port) as before, ExitStack() as stack:
        await before.listens()
        client = before.reader("slices=board")
        stack.callback(client.close)
        await asyncio.to_thread(client.connect)
        frames = await asyncio.to_thread(lambda: list(client.frames()))
        assert [frame.event for frame in frames] == ["state.initial"]


async def test_a_login_of_the_proxy_lets_in_programs_and_pages_that_know_it(
    tmp_path: Path, server: Server, browser: Node
) -> None:
    look = """new Promise((resolve) => {
        const source = new EventSource(`${location.origin}/stream/state?slices=board`);
        source.addEventListener("state.initial", () => resolve("initial"));
        source.onerror = () => resolve("error");
    })"""
    with proxy("nginx, login", tmp_path, server.port) as before:
        await before.listens()
        with pytest.raises(StreamRefused, match="401"):
            async with statestream.connect(before.url):
                raise AssertionError("it was let in")
        headers = {"Authorization": f"Basic {base64.b64encode(b'ana:sesame').decode()}"}
        async with statestream.connect(before.url, headers=headers) as stream:
            await stream.dispatch("board/counted", {"by": 3})
            await stream.wait_for(lambda state: state["board"]["count"] == 3, timeout=60)
        page = f"{before.url.replace('//', '//ana:sesame@')}/state"
        tab = await asyncio.to_thread(Tab, browser, "page", page)
        assert await asyncio.to_thread(tab.look, look) == "initial"
        await asyncio.to_thread(tab.close)


async def test_a_proxy_says_who_has_logged_in_whatever_its_clients_say(tmp_path: Path) -> None:
    """With the lines of docs/howto/authenticate.md."""
    auth = 'ProxyHeader("X-Forwarded-User", proxies=["127.0.0.1"], roles="X-Forwarded-Groups")'
    forged = [("X-Forwarded-User", "root"), ("X-Forwarded-User", "ana"), ("X-Forwarded-Groups", "admin")]
    login = ("Authorization", f"Basic {base64.b64encode(b'ana:sesame').decode()}")
    with login_server(auth) as server, proxy("nginx, identity", tmp_path, server.port) as before:
        await before.listens()
        async with before.session() as http:
            assert (await who(http, before.url, forged))[0] == 401
            status, found = await who(http, before.url, [*forged, login])
            assert (status, found["subject"], found["roles"]) == (200, "ana", [])


async def test_over_http_2_a_page_has_more_than_six_streams(tmp_path: Path, server: Server, browser: Node) -> None:
    """More than a browser opens to one host over HTTP/1.1. Each gets the state, and a change that comes afterwards."""
    script = """new Promise((resolve) => {
        const body = JSON.stringify({ type: "board/counted", payload: { by: 1 } });
        const change = { method: "POST", headers: { "Content-Type": "application/json" }, body };
        const seen = Array.from({ length: 8 }, () => []);
        for (const [number, mine] of seen.entries()) {
            const source = new EventSource(`/stream/state?slices=board&after=${number}`);
            source.addEventListener("state.initial", (event) => {
                mine.push(JSON.parse(event.data).reason);
                if (seen.every(({ length }) => length === 1)) fetch("/dispatch", change);
            });
            source.addEventListener("state.update", () => {
                mine.push("value");
                if (seen.every(({ length }) => length === 2)) resolve(seen);
            });
        }
    })"""
    with proxy("caddy, TLS", tmp_path, server.port) as before:
        await before.listens()
        ask = browser.ask
        await asyncio.to_thread(ask, "open", window="page", url=f"{before.url}/state", trusting=True)
        seen = await asyncio.to_thread(ask, "look", window="page", script=script)
        await asyncio.to_thread(ask, "close", window="page")
        assert seen == [["invalid", "value"]] * 8
