"""The layout of an answer: what stands between its text and its calls, such as a signed thought.

    {"text": 12, "calls": 0, "item": {…}}     after 12 characters of the answer's text and none of its calls

Some providers refuse an answer that comes back in another order. A turn has the text of an answer, its calls and its
opaque data one after the other. So each item of opaque data says where it belongs.

Invariants: pure. Whatever became of the text and the calls since, each of them is in the result once. No item is the
last: providers want every thought followed by what was thought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from statestream.chat.models import Opaque, ToolCall, Turn
from statestream.chat.models.opaque import json_text


class Place:
    """How far an answer has come: the characters of its text, and its calls."""

    def __init__(self) -> None:
        self.text = self.calls = 0

    def of(self, item: dict[str, Any]) -> Opaque:
        """An item that belongs here. Raises ModelFailed if it is no JSON."""
        return Opaque(data=json_text({"text": self.text, "calls": self.calls, "item": item}))

    def copy(self) -> Place:
        """The place where the answer is now."""
        place = Place()
        place.text, place.calls = self.text, self.calls
        return place


def parts_of(turn: Turn, *, items: bool = True) -> list[str | ToolCall | dict[str, Any]]:
    """The text, the calls and the items of an answer, in order. `items`: whether these are wanted.

    No part of the text is blank: blank text belongs to what follows it, and is left out at the end.
    """
    parts = [part for part in _parts(turn, items) if not isinstance(part, str) or part.strip()]
    while parts and isinstance(parts[-1], dict):
        parts.pop()
    return parts


def _parts(turn: Turn, items: bool) -> Iterator[str | ToolCall | dict[str, Any]]:
    text = calls = 0
    for kept in _sorted(turn.opaque) if items else ():
        if turn.text[text : kept["text"]].strip():
            yield turn.text[text : kept["text"]]
            text = kept["text"]
        if kept["calls"] > calls:
            yield from turn.calls[calls : kept["calls"]]
            calls = kept["calls"]
        yield kept["item"]
    yield turn.text[text:]
    yield from turn.calls[calls:]


def _sorted(opaque: tuple[str, ...]) -> list[dict[str, Any]]:
    return sorted((json.loads(data) for data in opaque), key=lambda kept: (kept["text"], kept["calls"]))
