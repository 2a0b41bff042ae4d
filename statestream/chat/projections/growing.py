"""How much of a part a viewer has seen: what every projection's cursor is made of.

Invariants: a look costs what is new, not what there is, and the fold of chunks into text adds nothing.
"""

from __future__ import annotations

from statestream.chat.messages import Part, shown


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
