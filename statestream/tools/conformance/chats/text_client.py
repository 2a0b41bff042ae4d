"""A client of the stream of plain text: `POST /api/chats/{id}/stream`.

Plain text cannot be resumed. The server says so (`GET` is answered with 204), and a client that was cut loads the reply
from `GET /api/chats/{id}`, again until it is over. What it had received must be the beginning of that text.

Invariants: a response ends where the reply waits. A response that breaks off says that the reply has failed.
"""

from __future__ import annotations

from statestream.tools.conformance.chats.chat_server import in_path
from statestream.tools.conformance.chats.connections import Connection
from statestream.tools.conformance.chats.plain_text import PlainTextReader
from statestream.tools.conformance.chats.reply_under_test import ReplyUnderTest
from statestream.tools.conformance.violation import expect


class TextClient:
    """A client that posts the question, as everybody does who wants to read along."""

    follows = False
    ended = False

    def __init__(self, reply: ReplyUnderTest) -> None:
        self._reply = reply
        self.reader = PlainTextReader()
        self._path = f"api/chats/{in_path(reply.chat)}/stream"
        self._cut = False

    async def connect(self) -> Connection | None:
        if self._cut:
            nothing = await self._reply.server.text(self._path)
            expect(nothing is None, "expected nothing to resume, got a stream")
            await self.load()
            return None
        self.reader.begin()
        parts = [{"type": "text", "text": self._reply.text}]
        question = {"id": self._reply.question, "role": "user", "parts": parts}
        connection = await self._reply.server.text(self._path, {"messages": [question]})
        expect(connection is not None, "expected a stream, got status 204")
        return connection

    def take(self, frame: bytes) -> None:
        self.reader.take(frame)

    def end(self) -> None:
        self.reader.end()

    async def lost(self, why: str) -> None:
        await self._reply.look()
        expect(self._reply.status == "error", f"expected the text to continue, but {why}")
        self.end()

    def cut(self, rest: bytes) -> None:
        """Every byte counts."""
        self.reader.take(rest)
        self._cut = True

    async def load(self) -> None:
        await self._reply.look()
        parts = self._reply.message["parts"]
        texts = (part["text"] + "".join(part.get("chunks", ())) for part in parts if part["type"] == "text")
        self.reader.load("".join(texts))
