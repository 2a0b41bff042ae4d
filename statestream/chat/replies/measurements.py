"""What is measured of one run: how long it took, and how much the model produced.

Invariants: numbers only, and only from the clock of this process.
"""

from __future__ import annotations

import asyncio

from msgspec.structs import asdict

from statestream.chat.models import Usage


class Measurements:
    """The measurements of a run that begins now. Used in a running event loop."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._first: float | None = None
        self._pieces = 0
        self.usage: dict[str, int] = {}
        """Tokens, summed over the steps of the reply."""

    def piece(self) -> None:
        """Counts a piece of text, reasoning or a tool call."""
        if self._first is None:
            self._first = asyncio.get_running_loop().time()
        self._pieces += 1

    def add(self, usage: Usage) -> None:
        for name, tokens in asdict(usage).items():
            self.usage[name] = self.usage.get(name, 0) + tokens

    def figures(self) -> dict[str, float]:
        """Milliseconds in all and until the first piece, the number of pieces, and tokens per second since then."""
        now = asyncio.get_running_loop().time()
        figures: dict[str, float] = {"duration_ms": round((now - self._began) * 1000), "pieces": self._pieces}
        if self._first is not None:
            figures["first_piece_ms"] = round((self._first - self._began) * 1000)
            if "output" in self.usage and now > self._first:
                figures["tokens_per_second"] = round(self.usage["output"] / (now - self._first), 1)
        return figures
