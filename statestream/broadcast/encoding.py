"""The encodings of a stream: how the bytes of a frame travel.

Invariants: the only place that applies encodings. `server/stream.py` chooses one; everything else passes an Encoding on
as a part of what subscribers share, and bytes that are encoded already.
"""

from __future__ import annotations

from enum import Enum


class Encoding(Enum):
    """RAW is for HTTP/1.0, whose body ends with the connection. CHUNKED is HTTP/1.1's (RFC 9112, section 7.1)."""

    RAW = "raw"
    CHUNKED = "chunked"

    def encode(self, frames: bytes) -> bytes:
        """One or more whole frames as they are sent. Nothing stays nothing: an empty chunk would end the body."""
        if self is Encoding.RAW or not frames:
            return frames
        return b"%x\r\n%b\r\n" % (len(frames), frames)

    @property
    def last(self) -> bytes:
        """What ends a complete body."""
        return b"0\r\n\r\n" if self is Encoding.CHUNKED else b""
