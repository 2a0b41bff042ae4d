"""A reply as plain text: what is new of it since the viewer last looked.

Law: the cursor is a number of characters, and of chunks so that a look costs what is new, not what
there is. The fold of chunks into text adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statestream.chat.slice import text_of


class TextProjection:
    """One viewer of one reply. `new` may be asked at any time, also for the first time in the middle."""

    def __init__(self) -> None:
        self._characters = 0
        self._chunks = 0

    def new(self, message: Mapping[str, Any]) -> str:
        """The text behind what was given before; empty if there is none."""
        chunks = message["parts"][-1].get("chunks")
        if chunks is None or self._characters == 0:
            text = text_of(message)[self._characters :]
        else:
            text = "".join(chunks[self._chunks :])
        self._chunks = len(chunks or ())
        self._characters += len(text)
        return text
