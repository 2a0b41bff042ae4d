"""A reply as plain text.

Invariants: the place of the viewer is a part, and how much of it was received.
"""

from __future__ import annotations

from statestream.chat.messages import find
from statestream.chat.viewing.projection import GrowingText, Item, Look


class TextProjection:
    """One viewer of one reply."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._text = GrowingText()
        self.over = self.truncated = False

    def new(self, look: Look) -> list[Item]:
        """The text that follows that of the last look, if there is any."""
        message = find(look.state, self._reply)
        if message is None:  # it was trimmed, or the history is another one
            self.over = self.truncated = True
            return []
        self.over = message["status"] != "streaming"
        self.truncated = message["status"] == "error" or (look.last and not self.over)
        text = self._text.new(message)
        return [text] if text else []
