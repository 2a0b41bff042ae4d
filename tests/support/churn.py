"""Clients of every kind that come and go at a steady rate, and end their connections in every way there is.

Each worker is a thread that opens one connection after another. What it does there, and how it leaves, is chance.

Invariants: what clients leave behind in the state is bounded: rooms are removed again, questions are repeated, except
for one a minute. A worker that fails is an error of the test.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, Final, Self

from tests.support.plain_client import PlainClient
from tests.support.raw_socket import CLOSE, PING, TEXT, RawSocket, frame, reset, vanish
from tests.support.server import Server

WORKERS: Final = 24
REST: Final = (0.3, 1.0)
"""A worker rests between two connections, and stays on a connection, for so many seconds."""
ANSWER_SECONDS: Final = 30.0
STALL_SECONDS: Final = 60.0
QUESTION_SECONDS: Final = 60.0
CHATS: Final = ("one", "two", "three")
SELECTIONS: Final = (
    "*",
    "board",
    "counter,room/*",
    "presence/one",
    "chat/two,presence/*",
    "board,gone",
)
PATHS: Final = (
    "/state?slices=counter", "/history?limit=20", "/metrics", "/none", "/state?slices=nothing", "/api/chats/one",
    "/api/chats/none", "/api/chat/two/stream", "/state?at=1.x", "/api/chats/two/messages?before=q-two",
)  # fmt: skip
MALFORMED: Final = (b"nonsense\r\n\r\n", b"GET /state HTTP/1.1\r\nA B: 1\r\n\r\n", b"GET /state\r\n\r\n")


def posted(path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def question(chat: str, text: str = "Why not?") -> dict[str, Any]:
    return {"id": f"q-{chat}", "role": "user", "content": text, "parts": [{"type": "text", "text": text}]}


def asked(chat: str, kind: str) -> bytes:
    """The chat's question in a protocol; asked again, it costs nothing but the answer."""
    if kind == "text":
        return posted(f"/api/chats/{chat}/stream", {"messages": [question(chat)]})
    if kind == "ag-ui":
        return posted("/ag-ui?follow=1", {"threadId": chat, "runId": "r", "messages": [question(chat)]})
    return posted("/api/chat", {"id": chat, "messages": [question(chat)]})


REFUSED: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("/dispatch", {"type": "board/refused", "payload": {"why": "because"}}),
    ("/dispatch", {"type": "board/broken", "payload": {}}),
    ("/dispatch", {"type": "board/counted", "payload": {}, "expect": {"board": 10**9}}),
    ("/dispatch", {"type": "board/counted", "payload": {"by": "much"}}),
    ("/dispatch", {"type": "board/none", "payload": {}}),
    ("/dispatch", {"type": "room/joined", "payload": {"name": "ana"}}),
    ("/api/chat", {"id": "one", "messages": []}),
    ("/api/chat", {"id": "one", "messages": [question("two")], "leaf": "none"}),
    ("/api/chat", {"id": "one", "messages": [], "trigger": "regenerate-message", "messageId": "none"}),
    ("/api/chats/one/branch", {"message": "none"}),
    ("/api/chats/none/stop", {}),
    ("/ag-ui", {"threadId": "one", "runId": "r", "messages": []}),
)
"""What a server refuses, by path."""

Leave = Callable[[socket.socket], None]
LEAVE: Final[tuple[Leave, ...]] = (socket.socket.close, reset, vanish)


class Churn:
    """`with Churn(server, seed) as churn:` lasts as long as the block. Raises the first error of a worker at its end.

    `leave`: how clients end their connections.
    """

    def __init__(self, server: Server, seed: int, leave: tuple[Leave, ...] = LEAVE) -> None:
        self.server, self._ways = server, leave
        self.did: Counter[str] = Counter()
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._seeds = random.Random(seed)
        kinds = [
            self._stream,
            self._socket,
            self._chat,
            self._half,
            self._kept_alive,
            self._room,
            self._act,
            self._refused,
        ]
        self._kinds: list[Callable[[random.Random], None]] = kinds
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for chat in CHATS:
            self._answered(asked(chat, "ai-sdk"))
        works = [self._churn] * WORKERS + [self._ask, self._stall]
        self._threads = [threading.Thread(target=self._work, args=(work, self._chance())) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=2 * ANSWER_SECONDS)
        assert not [thread for thread in self._threads if thread.is_alive()], "a client still waits for an answer"
        if self._errors:
            raise self._errors[0]

    def _chance(self) -> random.Random:
        return random.Random(self._seeds.random())

    def _work(self, work: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            work(chance)
        except BaseException as error:
            self._errors.append(error)
            self._over.set()

    def wait(self, seconds: float) -> bool:
        """Waits so long; returns whether all goes on."""
        return not self._over.wait(seconds)

    def _churn(self, chance: random.Random) -> None:
        while self.wait(chance.uniform(*REST)):
            kind = chance.choice(self._kinds)
            kind(chance)
            self.did[kind.__name__.strip("_")] += 1

    def _leave(self, chance: random.Random, connection: socket.socket) -> None:
        how = chance.choice(self._ways)
        how(connection)
        self.did[f"left by {how.__name__}"] += 1

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=ANSWER_SECONDS)

    def _answered(self, request: bytes, status: bytes = b"200 ") -> bytes:
        """The answer to a request that closes the connection."""
        received = b""
        with self._connect() as connection:
            connection.sendall(request)
            while data := connection.recv(1 << 16):
                received += data
        assert received.startswith(b"HTTP/1.1 " + status), received[:500]
        return received

    # kinds of clients

    def _stream(self, chance: random.Random) -> None:
        """Follows slices, some of the time from a position, and reads for a while."""
        client = PlainClient(self.server.port, f"slices={chance.choice(SELECTIONS)}")
        cursor = chance.choice(("", "1.nothing", "nonsense", f"{chance.randrange(1, 1_000)}.x"))
        client.connect(cursor=cursor, timeout=ANSWER_SECONDS)
        frames = client.frames()
        for _ in range(chance.randrange(4)):
            next(frames, None)
        self.wait(chance.uniform(*REST))
        if client.socket is not None:  # the stream was not refused
            self._leave(chance, client.socket)

    def _socket(self, chance: random.Random) -> None:
        """Opens a WebSocket, and leaves it in any state, mostly without a close frame."""
        chat = chance.choice(CHATS)
        path = chance.choice(("/ws", f"/ws?session_id={chat}", "/api/chat"))
        client = RawSocket(self.server.port, path)
        message = {"type": "message", "content": "Why not?", "session_id": chat, "id": f"q-{chat}"}
        command = {"type": "send", "requestId": "r", "id": chat, "messages": [question(chat)]}
        match chance.randrange(6):
            case 0:
                client.send(TEXT, b"not JSON")
            case 1:
                client.send(PING, b"there?")
            case 2:
                client.connection.sendall(frame(TEXT, b"half a message")[:-5])
            case 3 | 4:
                client.send(TEXT, json.dumps(command if path == "/api/chat" else message).encode())
                client.read()
            case _:
                client.send(CLOSE, (1000).to_bytes(2))
        self.wait(chance.uniform(*REST))
        self._leave(chance, client.connection)

    def _chat(self, chance: random.Random) -> None:
        """Asks a question again, in every protocol, and reads the answer or leaves during it."""
        request = asked(chance.choice(CHATS), chance.choice(("text", "ag-ui", "ai-sdk")))
        connection = self._connect()
        connection.sendall(request)
        if chance.random() < 0.7:
            assert connection.recv(1 << 12).startswith(b"HTTP/1.1 200 ")
        self._leave(chance, connection)

    def _half(self, chance: random.Random) -> None:
        """Sends a part of a request, or what is none."""
        whole = posted("/dispatch", {"type": "board/counted", "payload": {}})
        connection = self._connect()
        connection.sendall(chance.choice((whole[: chance.randrange(1, len(whole))], *MALFORMED)))
        self.wait(chance.uniform(*REST))
        self._leave(chance, connection)

    def _kept_alive(self, chance: random.Random) -> None:
        """Sends several requests on one connection, answered or refused."""
        client = HTTPConnection("127.0.0.1", self.server.port, timeout=ANSWER_SECONDS)
        client.auto_open = False
        client.connect()
        for _ in range(chance.randrange(1, 8)):
            body = b'{"type": "none"}' if chance.random() < 0.3 else None
            headers = {"Content-Type": "application/json"} if body else {}
            client.request("POST" if body else "GET", chance.choice(PATHS), body, headers)
            client.getresponse().read()
        self._leave(chance, client.sock)

    def _room(self, chance: random.Random) -> None:
        """Creates an instance with a name of its own, and removes it."""
        key = f"r{chance.getrandbits(40)}"
        self._answered(posted("/dispatch", {"type": "room/joined", "key": key, "payload": {"name": "ana"}}))
        self.wait(chance.uniform(*REST))
        self._answered(posted("/dispatch", {"type": "room/closed", "key": key, "payload": {}}))

    def _act(self, chance: random.Random) -> None:
        """Dispatches with an id, sometimes twice."""
        body = {"type": "board/counted", "payload": {}, "id": f"i{chance.getrandbits(60)}"}
        for _ in range(chance.randrange(1, 3)):
            self._answered(posted("/dispatch", body))

    def _refused(self, chance: random.Random) -> None:
        """Dispatches what is refused."""
        path, body = chance.choice(REFUSED)
        with_id = {"id": f"i{chance.getrandbits(60)}"} if path == "/dispatch" and chance.random() < 0.5 else {}
        self._answered(posted(path, body | with_id), b"")

    # what happens now and then

    def _ask(self, chance: random.Random) -> None:
        """Asks a new question in one of the chats."""
        while self.wait(QUESTION_SECONDS):
            new = question(chance.choice(CHATS)) | {"id": f"n{chance.getrandbits(60)}"}
            self._answered(posted(f"/api/chats/{chance.choice(CHATS)}/stream", {"messages": [new]}))
            self.did["question"] += 1

    def _stall(self, chance: random.Random) -> None:
        """Follows everything, and reads nothing until the server has given it up."""
        while self.wait(chance.uniform(*REST)):
            with PlainClient(self.server.port) as client:
                assert client.socket
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                self.wait(STALL_SECONDS)
            self.did["stalled"] += 1
