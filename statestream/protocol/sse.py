"""Server-Sent Events, to bytes and back (WHATWG HTML, section 9.2).

Invariants: pure; no I/O, no knowledge of the state stream's frames. The decoder accepts every stream that the standard
accepts, split anywhere, and keeps at most `limit` characters of an incomplete event.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from msgspec import Struct

from statestream.core.errors import TooLarge

_DIGITS: Final = re.compile(r"[0-9]+", re.ASCII)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
MAX_EVENT: Final = 64 << 20
MAX_DIGITS: Final = 4_000
"""Python refuses to parse longer integers; a `retry` of so many digits is for ever anyway."""


def encode(event: str, data: bytes, *, id: str | None = None, retry: int | None = None) -> bytes:
    """Encodes one event. `event`, `data` and `id` must not contain line ends: this is not verified here."""
    head = f"event: {event}\n"
    if id is not None:
        head += f"id: {id}\n"
    if retry is not None:
        head += f"retry: {retry}\n"
    return b"".join((head.encode(), b"data: ", data, b"\n\n"))


class Event(Struct, frozen=True, kw_only=True):
    """A decoded event. `last_id` is the last event id at that point, which an earlier event may have set."""

    event: str
    data: str
    last_id: str


class Decoder:
    """Bytes in, events out. A client reconnects with `last_id` after `retry` ms."""

    def __init__(self, *, last_id: str = "", limit: int = MAX_EVENT) -> None:
        self.last_id = last_id
        self.retry: int | None = None
        self._limit = limit
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = False
        self._after_cr = False
        self._rest: list[str] = []  # the pieces of a line that has no end yet
        self._size = 0
        self._event = ""
        self._id = last_id
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Returns the events that `chunk` completes. Raises TooLarge if one is longer than the limit."""
        text = self._decode.decode(chunk)
        if not self._begun and text:
            self._begun = True
            text = text.removeprefix("\ufeff")  # a byte order mark at the very beginning is not part of the stream
        if self._after_cr and text:
            text = text.removeprefix("\n")  # CR LF is one line end, even if a chunk ends between the two
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
        events = []
        *lines, rest = _LINE_END.split(text)
        for line in lines:
            event = self._line(self._complete(line))
            if event is not None:
                events.append(event)
        if rest:
            self._grow(len(rest))
            self._rest.append(rest)
        return events

    def _complete(self, line: str) -> str:
        if not self._rest:
            return line
        held = "".join(self._rest)
        self._rest.clear()
        self._size -= len(held)
        return held + line

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise TooLarge(f"expected events of at most {self._limit} characters, got a longer event")

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, colon, value = line.partition(":")
        if colon:
            value = value.removeprefix(" ")
        if name == "data":
            self._grow(len(value) + 1)  # and the line feed between two lines, or empty ones would cost nothing
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:  # the standard ignores an id with a NUL
            self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            self.retry = int(value.lstrip("0")[:MAX_DIGITS] or 0)
        return None

    def _dispatch(self) -> Event | None:
        self.last_id = self._id  # even without data: the standard sets it before it looks at the data
        data, event = self._data, self._event
        self._data, self._event, self._size = [], "", 0
        if not data:
            return None
        return Event(event=event or "message", data="\n".join(data), last_id=self.last_id)
