"""Reads the first file of a `multipart/form-data` body, as `curl -F file=@x` and forms of pages send it.

Fields before the file are skipped, and what comes after it is not read. The reader of aiohttp would not do: it reads
what comes before the file without a limit, line by line without a pause, and takes a file for a field if its name has
two semicolons.

Invariants: pure; the caller brings the bytes. What is held is bounded: the headers of a part, or the few bytes that may
begin a boundary. A file counts as complete only if the boundary behind it has arrived.
"""

from __future__ import annotations

import re
from typing import Final

from statestream.core.errors import Malformed

MAX_HEADERS: Final = 8 << 10
MAX_SKIPPED: Final = 64 << 10
"""Bytes before the file."""
PART: Final = 512
"""What a part before the file counts beside its headers: each costs a search, even if it is empty."""
_BOUNDARY: Final = re.compile(r"""boundary=(?:"([^"\\\r\n]{1,70})"|([A-Za-z0-9'()+_,./:=?-]{1,70}))""", re.ASCII)
_FILENAME: Final = re.compile(r';\s*filename="((?:[^"\\]|\\.)*)"')
_ESCAPES: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}


def boundary_of(content_type: str) -> bytes:
    """The boundary that a `Content-Type` names. Raises Malformed."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise Malformed("expected `boundary` in the Content-Type of a multipart body")
    return (found[1] or found[2]).encode()


class FilePart:
    """`feed` it the body, and take the bytes of the file. `media_type` and `filename` are known once `begun`."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"  # the first boundary has no line break before it
        self._skipped = 0
        self._in_part = False
        self.begun = self.complete = False
        self.media_type, self.filename = "application/octet-stream", ""

    def feed(self, data: bytes) -> bytes:
        """Further bytes of the file. Raises Malformed."""
        self._held += data
        while not self.begun and self._advance():
            pass
        if not self.begun:
            return b""
        content, delimiter, rest = self._held.partition(self._delimiter)
        if delimiter:
            self.complete, self._held = True, rest
            return content
        keep = len(self._delimiter) - 1
        content, self._held = self._held[:-keep], self._held[-keep:]
        return content

    def _advance(self) -> bool:
        """Reads on before the file. Returns False if more bytes are needed. Raises Malformed."""
        if not self._in_part:
            before, delimiter, rest = self._held.partition(self._delimiter)
            if delimiter:
                self._skip(len(before))
                self._held, self._in_part = rest, True
                return True
            over = max(0, len(self._held) - len(self._delimiter) + 1)
            self._skip(over)
            self._held = self._held[over:]
            return False
        if self._held.startswith(b"--"):
            raise Malformed("expected a file in the multipart body, as in curl -F file=@picture.png")
        head, blank, rest = self._held.partition(b"\r\n\r\n")
        if len(head) > MAX_HEADERS + (0 if blank else 3):  # which may begin the blank line
            raise Malformed(f"expected the headers of a part in at most {MAX_HEADERS} bytes")
        if not blank:
            return False
        self._skip(PART + len(head))
        self._held, self._in_part = rest, False
        self.begun = self._is_file(head)
        return not self.begun

    def _skip(self, size: int) -> None:
        self._skipped += size
        if self._skipped > MAX_SKIPPED:
            raise Malformed("expected the file at the beginning of the multipart body")

    def _is_file(self, head: bytes) -> bool:
        """Whether a part with these headers is a file. Raises Malformed."""
        fields = dict(_fields(head))
        name = _FILENAME.search(fields.get("content-disposition", ""))
        if name is None:
            return False
        if fields.get("content-transfer-encoding", "binary").lower() not in ("binary", "8bit", "7bit"):
            raise Malformed("expected the file as it is, without a Content-Transfer-Encoding")
        if "content-encoding" in fields:
            raise Malformed("expected the file as it is, without a Content-Encoding")
        self.filename = re.sub(r"%22|%0D|%0A", lambda each: _ESCAPES[each[0]], re.sub(r"\\(.)", r"\1", name[1]))
        self.media_type = fields.get("content-type", self.media_type)
        return True


def _fields(head: bytes) -> list[tuple[str, str]]:
    """Raises Malformed."""
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        raise Malformed("expected the headers of a part in UTF-8") from None
    pairs = (line.partition(":") for line in lines[1:])  # the first is the rest of the boundary's
    return [(name.strip().lower(), value.strip()) for name, _, value in pairs]
