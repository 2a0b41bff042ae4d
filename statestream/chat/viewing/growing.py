"""What a viewer has received of a part, or of the text of a reply: what the places of all projections are made of.

Invariants: the cost of a look is that of what is new. Folding the chunks into the text adds nothing.
"""

from __future__ import annotations

from statestream.chat.messages import Message, Part, full_text, is_finished


class Growing:
    """How much of one part a viewer has received."""

    __slots__ = ("characters", "chunks")

    def __init__(self) -> None:
        self.characters = 0
        self.chunks = 0

    def new(self, part: Part) -> str:
        """The text of the part that follows what was returned before."""
        chunks = part.get("chunks", ())
        text = "".join(chunks[self.chunks :]) if chunks and self.characters else full_text(part)[self.characters :]
        self.chunks = len(chunks)
        self.characters += len(text)
        return text


class GrowingText:
    """The text of one reply, as it grows."""

    def __init__(self) -> None:
        self._part = 0
        self._growing = Growing()

    def new(self, message: Message) -> str:
        """The text that follows what was returned before, or nothing."""
        text = ""
        parts = message["parts"]
        while self._part < len(parts):
            part = parts[self._part]
            if part["type"] == "text":
                text += self._growing.new(part)
            if not is_finished(message, self._part):
                break
            self._part, self._growing = self._part + 1, Growing()
        return text
