"""The events of a provider's stream: bytes in, JSON values out; and functions that read untrusted values.

Invariants: pure. Wherever the bytes are split, the events are the same. Whatever the bytes are, only ModelFailed is
raised, with a sentence of ours. The size of an event is limited.
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

from statestream.chat.models import ModelFailed
from statestream.chat.models.failures import BROKEN_OFF, TOO_MUCH
from statestream.core.errors import TooLarge
from statestream.core.values import MAX_INT
from statestream.protocol.sse import Decoder, Event

MAX_EVENT: Final = 4 << 20


class Events:
    """Splits the bytes of a stream into its events."""

    def __init__(self) -> None:
        self._decoder = Decoder(limit=MAX_EVENT)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Raises ModelFailed."""
        try:
            return self._decoder.feed(data)
        except TooLarge:
            raise ModelFailed(*TOO_MUCH) from None


def value_of(event: Event) -> Any:
    """The JSON of an event. Falls back to `json`: orjson rejects half a surrogate pair, which providers send."""
    try:
        return orjson.loads(event.data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(event.data)
        except (ValueError, RecursionError):
            raise ModelFailed(*BROKEN_OFF) from None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; none if the value is not a list."""
    return [item for item in value if type(item) is dict] if type(value) is list else []


def object_in(value: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of that name, or an empty one."""
    found = value.get(name)
    return found if type(found) is dict else {}


def text_in(value: dict[str, Any], name: str) -> str:
    """The text of that name, or an empty one."""
    text = value.get(name)
    return text if type(text) is str else ""


def index_in(value: dict[str, Any], name: str) -> int | None:
    """The whole number of that name, or None."""
    index = value.get(name)
    return index if type(index) is int else None


def count_in(value: Any, name: str) -> int:
    """The count of that name, or 0."""
    count = value.get(name) if type(value) is dict else None
    return count if type(count) is int and 0 <= count <= MAX_INT else 0
