"""The text that a client of the plain-text stream holds.

Invariants: pure. Bytes are decoded as they come: an incomplete character waits for its rest. Plain text has no ids and
no positions, so a client that was cut keeps nothing: it loads the reply.
"""

from __future__ import annotations

import codecs

from statestream.tools.conformance.violation import Violation, expect


class PlainTextReader:
    """`take` reads any bytes of the body."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A body begins."""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""

    def load(self, text: str) -> None:
        """The text was loaded."""
        self.begin()
        self._text = text

    def take(self, data: bytes) -> None:
        """Raises Violation if it is not UTF-8."""
        try:
            self._text += self._decoder.decode(data)
        except UnicodeDecodeError:
            raise Violation(f"expected UTF-8, got {data[:80]!r}") from None

    def end(self) -> None:
        """The body is complete. Raises Violation if its last character is not."""
        expect(not self._decoder.getstate()[0], "expected whole characters, but the last one is incomplete")

    def held(self) -> dict[str, str]:
        return {"text": self._text}

    def texts(self) -> dict[str, str]:
        return self.held()
