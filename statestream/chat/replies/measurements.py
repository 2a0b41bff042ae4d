"""Measurements of runs: how long they took, how fast the model was, what it cost; of one run, and of all of a process.

Invariants: numbers only, nothing of a chat. A run is counted once, when it has ended. The time of a run includes its
tools and the writing of its pieces.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from statestream.chat.prices import Spending
from statestream.core.histogram import Histogram

RUN_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
PER_SECOND: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)
PIECES: Final = (1, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)

ENDS: Final = ("complete", "waiting", "stopped", "elsewhere", "lost")
"""How a run ends, apart from the kinds of errors."""


class Measurements:
    """The measurements of a run that begins now, or has its place and begins later. Used in a running event loop.

    `spending` is what its reply has used.
    """

    def __init__(self, spending: Spending) -> None:
        self.spending = spending
        self._began = asyncio.get_running_loop().time()
        self._queued = 0.0
        self._first: float | None = None
        self._pieces = 0

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, summed over the steps of the run."""
        return self.spending.usage

    def begin(self) -> None:
        """The run has waited for its turn until now."""
        now = asyncio.get_running_loop().time()
        self._began, self._queued = now, now - self._began

    def piece(self) -> None:
        """Counts a piece of text, reasoning or a tool call."""
        if self._first is None:
            self._first = asyncio.get_running_loop().time()
        self._pieces += 1

    def figures(self) -> dict[str, float]:
        """Milliseconds in all and until the first piece, the number of pieces, tokens per second since then, and the
        milliseconds for which the run has waited before that, if it has.
        """
        now = asyncio.get_running_loop().time()
        figures: dict[str, float] = {"duration_ms": round((now - self._began) * 1000), "pieces": self._pieces}
        if self._queued:
            figures["queued_ms"] = round(self._queued * 1000)
        if self._first is not None:
            figures["first_piece_ms"] = round((self._first - self._began) * 1000)
            if "output" in self.usage and now > self._first:
                figures["tokens_per_second"] = round(self.usage["output"] / (now - self._first), 1)
        return figures


class Totals:
    """The runs of one process. `ended` counts them by how they ended, see `ReplyRun.outcome`; `tokens` by kind.

    `retried` counts how often models were asked again, by the kind of the failure before. `cost` is what replies have
    cost, by the model or agent.
    """

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.cost: dict[str, float] = {}
        self.seconds, self.first_piece = Histogram(RUN_SECONDS), Histogram(RUN_SECONDS)
        self.pieces, self.tokens_per_second = Histogram(PIECES), Histogram(PER_SECOND)

    def retried_after(self, kind: str) -> None:
        """A model is asked again after such a failure."""
        self.retried[kind] += 1

    def add(self, outcome: str, measured: Measurements, maker: str) -> None:
        """Counts a run that has ended now. `maker` is the model or agent."""
        self.ended[outcome] += 1
        self.tokens.update(measured.usage)
        if measured.spending.cost is not None:
            self.cost[maker] = self.cost.get(maker, 0.0) + measured.spending.cost
        figures = measured.figures()
        self.seconds.observe(figures["duration_ms"] / 1000)
        self.pieces.observe(figures["pieces"])
        if "first_piece_ms" in figures:
            self.first_piece.observe(figures["first_piece_ms"] / 1000)
        if "tokens_per_second" in figures:
            self.tokens_per_second.observe(figures["tokens_per_second"])
