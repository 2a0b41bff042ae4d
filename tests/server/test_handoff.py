"""What a server that took its readers' sockets over must survive, from outside, on both event loops, with io_uring
and without."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from statestream import Slice, Store, create_app
from statestream.broadcast.budget import Budget
from statestream.broadcast.encoding import Encoding
from statestream.broadcast.sockets import Sockets
from statestream.server.stream import HUB
from tests.support import MODES, ROOT, PlainClient, Server, dispatch, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sockets are handed off with epoll, on Linux")

Http = aiohttp.ClientSession
STREAM = b"GET /stream/state?slices=* HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(params=[MODES[0], MODES[2]], autouse=True)
def handed_off(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "mode", request.param)


class Chunked:
    """A client of HTTP/1.1 that keeps the bytes as they came, and knows where chunks end."""

    def __init__(self, port: int, request: bytes = STREAM) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(20)
        self.socket.sendall(request)
        self.head = self._until(b"\r\n\r\n")
        self.ended = False

    _rest = b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._rest:
            self._more()
        found, self._rest = self._rest.split(mark, 1)
        return found

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(self._rest)
        self._rest += data

    def chunk(self) -> bytes:
        """The next one; empty for the last."""
        size = int(self._until(b"\r\n"), 16)
        while len(self._rest) < size + 2:
            self._more()
        data, end, self._rest = self._rest[:size], self._rest[size : size + 2], self._rest[size + 2 :]
        assert end == b"\r\n"
        return data

    def body(self) -> bytes:
        """All that is left, to the last chunk and the end of the connection."""
        found = b""
        while chunk := self.chunk():
            found += chunk
        assert self.socket.recv(1) == b""
        return found

    def close(self) -> None:
        self.socket.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def connections(server: Server) -> int:
    """Sockets that the server's process holds."""
    found = 0
    for handle in Path(f"/proc/{server.pid}/fd").iterdir():
        try:
            found += handle.readlink().name.startswith("socket:")
        except FileNotFoundError:
            continue  # closed while we looked
    return found


def cpu_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def rests(server: Server) -> None:
    """A loop that spins on a stale registration uses a whole core; one that waits, next to nothing."""
    before = cpu_seconds(server)
    await asyncio.sleep(0.5)  # what is measured is time
    assert cpu_seconds(server) - before < 0.25, "the server spins"


async def count(http: Http, server: Server, name: str = "subscribers_handed_off") -> int:
    return int(await server.metric(http, name))


# the two framings


async def test_chunks_for_the_new_and_plain_bytes_for_the_old(server: Server, http: Http) -> None:
    new, old = Chunked(server.port), PlainClient(server.port).connect()
    assert b"Transfer-Encoding: chunked" in new.head
    assert "chunked" not in old.head
    assert next(old.frames()).event == "state.initial"
    assert b"event: state.initial" in new.chunk()
    assert await count(http, server) == 2
    await dispatch(http, server.url, "board/counted")
    update = new.chunk()
    old.read_until(lambda frame: frame.data.get("slice") == "counter")
    assert update.count(b"event: state.update") == 2, "a turn's changes are one chunk"
    reading = asyncio.create_task(asyncio.to_thread(new.body))
    rest = asyncio.create_task(asyncio.to_thread(lambda: list(old.frames())))
    await asyncio.to_thread(server.stop)
    assert b'"reason":"shutdown"' in await reading
    assert [frame.event for frame in await rest] == ["stream.end"]
    new.close()


async def test_a_client_that_wants_its_connection_back_does_not_get_it(server: Server) -> None:
    client = Chunked(server.port)
    assert b"connection: close" in client.head.lower(), "the connection ends with the stream"
    client.close()


# who owns a connection


async def test_nothing_of_aiohttp_is_left_of_a_reader(server: Server, http: Http) -> None:
    before = connections(server)
    clients = [PlainClient(server.port).connect() for _ in range(50)]
    for client in clients:
        next(client.frames())
    await eventually(lambda: connections(server) == before + 50)
    await rests(server)
    for client in clients:
        client.cut()
    await eventually(lambda: connections(server) == before)
    assert await count(http, server, "subscribers") == 0
    await rests(server)


async def test_what_a_client_still_sends_is_thrown_away(server: Server, http: Http) -> None:
    client = Chunked(server.port, STREAM + STREAM)
    client.chunk()
    for _ in range(32):
        await asyncio.to_thread(client.socket.sendall, b"x" * (1 << 16))
    client.socket.sendall(STREAM)
    await dispatch(http, server.url, "board/counted")
    assert b"state.update" in client.chunk()
    await rests(server)
    reading = asyncio.create_task(asyncio.to_thread(client.body))
    await asyncio.to_thread(server.stop)
    assert b"stream.end" in await reading
    client.close()


async def test_half_a_close_is_the_end(server: Server, http: Http) -> None:
    client = Chunked(server.port)
    client.chunk()
    client.socket.shutdown(socket.SHUT_WR)
    await asyncio.to_thread(client.body)
    assert await count(http, server, "subscribers") == 0
    await rests(server)
    client.close()


async def test_a_client_that_leaves_at_once_is_forgotten(server: Server, http: Http) -> None:
    """At any point: before the head is read, with a reset, in the middle of a frame."""
    before = connections(server)
    for n in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(STREAM[: len(STREAM) if n % 4 else n % len(STREAM)])
        if n % 4 and n % 3 == 0:
            connection.recv(n + 1)
        reset(connection) if n % 2 else connection.close()
        if n % 20 == 0:
            await dispatch(http, server.url, "board/counted")
    await eventually(lambda: connections(server) == before)
    assert await count(http, server, "subscribers") == 0
    await rests(server)
    assert server.stop() == ""


async def test_the_places_of_those_who_left_are_free(tmp_path: Path, http: Http) -> None:
    env = {"MAX_READERS": "3", "PYTHONPATH": str(ROOT)}
    with Server.serving(f"{ROOT / 'tests/apps/quick.py'}:app", env=env) as server:
        for _ in range(5):
            clients = [PlainClient(server.port).connect() for _ in range(4)]
            events = [next(client.frames()).event for client in clients]
            assert events == ["state.initial"] * 3 + ["stream.end"]
            for client in clients:
                client.cut()
            await eventually(lambda: reader_count(http, server, 0))


async def reader_count(http: Http, server: Server, wanted: int) -> bool:
    return await count(http, server, "subscribers") == wanted


async def test_a_forked_child_holds_no_reader(tmp_path: Path, http: Http) -> None:
    """A child that outlives its parent's streams must not keep them open."""
    app = tmp_path / "forking.py"
    app.write_text(
        "import os, signal\n"
        "from aiohttp import web\n"
        "from tests.apps.board import store\n"
        "from statestream import create_app\n"
        "app = create_app(store)\n"
        "async def fork(request):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        signal.pause()\n"
        "        os._exit(0)\n"
        "    return web.json_response(child)\n"
        "app.router.add_post('/fork', fork)\n"
    )
    with Server.serving(f"{app}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        client = Chunked(server.port)
        client.chunk()
        async with http.post(f"{server.url}/fork") as response:
            child = await response.json()
        try:
            client.socket.shutdown(socket.SHUT_WR)
            await asyncio.to_thread(client.body)
            other = Chunked(server.port)
            assert b"state.initial" in other.chunk()
            await dispatch(http, server.url, "board/counted")
            assert b"state.update" in other.chunk()
            other.close()
        finally:
            os.kill(child, 9)
        client.close()


# where a socket is not handed off


async def test_out_of_descriptors_a_stream_stays_where_it_is(http: Http) -> None:
    with Server.serving(prefix=("sh", "-c", 'ulimit -n 40; exec "$@"', "sh")) as server:
        clients: list[PlainClient] = []
        while len(clients) < 40:
            client = PlainClient(server.port)
            try:
                client.connect(timeout=1.0)
            except TimeoutError:
                client.close()
                break  # it waits in the kernel's queue until somebody leaves
            assert next(client.frames()).event == "state.initial"
            clients.append(client)
        assert 10 < len(clients) < 40
        clients.pop(0).cut()
        clients.pop(0).cut()
        late = PlainClient(server.port).connect()
        assert next(late.frames()).event == "state.initial"
        late.cut()
        position = await eventually(lambda: counted(server))
        for client in clients:
            client.read_to(position)
            client.cut()
        await eventually(lambda: reader_count(http, server, 0))
        taken = await count(http, server, "streams_handed_off_total")
        opened = int(await server.metric(http, 'streams_began_total{opening="start"}'))
        assert taken < opened, "one of them found no descriptor for its copy"
        errors = server.stop()
        assert "no connection can be accepted ([Errno 24]" in errors
        assert "Traceback" not in errors


async def counted(server: Server) -> str | None:
    """A dispatch on a connection of its own, which the server may have no descriptor for."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
        try:
            _, body = await dispatch(http, server.url, "board/counted")
        except (TimeoutError, aiohttp.ClientError):
            return None
    return str(body["position"])


def read_until(connection: socket.socket, mark: bytes) -> int:
    """How many bytes came until the mark had come."""
    seen, end = 0, b""
    while mark not in end:
        data = connection.recv(1 << 16)
        assert data
        seen += len(data)
        end = end[-len(mark) :] + data
    return seen


async def test_a_stream_behind_an_answer_that_is_not_read_yet_stays_where_it_is(server: Server, http: Http) -> None:
    """What aiohttp still has to send comes first: such a connection cannot be taken from it."""
    await dispatch(http, server.url, "board/filled", {"size": 900_000})
    requests = b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20 + STREAM
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.settimeout(20)
    connection.sendall(requests)
    seen = await asyncio.to_thread(read_until, connection, b"event: state.initial")
    assert seen > 18_000_000, "all twenty answers came, whole, before the stream"
    reset(connection)
    await eventually(lambda: reader_count(http, server, 0))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    made = tmp_path / "both.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    files = ["-keyout", str(made), "-out", str(tmp_path / "cert.pem")]
    subprocess.run([*new, *files], check=True, capture_output=True)
    made.write_text(made.read_text() + (tmp_path / "cert.pem").read_text())
    return made


@pytest.fixture
async def runner() -> AsyncIterator[web.AppRunner]:
    counter = Slice("counter", initial=0)
    runner = web.AppRunner(create_app(Store([counter])), handler_cancellation=True)
    await runner.setup()
    yield runner
    await runner.cleanup()


async def test_with_tls_the_stream_stays_on_the_transport(certificate: Path, runner: web.AppRunner, http: Http) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    async with http.get(f"{url}/stream/state", ssl=False) as response:
        assert await response.content.readline() == b"event: state.initial\n"
        async with http.get(f"{url}/metrics", ssl=False) as figures:
            text = await figures.text()
    assert "statestream_subscribers 1.0" in text
    assert "statestream_subscribers_handed_off 0.0" in text


async def test_a_unix_socket_is_handed_off(tmp_path: Path, runner: web.AppRunner) -> None:
    path = str(tmp_path / "socket")
    await web.UnixSite(runner, path).start()
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path))
    async with session as http, http.get("http://x/stream/state") as response:
        assert await response.content.readline() == b"event: state.initial\n"
        async with http.get("http://x/metrics") as figures:
            assert "statestream_subscribers_handed_off 1.0" in await figures.text()


# inside


@pytest.fixture
def gone() -> list[Any]:
    return []


@pytest.fixture
async def sockets(gone: list[Any]) -> AsyncIterator[Sockets]:
    sockets = Sockets(lambda owner: gone.append(owner), Budget())
    sockets.open()
    yield sockets
    sockets.close()


@pytest.fixture
def pair() -> Iterator[Any]:
    """Makes connected sockets: ours, and the other side."""
    made: list[socket.socket] = []

    def make() -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair()
        made.extend(ends)
        ends[0].setblocking(False)
        return ends

    yield make
    for end in made:
        end.close()


async def transport_of(connection: socket.socket) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, connection)
    return transport


async def test_a_number_that_is_closed_and_given_out_again_in_one_batch_is_another_socket(
    sockets: Sockets, gone: list[Any], pair: Any
) -> None:
    """Two sides leave in one batch; what is told of the first closes the second and takes over a third, which gets
    the second's number: the second's event must not reach it."""
    (ours, theirs), (ours_too, theirs_too), (late, other) = pair(), pair(), pair()
    first = sockets.hand_off(await transport_of(ours), Encoding.RAW)
    second = sockets.hand_off(await transport_of(ours_too), Encoding.RAW)
    third_transport = await transport_of(late)
    await asyncio.sleep(0)
    assert first
    assert second
    first.owner, second.owner = "first", "second"  # type: ignore[assignment]
    numbers = {first._fd, second._fd}
    third: list[Any] = []

    def told(owner: Any) -> None:
        gone.append(owner)
        if not third:
            (second if owner == "first" else first).abort()
            third.append(sockets.hand_off(third_transport, Encoding.RAW))

    sockets._gone = told
    theirs.close()
    theirs_too.close()
    await eventually(lambda: bool(gone))
    await asyncio.sleep(0.05)
    assert len(gone) == 1, "the one that was closed meanwhile is not told of, nor is the new one"
    assert third[0] is not None
    assert third[0]._fd in numbers, "or the test shows nothing"
    assert third[0].write(b"hello")
    assert other.recv(100) == b"hello"


async def test_what_the_kernel_does_not_take_is_sent_first_and_whole(sockets: Sockets, pair: Any) -> None:
    ours, theirs = pair()
    sink = sockets.hand_off(await transport_of(ours), Encoding.RAW)
    assert sink
    sent = b""
    frame = b"x" * 9_999 + b"\n"
    while sink.write(frame):
        sent += frame
    sent += frame
    assert 0 < sink.waiting <= len(frame)
    last = b"the end"
    assert not sink.write(last), "it is taken, and nothing more may come"
    drained = asyncio.ensure_future(sink.drained())
    got = b""
    while len(got) < len(sent) + len(last):
        got += await asyncio.to_thread(theirs.recv, 1 << 16)
    await drained
    assert got == sent + last
    assert sink.waiting == 0
    assert sink.write(b"more")
    assert await asyncio.to_thread(theirs.recv, 100) == b"more"


async def test_the_kernel_watches_over_a_connection_of_ours(runner: web.AppRunner, http: Http) -> None:
    """A peer that is gone without a word is noticed by what it does not acknowledge; little may wait unsent."""
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with http.get(f"http://127.0.0.1:{runner.addresses[0][1]}/stream/state"):
        [sink] = runner.app[HUB].sockets._sinks.values()
        with socket.socket(fileno=os.dup(sink._fd)) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert 0 < ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) <= 1 << 20


async def test_middlewares_see_the_request_end_quietly(tmp_path: Path, http: Http) -> None:
    """The handler returns when its socket is taken: around it, everything ends early and without an error."""
    notes = tmp_path / "notes"
    app = tmp_path / "noted.py"
    app.write_text(
        "import asyncio, json\n"
        "from aiohttp import web\n"
        "from tests.apps.board import store\n"
        "from statestream import create_app\n"
        "@web.middleware\n"
        "async def noting(request, handler):\n"
        "    try:\n"
        "        response = await handler(request)\n"
        "        note = str(response.status)\n"
        "        return response\n"
        "    except BaseException as error:\n"
        "        note = repr(error)\n"
        "        raise\n"
        "    finally:\n"
        f"        with open({str(notes)!r}, 'a') as file:\n"
        "            file.write(json.dumps([request.path, note]) + '\\n')\n"
        "app = web.Application(middlewares=[noting])\n"
        "app.add_subapp('/sub', create_app(store))\n"
    )
    with Server.serving(f"{app}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        client = PlainClient(server.port, path="/sub/stream/state").connect()
        assert next(client.frames()).event == "state.initial"
        await eventually(lambda: notes.exists() and notes.read_text().endswith("\n"))
        assert [json.loads(line) for line in notes.read_text().splitlines()] == [["/sub/stream/state", "200"]]
        client.cut()
        assert server.stop() == ""


async def test_on_the_transport_middlewares_see_the_end_and_the_connection_is_used_again(
    tmp_path: Path, http: Http
) -> None:
    """One more reader than may be is told `busy`: its stream ends, its connection does not."""
    app = tmp_path / "noted.py"
    app.write_text(
        "from aiohttp import web\n"
        "from tests.apps.board import store\n"
        "from statestream import create_app\n"
        "types = []\n"
        "@web.middleware\n"
        "async def noting(request, handler):\n"
        "    response = await handler(request)\n"
        "    types.append(response.content_type)\n"
        "    return response\n"
        "async def noted(request):\n"
        "    return web.json_response(types)\n"
        "app = web.Application(middlewares=[noting])\n"
        "app.router.add_get('/noted', noted)\n"
        "app.add_subapp('/sub', create_app(store, handoff=False, max_subscribers=1))\n"
    )

    def ask_twice(port: int) -> tuple[bytes, int]:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/sub/stream/state")
        answer = connection.getresponse()
        ended, before = answer.read(), connection.sock
        connection.request("GET", "/sub/state")
        again = connection.getresponse()
        assert before is not None
        assert connection.sock is before, "it was opened anew"
        again.read()
        connection.close()
        return ended, again.status

    with Server.serving(f"{app}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        client = PlainClient(server.port, path="/sub/stream/state").connect()
        assert next(client.frames()).event == "state.initial"
        ended, status = await asyncio.to_thread(ask_twice, server.port)
        assert b'"reason":"busy"' in ended
        assert status == 200
        async with http.get(f"{server.url}/noted") as response:
            assert (await response.json())[:2] == ["text/event-stream", "application/json"]
        client.cut()
