"""A subscriber of the chat's slice: `GET /stream/state?slices=chat/<id>`.

Invariants: it comes back with its cursor as `Last-Event-ID`, and keeps what it holds.
"""

from __future__ import annotations

from statestream.tools.conformance.chats.client import load_stream
from statestream.tools.conformance.chats.connections import Connection
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.chats.slice_replica import SliceReader
from statestream.tools.conformance.violation import Violation, expect


class StateClient:
    """A subscriber."""

    follows = True

    def __init__(self, reply: ReplyUnderTest) -> None:
        self._reply = reply
        self.reader = SliceReader(f"chat/{reply.chat}")

    async def connect(self) -> Connection | None:
        self.reader.begin()
        cursor = self.reader.replica.position
        headers = {} if cursor is None else {"Last-Event-ID": cursor}
        connection = await self._reply.server.events("GET", f"stream/state?slices={self.reader.name}", None, headers)
        expect(connection is not None, "expected a stream, got status 204")
        return connection

    def take(self, frame: bytes) -> None:
        self.reader.take(frame)

    @property
    def ended(self) -> bool:
        return self.reader.finished(self._reply.id)

    def end(self) -> None:
        raise Violation("expected the stream to continue, but it ended")

    async def lost(self, why: str) -> None:
        raise Violation(f"expected the stream to continue, but {why}")

    def cut(self, rest: bytes) -> None:
        """Only whole frames count."""

    async def load(self) -> None:
        """Subscribes without a cursor."""
        await load_stream(self)
