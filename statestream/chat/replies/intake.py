"""What has come of one reply and is not written yet: the reader fills it, the writer empties it.

Invariants: both are tasks of one event loop, and only the reader takes pieces. Nothing here writes to the chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from msgspec import Struct

from statestream.chat.agents import AgentPiece, HandOver
from statestream.chat.models import Finish, ModelFailed, Opaque, Refusal, Usage
from statestream.chat.prices import Spending
from statestream.chat.replies.ends import OVER_BUDGET
from statestream.chat.replies.measurements import Measurements
from statestream.chat.replies.pieces import add
from statestream.chat.replies.reply_builder import ReplyBuilder

PIECES_BETWEEN_PAUSES: Final = 64
"""After this many pieces other tasks get a turn, even if the reader itself never waits."""


class Taken(Struct, frozen=True, kw_only=True):
    """How pieces have ended: with which finish reason, if any, and whether one of them declined to answer.

    `to` is the agent that continues, if the last piece has handed over.
    """

    reason: str | None
    declined: bool
    to: HandOver | None = None


class Intake:
    """The parts of a reply as they come. `stopping` says that the reader is to end.

    `news` is set when there is something to write, or the reader has ended; `written` when nothing is left to write.
    """

    def __init__(self, builder: ReplyBuilder, spending: Spending) -> None:
        self.builder, self.spending = builder, spending
        self.measurements = Measurements(spending)
        self.news, self.written = asyncio.Event(), asyncio.Event()
        self.stopping = False
        self._silence: asyncio.Timeout | None = None
        self._idle = 0.0
        self._count = 0

    def begin(self) -> None:
        """The run has waited for its turn, and begins now."""
        self.measurements.begin()
        self.builder.began()
        self.news.set()

    def take(self, piece: AgentPiece) -> None:
        """Adds a piece. Raises ModelFailed if the reply cannot hold it, and what `add` raises if it is none."""
        self._add(self.builder, piece)

    async def take_nested(self, builder: ReplyBuilder, piece: AgentPiece) -> None:
        """Adds a piece of a nested run: whoever has begun it is not silent meanwhile. Raises what `take` raises."""
        if self.stopping:
            raise asyncio.CancelledError
        self.heard()
        self._add(builder, piece)
        await self._pause()

    def heard(self) -> None:
        """Whoever makes the reply works, although it has yielded nothing."""
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._idle)

    def _add(self, builder: ReplyBuilder, piece: AgentPiece) -> None:
        if isinstance(piece, Finish):
            return
        if isinstance(piece, Usage):
            self.spending.add(piece)
            return
        if not isinstance(piece, Opaque):
            self.measurements.piece()
        add(builder, piece)
        self.news.set()

    async def read(self, pieces: AsyncIterator[AgentPiece], silence: asyncio.Timeout, idle: float) -> Taken:
        """Takes all of them. `silence` is put off by `idle` seconds with each.

        Raises what `take` raises, and CancelledError if the reply was stopped.
        """
        loop, reason, declined = asyncio.get_running_loop(), None, False
        self._silence, self._idle = silence, idle
        try:
            async for piece in pieces:
                silence.reschedule(loop.time() + idle)
                if isinstance(piece, HandOver):
                    return Taken(reason=reason, declined=declined, to=piece)
                declined = declined or isinstance(piece, Refusal)
                reason = piece.reason if isinstance(piece, Finish) else reason
                self.take(piece)
                await self._pause()
        finally:
            self._silence = None
        return Taken(reason=reason, declined=declined)

    async def _pause(self) -> None:
        self._count += 1
        if self._count % PIECES_BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)
        if self.stopping:  # whoever makes the pieces may have swallowed the cancellation
            raise asyncio.CancelledError

    async def within_budget(self, pieces: AsyncIterator[AgentPiece]) -> AsyncIterator[AgentPiece]:
        """The pieces. Raises ModelFailed if an agent goes on although the reply has used more than its budget."""
        async for piece in pieces:
            exceeded = None if isinstance(piece, Usage | Finish) else self.spending.exceeded
            if exceeded is not None:
                raise ModelFailed(OVER_BUDGET, exceeded)
            yield piece

    async def in_the_chat(self) -> None:
        """Returns when everything that was taken is in the chat."""
        self.written.clear()
        self.news.set()
        await self.written.wait()
