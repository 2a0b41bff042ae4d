"""WebSocket messages as the frames that aiohttp reads and writes (RFC 6455, section 5.2).

The ASGI server has the client's frames, and aiohttp has frames of its own. In between, a message is one frame.

Invariants: pure. aiohttp writes final frames without a mask and without extensions, and reads such frames from us.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from aiohttp import WSMsgType
from msgspec import Struct

FINAL: Final = 0x80
SHORT, LONG = 126, 127
NO_STATUS: Final = 1005
"""What a close code is said to be if a close frame has none (section 7.4.1)."""
OF_FRAMES: Final = range(1000, 5000)
OF_NO_FRAME: Final = frozenset({1004, NO_STATUS, 1006, 1015})


class Frame(Struct, frozen=True, kw_only=True):
    """A whole message, or a control frame."""

    kind: WSMsgType
    data: bytes

    @classmethod
    def closing(cls, code: int) -> Frame:
        """The close frame with this code; one without a code if no frame can have it, as that of a lost connection."""
        has_code = code in OF_FRAMES and code not in OF_NO_FRAME
        return cls(kind=WSMsgType.CLOSE, data=struct.pack("!H", code) if has_code else b"")

    @property
    def code(self) -> int:
        """The code of a close frame."""
        return int(struct.unpack_from("!H", self.data)[0]) if len(self.data) > 1 else 1000

    @property
    def reason(self) -> str:
        """The reason of a close frame."""
        return self.data[2:].decode("utf-8", "replace")

    def encode(self) -> bytes:
        first, size = FINAL | self.kind, len(self.data)
        if size < SHORT:
            return struct.pack("!BB", first, size) + self.data
        if size < 1 << 16:
            return struct.pack("!BBH", first, SHORT, size) + self.data
        return struct.pack("!BBQ", first, LONG, size) + self.data


class FrameReader:
    """Finds the frames in what aiohttp writes."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def read(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete."""
        data, at = self._rest + data, 0
        while (ends := self._ends(data, at)) is not None:
            begin, end = ends
            yield Frame(kind=WSMsgType(data[at] & 0x0F), data=data[begin:end])
            at = end
        self._rest = data[at:]

    @staticmethod
    def _ends(data: bytes, at: int) -> tuple[int, int] | None:
        """Where the payload of the frame begins and ends; None if it is not complete."""
        size, begin = (data[at + 1], at + 2) if len(data) >= at + 2 else (0, len(data) + 1)
        if size == SHORT:
            size, begin = int.from_bytes(data[begin : begin + 2], "big"), begin + 2
        elif size == LONG:
            size, begin = int.from_bytes(data[begin : begin + 8], "big"), begin + 8
        return None if begin + size > len(data) or begin > len(data) else (begin, begin + size)
