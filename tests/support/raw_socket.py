"""A WebSocket client on a raw socket, which shares no code with the product and sends what no library would.

Invariants: `read` returns whole frames of the server as (opcode, payload). Nothing is answered by itself.
"""

from __future__ import annotations

import socket
from typing import Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
RESET = b"\1\0\0\0\0\0\0\0"
TCP_REPAIR = 19
"""An option of Linux that the module socket has no name for: a socket that is closed with it sends nothing."""


def reset(connection: socket.socket) -> None:
    """Closes with a reset, as a lost network does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def vanish(connection: socket.socket) -> None:
    """Closes without a word, as a machine that loses its power does; with a reset, if that takes a privilege."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    except PermissionError:
        reset(connection)
    connection.close()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame of a client: masked, with a mask of zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b""
    return bytes([opcode | (0x80 if fin else 0)]) + (length or b"\xff" + size.to_bytes(8)) + bytes(4) + payload


class RawSocket:
    """`with RawSocket(port, "/ws") as socket:` opens it. `window`: how much the kernel takes if nobody reads."""

    def __init__(self, port: int, path: str, *, window: int | None = None, headers: tuple[str, ...] = ()) -> None:
        self.connection = socket.socket()
        if window is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.connection.settimeout(20)
        self.connection.connect(("127.0.0.1", port))
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade", *headers]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        self._buffer = b""
        head = self._until(b"\r\n\r\n")
        self.status = int(head.split()[1])

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, self._buffer = self._buffer.split(mark, 1)
        return found

    def _more(self) -> None:
        data = self.connection.recv(1 << 16)
        if not data:
            raise EOFError
        self._buffer += data

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def send(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        self.connection.sendall(frame(opcode, payload, fin=fin))

    def read(self) -> tuple[int, bytes]:
        """The next frame. Raises EOFError at the end of the connection."""
        first, size = self._take(2)
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8))
        return first & 15, self._take(size)

    def closed(self) -> int:
        """Reads up to the server's close frame, and returns its code."""
        while True:
            opcode, payload = self.read()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2])

    def cut(self) -> None:
        """Closes with a reset, as a lost network does."""
        reset(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
