"""A structured line of the log: an event and its fields.

Invariants: the fields are ids, numbers and words of our own, and names that an authenticator has checked. Nothing that
a client has sent otherwise is ever one of them. A line is made into text where it is written, which may be another
thread, so it never changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson
from msgspec import Struct

Value = str | int | float
_PLAIN: Final = re.compile(r"[\w./:{}@%+,*-]+", re.ASCII)


class Line(Struct, frozen=True, kw_only=True):
    """Pass it to a logger as the message. As text it is `event name=value …`."""

    event: str
    fields: Mapping[str, Value]

    def __str__(self) -> str:
        return " ".join((self.event, *(f"{name}={_text(value)}" for name, value in self.fields.items())))


def line(event: str, **fields: Value | None) -> Line:
    """A line without the fields that are None."""
    return Line(event=event, fields={name: value for name, value in fields.items() if value is not None})


def _text(value: Value) -> str:
    """Quoted if it could be taken for more than one field, or for more than one line."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else orjson.dumps(text).decode()
