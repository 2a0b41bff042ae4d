"""A client of the WebSocket in three phases: `GET /ws`.

Invariants: it comes back with the last position that it has received, and keeps what it holds.
"""

from __future__ import annotations

from statestream.tools.conformance.chats.client import load_stream
from statestream.tools.conformance.chats.connections import Connection
from statestream.tools.conformance.chats.phases_chat import PhasesReader
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.violation import Violation


class PhasesClient:
    """A client. `asks`: it asks the question."""

    follows = True

    def __init__(self, reply: ReplyUnderTest, *, asks: bool) -> None:
        self._reply, self._asks = reply, asks
        self.reader = PhasesReader()

    async def connect(self) -> Connection | None:
        self.reader.begin()
        place = {"session_id": self._reply.chat, "position": self.reader.position}
        connection = await self._reply.server.socket("ws", **place)
        if self._asks:
            self._asks = False
            question = {"type": "message", "content": self._reply.text, "id": self._reply.question}
            await connection.send({**question, "session_id": self._reply.chat})
        return connection

    def take(self, frame: bytes) -> None:
        self.reader.take(frame)

    @property
    def ended(self) -> bool:
        return self._reply.id in self.reader.ended

    def end(self) -> None:
        raise Violation("expected the WebSocket to stay open, but it ended")

    async def lost(self, why: str) -> None:
        raise Violation(f"expected the WebSocket to stay open, but {why}")

    def cut(self, rest: bytes) -> None:
        """Only whole messages count."""

    async def load(self) -> None:
        """Connects without a position."""
        await load_stream(self)
