"""A reply as plain text: what is new of it since the viewer last looked.

The protocol knows text only: reasoning and tools are left out, and it has no word for failure.

Law: the cursor is a part, and in it characters and chunks, so that a look costs what is new, not what there is. The
fold of chunks into text adds nothing.
"""

from __future__ import annotations

from statestream.chat.messages import Message, Part, over, shown


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


class Growing:
    """How much of one part a viewer has seen."""

    __slots__ = ("characters", "chunks")

    def __init__(self) -> None:
        self.characters = 0
        self.chunks = 0

    def new(self, part: Part) -> str:
        """The text of the part behind what was given before."""
        chunks = part.get("chunks", ())
        text = "".join(chunks[self.chunks :]) if chunks and self.characters else shown(part)[self.characters :]
        self.chunks = len(chunks)
        self.characters += len(text)
        return text
