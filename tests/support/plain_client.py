"""A plain client on a raw socket that shares no code with the product.

Invariants: it fails if a change is missing or arrives twice, or if an event's name differs from its type. Every test
that uses it checks this too.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, Final, Self
from weakref import WeakSet

import jsonpatch

from tests.support.server import FRONT

VERSION = "1.0" if FRONT == "statestream" else "1.1"
"""uvicorn sends chunks to HTTP/1.0 as well."""
CLIENTS: Final[WeakSet[PlainClient]] = WeakSet()
"""All that exist: a test that fails before it closes its own must not fail the tests after it as well."""


class Chunks:
    """The body in the chunks of HTTP/1.1 (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self._buffer, self._left = b"", 0
        self.ended = False

    def take(self, data: bytes) -> bytes:
        """What is new of the body."""
        self._buffer += data
        body = b""
        while self._buffer and not self.ended:
            if self._left > 2:
                part = self._buffer[: self._left - 2]
                body += part
            elif not self._left:
                size, found, self._buffer = self._buffer.partition(b"\r\n")
                if not found:
                    self._buffer = size
                    break
                self._left = int(size, 16) + 2
                self.ended = self._left == 2
                continue
            else:
                part = self._buffer[: self._left]
            self._buffer = self._buffer[len(part) :]
            self._left -= len(part)
        return body


class Frame:
    """An event as the plain client read it."""

    def __init__(self, event: str, data: Any, id: str | None, size: int) -> None:
        self.event, self.data, self.id, self.size = event, data, id, size

    def __repr__(self) -> str:
        return f"<{self.event} {self.id} {self.data}>"


class PlainClient:
    """An EventSource on a raw socket: HTTP/1.0, so that the body is the stream. Keeps state by jsonpatch.

    If an ASGI server serves the application, it is HTTP/1.1.
    """

    def __init__(
        self,
        port: int,
        query: str = "slices=*",
        path: str = "/stream/state",
        *,
        token: str | None = None,
        cookie: str | None = None,
    ) -> None:
        self.port, self.target, self.token, self.cookie = port, f"{path}?{query}", token, cookie
        self.last_id = ""
        self.state: dict[str, Any] = {}
        self.versions: dict[str, int] = {}
        self.applied: list[tuple[str, int]] = []
        self.reasons: list[str] = []
        self.bytes = 0
        self.socket: socket.socket | None = None
        self._buffer = b""
        self._chunks: Chunks | None = None
        CLIENTS.add(self)

    def connect(
        self, *, cursor: str | None = None, header: str = "Last-Event-ID", timeout: float = 20.0
    ) -> PlainClient:
        self.dial(timeout)
        self.ask(self.last_id if cursor is None else cursor, header)
        return self.answered()

    def dial(self, timeout: float = 20.0) -> None:
        self.close()
        self.socket = socket.create_connection(("127.0.0.1", self.port))  # blocking: loopback answers at once
        self.socket.settimeout(timeout)

    def ask(self, cursor: str = "", header: str = "Last-Event-ID") -> None:
        assert self.socket
        line = f"{header}: {cursor}\r\n" if cursor else ""
        line += f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        line += f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        self.socket.sendall(f"GET {self.target} HTTP/{VERSION}\r\nHost: localhost\r\n{line}\r\n".encode())

    def answered(self) -> PlainClient:
        self._buffer, self._chunks = b"", None
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        self.head = head.decode()
        if "transfer-encoding: chunked" in self.head.lower():
            self._chunks = Chunks()
            self._buffer = self._chunks.take(self._buffer)
        self.status = int(head.split()[1])
        return self

    def _more(self, size: int = 1 << 16) -> None:
        """Raises EOFError at the end of the body, also if the server keeps the connection."""
        assert self.socket
        data = b"" if self._chunks is not None and self._chunks.ended else self.socket.recv(size)
        if not data:
            raise EOFError
        self.bytes += len(data)
        self._buffer += data if self._chunks is None else self._chunks.take(data)

    def frames(self) -> Iterator[Frame]:
        """Frames as they come, applied; ends when the server closes."""
        while True:
            while b"\n\n" not in self._buffer:
                try:
                    self._more()
                except (EOFError, ConnectionError):
                    self.close()
                    return
            block, self._buffer = self._buffer.split(b"\n\n", 1)
            yield self._frame(block)

    def _frame(self, block: bytes) -> Frame:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
        frame = Frame(fields["event"], json.loads(fields["data"]), fields.get("id"), len(block) + 2)
        self._apply(frame)
        if frame.id is not None:
            self.last_id = frame.id
        return frame

    def _apply(self, frame: Frame) -> None:
        data = frame.data
        assert data["type"] == frame.event
        if frame.event == "state.initial":
            self.state, self.versions = data["slices"], data["versions"]
            self.reasons.append(data["reason"])
        elif frame.event == "state.resumed":
            assert data["versions"] == self.versions, (data["versions"], self.versions)
        for item in {"state.update": [data], "state.catchup": data.get("updates", [])}.get(frame.event, []):
            self._update(item)

    def _update(self, item: Any) -> None:
        name, held = item["slice"], self.versions.get(item["slice"], 0)
        assert item["version"] > held, f"{name} came twice: {item['version']} after {held}"
        if "patches" in item:
            assert item["from"] == held, f"a hole in {name}: from {item['from']}, held {held}"
            self.state[name] = jsonpatch.apply_patch(self.state[name], item["patches"])
        elif "value" in item:
            self.state[name] = item["value"]
        if item.get("removed"):
            del self.state[name], self.versions[name]
        else:
            self.versions[name] = item["version"]
        self.applied.append((name, item["version"]))

    def read_some(self, size: int) -> int:
        """Takes at most `size` bytes off the stream, wherever they end, and applies the frames that are whole."""
        before = self.bytes
        while self.bytes - before < size:
            try:
                self._more(size - (self.bytes - before))
            except (EOFError, ConnectionError, TimeoutError):
                break
            while b"\n\n" in self._buffer:
                block, self._buffer = self._buffer.split(b"\n\n", 1)
                self._frame(block)
        return self.bytes - before

    def read_until(self, done: Any) -> list[Frame]:
        """The frames up to the first for which `done(frame)` holds. Fails if the stream ends before."""
        seen = []
        for frame in self.frames():
            seen.append(frame)
            if done(frame):
                return seen
        raise AssertionError(f"the stream ended after {seen[-3:]}")

    def read_to(self, position: str) -> None:
        """Reads until the cursor is at least there."""
        target = int(position.split(".")[0])
        if not self.last_id or int(self.last_id.split(".")[0]) < target:
            self.read_until(lambda frame: frame.id and int(frame.id.split(".")[0]) >= target)

    def cut(self) -> None:
        """Closes with a reset, as a lost network does."""
        if self.socket:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.socket.close()
            self.socket = None

    def close(self) -> None:
        if self.socket:
            with contextlib.suppress(OSError):  # the server has gone already
                self.socket.shutdown(socket.SHUT_RDWR)  # a thread that reads it ends
            self.socket.close()
            self.socket = None

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, *_: object) -> None:
        self.close()
