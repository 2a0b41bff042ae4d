"""The edge of a real server on raw sockets: malformed HTTP, clients that leave early, and the shutdown."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually
from tests.support.raw_socket import RESET
from tests.support.server import FRONT

SECRET = b"canary-5d1f"
ACTION = b'{"type":"board/counted","payload":{}}'
COLLECTED = f"{ROOT / 'tests/apps/collected.py'}:app"
SLOW_LOGIN = f"{ROOT / 'tests/apps/slow_login.py'}:app"


@pytest.fixture
def collected() -> Iterator[Server]:
    """A chat without a provider, on a server that reports which objects it has in memory."""
    with Server.serving(
        COLLECTED, env={"CHATTY_UPSTREAM": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "none"}
    ) as running:
        yield running


def head(size: int, *lines: bytes, target: bytes = b"/dispatch") -> bytes:
    first = [
        b"POST %s HTTP/1.1" % target,
        b"Host: localhost",
        b"Content-Type: application/json",
        b"Content-Length: %d" % size,
    ]
    return b"\r\n".join([*first, *lines, b"", b""])


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=60)


def answered(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    received = b""
    while data := connection.recv(1 << 16):
        received += data
    return received


def said(server: Server, *parts: bytes) -> bytes:
    """What the server answers to these bytes, which come one after another."""
    with connect(server) as connection:
        for part in parts:
            connection.sendall(part)
            if len(parts) > 1:
                time.sleep(0.05)  # a packet of its own; the outcome is the same if it is not
        return answered(connection)


def problem(answer: bytes) -> tuple[int, Any]:
    top, body = answer.split(b"\r\n\r\n", 1)
    assert b"application/problem+json" in top
    assert b"nosniff" in top
    assert SECRET not in answer
    return int(top.split()[1]), json.loads(body)


POST = b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
BROKEN: dict[str, list[bytes]] = {
    "nonsense": [SECRET + b"\r\n\r\n"],
    "TLS": [b"\x16\x03\x01\x02\x00\x01" + SECRET],
    "a bad header": [
        b"GET /state?t=%s HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nA B: 1\r\n\r\n" % (SECRET, SECRET)
    ],
    "a NUL in the target": [b"GET /state?t=%s\0 HTTP/1.1\r\nHost: localhost\r\n\r\n" % SECRET],
    "a URL that is none": [b"GET http://[::%s/state HTTP/1.1\r\nHost: localhost\r\n\r\n" % SECRET],
    "a long header": [b"GET /state HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\n\r\n" % (SECRET * 1_000)],
    "many headers": [b"GET /state HTTP/1.1\r\nHost: localhost\r\n" + b"X: %s\r\n" % SECRET * 200 + b"\r\n"],
    "no host": [b"GET /state?t=%s HTTP/1.1\r\n\r\n" % SECRET],
    "two lengths": [POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + SECRET],
    "HTTP/0.9": [b"GET /state?t=%s\r\n\r\n" % SECRET],
    "HTTP/2.0": [b"GET /state?t=%s HTTP/2.0\r\nHost: localhost\r\n\r\n" % SECRET],
    "the preface of HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "a bad chunk": [CHUNKED, b'5\r\n{"typ\r\n', SECRET + b"\r\n"],
    "a bad chunk at once": [CHUNKED + b'5\r\n{"typ\r\n' + SECRET + b"\r\n"],
    "no gzip": [head(20, b"Content-Encoding: gzip"), b"no gzip, %s" % SECRET],
    "more after the gzip": [
        head(len(gzip.compress(ACTION)) + 4, b"Content-Encoding: gzip"),
        gzip.compress(ACTION) + SECRET[:4],
    ],
}


def test_what_is_not_http_is_a_problem_and_one_line_of_the_log(server: Server) -> None:
    began = time.monotonic()
    for name, parts in BROKEN.items():
        status, body = problem(said(server, *parts))
        assert (status, body["code"]) == (400, "malformed"), name
        assert len(body["detail"]) < 100, name
    assert time.monotonic() - began < 20  # a body whose rest is nonsense is not waited for, which takes half a minute
    for _ in range(50):
        said(server, *BROKEN["nonsense"])
    assert server.stop().splitlines() == [
        "refused a request that is not valid HTTP (BadHttpMethod)",
        f"refused {len(BROKEN) + 49} more requests that are not valid HTTP",
    ]


def test_an_expectation_that_nobody_knows_is_a_problem(server: Server) -> None:
    expects = head(len(ACTION), b"Expect: " + SECRET, b"Connection: close") + ACTION
    assert problem(said(server, expects))[1]["code"] == "malformed"
    assert b" 200 " in said(server, head(len(ACTION), b"Expect: 100-continue", b"Connection: close"), ACTION)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_without_its_end_is_refused(server: Server, encoding: str) -> None:
    whole = gzip.compress(ACTION) if encoding == "gzip" else zlib.compress(ACTION)
    line = b"Content-Encoding: %s" % encoding.encode()
    for size in range(1, len(whole)):
        answer = said(server, head(size, line, b"Connection: close") + whole[:size])
        assert problem(answer)[1]["code"] == "malformed", size
    for size in (10, len(whole) - 8, len(whole) - 1):
        answer = said(server, head(size, line), whole[:5], whole[5:size])
        assert problem(answer)[1]["code"] == "malformed", size
    closing = (line, b"Connection: close")
    assert b" 200 " in said(server, head(len(whole), *closing) + whole)
    assert b" 200 " in said(server, head(len(whole), *closing), whole[:9], whole[9:])


def test_a_body_of_several_gzip_members_is_whole(server: Server) -> None:
    members = gzip.compress(ACTION[:9]) + gzip.compress(ACTION[9:])
    lines = (b"Content-Encoding: gzip", b"Connection: close")
    for split in (5, len(gzip.compress(ACTION[:9])), len(members) - 5):
        assert b" 200 " in said(server, head(len(members), *lines), members[:split], members[split:])
    cut = problem(said(server, head(len(members) - 4, *lines) + members[:-4]))
    assert cut[1]["code"] == "malformed"


# clients that leave


def asks(chat: str) -> dict[str, Any]:
    return {"id": f"q-{chat}", "role": "user", "content": "Hi", "parts": [{"type": "text", "text": "Hi"}]}


def posted(target: bytes, body: Any) -> bytes:
    encoded = json.dumps(body).encode()
    return head(len(encoded), target=target) + encoded


LEAVERS: dict[str, Callable[[str], bytes]] = {
    "the state": lambda _: b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a path that is not there": lambda _: b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the history": lambda _: b"GET /history HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the stream": lambda _: b"GET /stream/state HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a head": lambda _: b"GET /state HTT",
    "half a body": lambda _: head(1_000) + b"{",
    "nonsense": lambda _: SECRET + b"\r\n\r\n",
    "the AI SDK": lambda chat: posted(b"/api/chat", {"id": chat, "messages": [asks(chat)]}),
    "AG-UI": lambda chat: posted(b"/ag-ui?follow=1", {"threadId": chat, "runId": "r", "messages": [asks(chat)]}),
    "a handshake": lambda _: (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"Sec-WebSocket-Protocol: %s\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n" % SECRET
    ),
}
LOSSES = 20


def leaves(server: Server, sent: bytes, *, read: bool) -> None:
    with connect(server) as connection:
        connection.sendall(sent)
        if read:
            connection.recv(1_000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def test_clients_that_leave_leave_no_word_and_no_garbage(collected: Server, http: aiohttp.ClientSession) -> None:
    async def look(what: str) -> Any:
        async with http.get(f"{collected.url}/{what}") as response:
            return await response.json()

    for name, request in LEAVERS.items():
        for count in (3, LOSSES, LOSSES + 1):  # the first time, something may be made that stays
            await look("garbage")
            before = await look("alive")
            for number in range(count):
                sent = request(f"{name.replace(' ', '-')}-{count}-{number}")
                reads = number % 2 == 0 and name not in ("half a head", "half a body")
                await asyncio.to_thread(leaves, collected, sent, read=reads)

            async def gone(before: Any = before) -> bool:
                return bool((await look("alive"))["HttpConnection"] <= before["HttpConnection"])

            await eventually(gone, seconds=30)
            garbage = await look("garbage")
            if count > 3 and sum(garbage.values()) < LOSSES:
                break  # else something may have been made late: what each loss leaves is there the second time too
        assert sum(garbage.values()) < LOSSES, (name, garbage)
    log = await asyncio.to_thread(collected.stop)
    own = ("the model failed: ", "the model test-model took ")  # the latter on a busy machine
    lines = [line for line in log.splitlines() if not line.startswith(own)]
    assert len(lines) == 2  # how many of them were read before they were lost, is chance
    assert re.fullmatch(r"refused [0-9]+ more requests that are not valid HTTP", lines[1])


# the last second


def stopping(server: Server) -> None:
    """Sends SIGTERM, and returns when the server has taken it: nobody can connect any more."""
    assert server.process
    server.process.send_signal(signal.SIGTERM)
    while True:
        try:
            connect(server).close()
        except ConnectionError:
            return
        time.sleep(0.005)


def test_requests_that_are_arriving_at_sigterm_are_answered(server: Server) -> None:
    request = head(len(ACTION)) + ACTION
    with ExitStack() as stack:
        idle = stack.enter_context(connect(server))
        get = b"GET /state?slices=counter HTTP/1.1\r\nHost: localhost\r\n\r\n"
        idle.sendall(get)
        assert b"Connection: close" not in idle.recv(1 << 16)
        connections = []
        for arrived in (1, 60, -10, -1):
            connections.append((arrived, stack.enter_context(connect(server))))
            connections[-1][1].sendall(request[:arrived])
        time.sleep(0.05)  # they have been read
        stopping(server)
        idle.sendall(get)
        assert b"Connection: close" in idle.recv(1 << 16)
        for arrived, connection in connections:
            time.sleep(0.1)
            connection.sendall(request[arrived:])
            answer = answered(connection)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"Connection: close" in answer
            assert json.loads(answer.split(b"\r\n\r\n")[1])["duplicate"] is False
    assert server.stop() == ""


@pytest.mark.slow
def test_a_request_that_does_not_arrive_is_told_to_come_back(server: Server) -> None:
    with connect(server) as connection, connect(server) as never:
        connection.sendall(head(len(ACTION)) + ACTION[:5])
        never.sendall(b"GET /state HT")
        time.sleep(0.05)
        assert server.stop() == ""
        answer, nothing = answered(connection), answered(never)
    status, body = problem(answer)
    assert (status, body["code"]) == (503, "unavailable")
    assert b"retry-after: 1" in answer.lower()
    assert b"connection: close" in answer.lower()
    assert nothing == b""


async def test_a_chat_that_is_posted_at_sigterm_is_answered(collected: Server) -> None:
    request = posted(b"/api/chat", {"id": "late", "messages": [asks("late")]})
    with connect(collected) as connection:
        connection.sendall(request[:-5])
        await asyncio.sleep(0.05)
        await asyncio.to_thread(stopping, collected)
        connection.sendall(request[-5:])
        answer = await asyncio.to_thread(answered, connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert await asyncio.to_thread(collected.stop) == ""


async def test_what_has_arrived_at_sigterm_is_answered_however_long_its_login_takes(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "login")
    with Server.serving(SLOW_LOGIN, env={"LOGIN": str(pipe)}) as server, connect(server) as connection:
        connection.sendall(posted(b"/api/chat", {"id": "late", "messages": [asks("late")]}))
        with await asyncio.to_thread(pipe.open, "w") as name:  # opens once the server waits for it
            await asyncio.to_thread(stopping, server)
            await asyncio.sleep(0.2)  # long enough for a chat that does not wait to have ended
            name.write("ann")
        answer = await asyncio.to_thread(answered, connection)
        assert server.stop() == ""
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_broken_request_concerns_nobody_else(server: Server, http: aiohttp.ClientSession) -> None:
    for name, parts in BROKEN.items():
        if name != "the preface of HTTP/2" or FRONT != "hypercorn":  # which speaks HTTP/2
            await asyncio.to_thread(said, server, *parts)
    assert (await dispatch(http, server.url, "board/counted"))[0] == 200
