"""Asks a model again if it fails in a way that usually passes, before the first piece of its answer.

The pauses grow exponentially and differ at random, so that many replies do not come back at the same moment. A pause is
at least as long as the provider asks for. In the meantime, the status of the reply says what happens.

Invariants: whatever was yielded is never asked for again. Nobody else retries: the packages of the providers do not. No
attempt begins later than a first piece may take.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Final

from statestream.chat.agents import Status
from statestream.chat.models import ModelFailed, Piece

log = logging.getLogger("statestream")

FIRST_PAUSE: Final = 0.5
"""The longest pause before the first retry, in seconds. Each further one may be twice as long."""
LEAST_PART: Final = 0.5
"""The shortest pause, as a part of the longest one."""


class Retrying:
    """`most` retries, within `seconds` from the first attempt on. `retried` counts them, by the kind of the failure."""

    def __init__(self, most: int, seconds: float, retried: Callable[[str], None]) -> None:
        self._most, self._seconds, self._retried = most, seconds, retried

    async def pieces(self, ask: Callable[[], AsyncIterator[Piece]], name: str) -> AsyncGenerator[Piece | Status]:
        """What the model yields that `ask` asks, and statuses. Raises ModelFailed."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._seconds
        for attempt in range(self._most + 1):
            begun, pieces = False, ask()
            try:
                async with _closing(pieces):
                    async for piece in pieces:
                        if attempt and not begun:
                            yield Status(text="")
                        begun = True
                        yield piece
            except ModelFailed as failure:
                pause = _pause(attempt, failure)
                if begun or attempt == self._most or not failure.temporary or loop.time() + pause >= until:
                    raise
                log.warning("the model %s failed (%s); asking again in %.1f s", name, failure.kind, pause)
                self._retried(failure.kind)
                sentence = f"{str(failure).partition('.')[0]}. Trying again in {math.ceil(pause)} s."
            else:
                return
            yield Status(text=sentence)
            await asyncio.sleep(pause)


def _pause(attempt: int, failure: ModelFailed) -> float:
    longest = FIRST_PAUSE * (1 << attempt)
    pause = longest * random.uniform(LEAST_PART, 1.0)  # noqa: S311 - only spreads
    return pause if failure.wait is None else max(pause, failure.wait)


@contextlib.asynccontextmanager
async def _closing(pieces: AsyncIterator[Piece]) -> AsyncIterator[None]:
    """Closes what a generator has open, even if the caller stops early."""
    try:
        yield
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
