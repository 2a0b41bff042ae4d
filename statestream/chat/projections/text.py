"""A reply as plain text: what is new of it since the viewer last looked.

The protocol knows text only: reasoning and tools are left out, and it has no word for failure.

Invariants: the cursor is a part, and how much of it was seen.
"""

from __future__ import annotations

from statestream.chat.messages import Message, over
from statestream.chat.projections.growing import Growing


class TextProjection:
    """One viewer of one reply. `new` may be asked at any time, also for the first time in the middle."""

    def __init__(self) -> None:
        self._part = 0
        self._seen = Growing()

    def new(self, message: Message) -> str:
        """The text behind what was given before; empty if there is none."""
        text = ""
        parts = message["parts"]
        while self._part < len(parts):
            part = parts[self._part]
            if part["type"] == "text":
                text += self._seen.new(part)
            if not over(message, self._part):
                break
            self._part, self._seen = self._part + 1, Growing()
        return text
