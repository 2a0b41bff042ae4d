"""The body of one HTTP/1.x response, from the bytes of its connection.

Invariants: pure, no I/O; the bytes may be split anywhere. It understands heads, chunks, and bodies that end with the
connection; the reader interprets the body.
"""

from __future__ import annotations

from typing import Final

from statestream.core.errors import StreamRefused

MAX_LINE: Final = 1 << 16
NOT_HTTP: Final = "the server does not answer in HTTP/1.1"


class ResponseBody:
    """Bytes in, bytes of the body out. `ended` is true after the last chunk."""

    __slots__ = ("_held", "_left", "chunked", "ended", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.chunked = False
        self.ended = False
        self._held = b""  # the beginning of a line
        self._left = 0  # of the chunk, with its line end

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a chunk, or the body is not chunked."""
        return self.status is not None and not self._left and not self._held

    def feed(self, data: bytes) -> bytes:
        """Raises StreamRefused if the response is not an event stream."""
        if self.status is None:
            data = self._head(self._held + data)
        return self._chunks(data) if self.chunked else data

    def _head(self, data: bytes) -> bytes:
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank:
            self._hold(data)
            return b""
        self._held = b""
        first, *lines = head.decode("latin-1").split("\r\n")
        version, _, status = first.partition(" ")
        if not version.startswith("HTTP/1.") or not status[:3].isdigit():
            raise StreamRefused(NOT_HTTP, reason="answer")
        headers = {name.strip().lower(): value.strip().lower() for name, _, value in (s.partition(":") for s in lines)}
        self.status = int(status[:3])
        kind = headers.get("content-type", "no Content-Type")
        if self.status != 200 or not kind.startswith("text/event-stream"):
            raise StreamRefused(
                f"expected a stream, got status {self.status} with {kind}", reason="refused", status=self.status
            )
        self.chunked = "chunked" in headers.get("transfer-encoding", "")
        return rest

    def _hold(self, data: bytes) -> None:
        if len(data) > MAX_LINE:
            raise StreamRefused(f"{NOT_HTTP}: a line is longer than {MAX_LINE} bytes", reason="answer")
        self._held = data

    def _chunks(self, data: bytes) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        out, at = [], 0
        while at < len(data) and not self.ended:
            if self._left:
                taken = data[at : at + self._left]
                self._left -= len(taken)
                out.append(taken[: max(0, len(taken) + self._left - 2)])  # without the chunk's line end
                at += len(taken)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._hold(data[at:])
                break
            self._begin_chunk(data[at:end])
            at = end + 2
        return b"".join(out)

    def _begin_chunk(self, line: bytes) -> None:
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise StreamRefused(f"{NOT_HTTP}: expected the size of a chunk", reason="answer") from None
        self.ended = size == 0
        self._left = size + 2 if size else 0
