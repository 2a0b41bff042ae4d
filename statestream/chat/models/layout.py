"""The layout of an answer: what stands between its text and its calls, such as a signed thought.

    {"text": 12, "calls": 0, "item": {…}}     after 12 characters of the answer's text and none of its calls

Some providers reject an answer that comes back in a different order. A turn keeps the text of an answer, its calls and
its opaque data separately. So each item of opaque data says where it belongs.

Invariants: pure. Even if the text or the calls have changed since, each of them is in the result exactly once. No item
comes last, because providers require something after every thought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from statestream.chat.models import Opaque, ToolCall, Turn
from statestream.chat.models.opaque import json_text


class Place:
    """The progress of an answer: the characters of its text, and its calls."""

    def __init__(self) -> None:
        self.text = self.calls = 0

    def of(self, item: dict[str, Any]) -> Opaque:
        """An item that belongs here. Raises ModelFailed if it is not JSON."""
        return Opaque(data=json_text({"text": self.text, "calls": self.calls, "item": item}))

    def copy(self) -> Place:
        """The place where the answer is now."""
        place = Place()
        place.text, place.calls = self.text, self.calls
        return place


def parts_of(turn: Turn, *, items: bool = True) -> list[str | ToolCall | dict[str, Any]]:
    """The text, the calls and the items of an answer, in order. `items`: whether to include the items.

    No part of the text is blank: blank text is joined to the text that follows, and omitted at the end.
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
