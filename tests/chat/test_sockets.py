"""The WebSockets of chats on raw sockets: floods, clients that do not read, and connections that are lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import aiohttp
import pytest

from tests.support import ROOT, Server, eventually
from tests.support.exchange import HANDSHAKE, exchange
from tests.support.raw_socket import CLOSE, PING, PONG, TEXT, RawSocket, frame

PATHS = ("/ws", "/api/chat")
ENVIRONMENT = {"CHATTY_UPSTREAM": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "none"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A chat without a provider, on a server that reports which objects it has in memory."""
    with Server.serving(f"{ROOT / 'tests/apps/collected.py'}:app", env=ENVIRONMENT) as running:
        yield running


@pytest.mark.parametrize("path", PATHS)
def test_a_request_that_is_no_handshake_is_malformed(server: Server, path: str) -> None:
    for name in HANDSHAKE:
        headers = {each: value for each, value in HANDSHAKE.items() if each != name}
        answer = exchange(server.port, "GET", path, headers)
        assert (answer.status, answer.code) == (400, "malformed"), name
    assert exchange(server.port, "GET", path, HANDSHAKE).status == 101


class Flood:
    """`with Flood(socket, data):` sends that again and again in a thread, as fast as it is taken."""

    def __init__(self, socket: RawSocket, data: bytes, times: int) -> None:
        self.socket, self.data, self.times, self.sent = socket, data, times, 0
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.send, self.read)]

    def send(self) -> None:
        with contextlib.suppress(OSError):
            while self.sent < self.times:
                self.socket.connection.sendall(self.data)
                self.sent += 1

    def read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                self.socket.read()

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.times = 0
        with contextlib.suppress(OSError):
            self.socket.connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


async def look(http: aiohttp.ClientSession, server: Server, what: str) -> Any:
    async with http.get(f"{server.url}/{what}") as response:
        return await response.json()


# too much


FLOODS = {
    "messages": frame(TEXT, b"12345678") * 1_000,
    "pings": frame(PING, b"12345678") * 1_000,
    "pongs": frame(PONG) * 1_000,
    "fragments": frame(TEXT, b"x", fin=False) + frame(0, fin=False) * 20_000,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_holds_up_nobody(server: Server, http: aiohttp.ClientSession, path: str, kind: str) -> None:
    """Half a million messages: if other tasks did not run in between, they would block the loop for half a minute."""
    before, longest = server.resident(), 0.0
    with RawSocket(server.port, path) as flooded, Flood(flooded, FLOODS[kind], 500) as flood:
        await eventually(lambda: flood.sent > 0)
        for _ in range(30):
            began = time.monotonic()
            await look(http, server, "state?slices=presence/nobody")
            longest = max(longest, time.monotonic() - began)
        assert longest < 2
        assert server.resident() - before < 8 << 20


@pytest.mark.parametrize("path", PATHS)
async def test_a_burst_is_answered_at_once_and_in_order(server: Server, path: str) -> None:
    ids = [f"q{number}" for number in range(200)]
    with RawSocket(server.port, path) as connection:
        began = time.monotonic()
        for number, id in enumerate(ids):
            connection.send(TEXT, json.dumps({"id": id, "requestId": id}).encode())
            connection.send(PING, b"%d" % number) if number % 10 == 0 else None
        answers, pongs = [], []
        while len(answers) < len(ids) or len(pongs) < 20:
            opcode, payload = await asyncio.to_thread(connection.read)
            if opcode == PONG:
                pongs.append(int(payload))
            elif path == "/api/chat":
                answers.append(json.loads(payload)["requestId"])
            elif (value := json.loads(payload)).get("stream_end"):
                answers.append(value["metadata"]["reply_to"])
        assert time.monotonic() - began < 10
    assert (answers, pongs) == (ids if path == "/ws" else [""] * 200, list(range(0, 200, 10)))


@pytest.mark.parametrize("path", PATHS)
def test_a_client_that_pings_and_does_not_read_costs_little(server: Server, path: str) -> None:
    """Forty megabytes of pings: without a limit, the server would hold as many bytes of pongs."""
    before = server.resident()
    with RawSocket(server.port, path, window=4_096) as connection:
        connection.connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(1_500):
                connection.connection.sendall(frame(PING, b"x" * 125) * 200)
        assert server.resident() - before < 8 << 20


@pytest.mark.soak
@pytest.mark.parametrize("path", PATHS)
async def test_who_stays_above_the_rate_is_disconnected(server: Server, path: str) -> None:
    with RawSocket(server.port, path) as flooded:
        flooded.connection.settimeout(60)
        with Flood(flooded, FLOODS["messages"], 1_000_000) as flood:
            flood.threads[1].join(timeout=60)
            assert not flood.threads[1].is_alive()


@pytest.mark.soak
def test_who_pings_and_does_not_read_is_disconnected(server: Server) -> None:
    before = server.resident()
    with RawSocket(server.port, "/ws", window=4_096) as connection:
        connection.connection.settimeout(150)
        with contextlib.suppress(ConnectionError):
            for _ in range(1_000_000):
                connection.connection.sendall(frame(PING, b"x" * 125) * 200)
    assert server.resident() - before < 8 << 20


# lost connections


def lose(server: Server, path: str, number: int) -> None:
    """Loses a connection without a close frame, in a different state each time."""
    connection = RawSocket(server.port, path)
    if number % 4 == 1:
        connection.send(TEXT, b"not JSON")
    elif number % 4 == 2:
        connection.send(PING, b"there?")
        connection.read()
    elif number % 4 == 3:
        connection.connection.sendall(frame(TEXT, b"half a message")[:-5])
    connection.cut()


def close(server: Server, path: str, number: int) -> None:
    with RawSocket(server.port, path) as connection:
        connection.send(CLOSE, (1000).to_bytes(2))
        assert connection.closed() == 1000


def fail(server: Server, path: str, number: int) -> None:
    with RawSocket(server.port, path) as connection:
        connection.send(3, b"no such frame")
        assert connection.closed() == 1002


@pytest.mark.parametrize("path", [f"{PATHS[0]}?session_id=one&session_id=two", *PATHS])
@pytest.mark.parametrize("end", [lose, close, fail])
async def test_nothing_is_left_of_a_connection(
    server: Server, http: aiohttp.ClientSession, path: str, end: Any
) -> None:
    """Not even for the garbage collector, which rarely examines objects that have lived for a while."""
    for count in (3, 60):  # the first time, something may be made that stays
        await look(http, server, "garbage")
        before = await look(http, server, "alive")
        for number in range(count):
            await asyncio.to_thread(end, server, path, number)

        async def gone(before: Any = before) -> bool:
            now = await look(http, server, "alive")
            return all(now.get(kind, 0) <= before.get(kind, 0) for kind in now)

        await eventually(gone)
    garbage = await look(http, server, "garbage")
    assert sum(garbage.values()) < 60, garbage


@pytest.mark.soak
async def test_thirty_thousand_losses_cost_no_memory(server: Server, http: aiohttp.ClientSession) -> None:
    sizes = []
    for _ in range(31):
        for number in range(500):
            for path in PATHS:
                await asyncio.to_thread(lose, server, path, number)
        sizes.append(server.resident() >> 10)
    print(sizes)
    assert sizes[-1] - sizes[0] < 1_024


@pytest.mark.parametrize("path", ["/ws?sesion_id=a", "/api/chat?leave=b"])
async def test_an_unknown_parameter_is_refused_before_the_upgrade(
    path: str, server: Server, http: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{server.url}{path}")
    assert refused.value.status == 400
