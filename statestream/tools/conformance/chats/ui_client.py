"""A page with the AI SDK's `useChat`, over HTTP.

It comes back with `GET /api/chat/{id}/stream`, which shows the reply from its beginning. If nothing is in progress
(204), it loads `GET /api/chat/{id}`. When a reply has waited, the page that decides posts the decision, and the stream
continues the message that it holds.

Invariants: what it posts is what the SDK posts.
"""

from __future__ import annotations

import copy
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from statestream.tools.conformance.chats.chat_server import in_path
from statestream.tools.conformance.chats.connections import Connection
from statestream.tools.conformance.chats.reply_under_test import NOT_RUN, RESULT, ReplyUnderTest
from statestream.tools.conformance.chats.ui_message import UIMessageReader
from statestream.tools.conformance.violation import Violation, expect


class UIPage:
    """What pages have in common, over whatever transport. `asks`: the page asks; `decides`: it decides, too."""

    def __init__(self, reply: ReplyUnderTest, *, asks: bool, decides: bool) -> None:
        self.reply, self.reader = reply, UIMessageReader()
        self._asks, self._decides = asks, decides
        self._whole = False
        """Whether the page holds all that there was, so that it may continue from there."""

    @property
    def follows(self) -> bool:
        return False

    def cut(self, rest: bytes) -> None:
        self._whole = False

    async def lost(self, why: str) -> None:
        raise Violation(f"expected the stream to continue, but {why}")

    async def load(self) -> None:
        chat = self.reply.chat
        messages = (await self.reply.server.ask("GET", f"api/chat/{in_path(chat)}"))["messages"]
        replies = [message for message in messages if message["role"] == "assistant"]
        expect(replies, f"expected the reply in GET /api/chat/{chat}, got {len(messages)} messages without it")
        self.reader.load(replies[-1])
        self._whole = True

    def _turn(self, posted: dict[str, Any]) -> AbstractAsyncContextManager[None]:
        """The context of posting that: a decision makes the reply continue, a question that was asked does not."""
        return self.reply.turn() if posted["role"] == "assistant" else nullcontext()

    def _to_post(self) -> dict[str, Any] | None:
        """What the page posts now: its question, or its decisions. None if it only resumes."""
        if self._asks:
            self._asks = False
            self.reader.begin()
            parts = [{"type": "text", "text": self.reply.text}]
            return {"id": self.reply.question, "role": "user", "parts": parts}
        whole, self._whole = self._whole, False
        if self._decides and whole and self.reader.waits and not self.reply.stops:
            decided = copy.deepcopy(self.reader.message)
            for part in decided["parts"]:
                self._decide(part)
            self.reader.message["parts"] = copy.deepcopy(decided["parts"])
            self.reader.go_on()
            return decided
        self.reader.begin()
        return None

    def _decide(self, part: dict[str, Any]) -> None:
        """As `addToolApprovalResponse` and `addToolOutput` do."""
        if part.get("state") == "approval-requested":
            part["state"] = "approval-responded"
            part["approval"] = {**part["approval"], "approved": self.reply.approve}
        elif part.get("state") == "input-available":
            output = {"state": "output-available", "output": RESULT}
            part |= output if self.reply.approve else {"state": "output-error", "errorText": NOT_RUN}


class UIClient(UIPage):
    """A page over HTTP."""

    @property
    def ended(self) -> bool:
        return False

    async def connect(self) -> Connection | None:
        server, posted = self.reply.server, self._to_post()
        if posted is not None:
            body = {"id": self.reply.chat, "messages": [posted], "trigger": "submit-message"}
            async with self._turn(posted):
                return await server.events("POST", "api/chat", body)
        connection = await server.events("GET", f"api/chat/{in_path(self.reply.chat)}/stream")
        if connection is None:
            await self.load()
        return connection

    def take(self, frame: bytes) -> None:
        self.reader.take(frame)

    def end(self) -> None:
        expect(self.reader.over, "expected finish, abort or error before the end of the stream")
        self._whole = True
