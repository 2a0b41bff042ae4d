"""AG-UI's `HttpAgent`: `POST /ag-ui`, with or without following the chat.

It comes back by running again with the messages that it holds. If its last run has asked for approval, it may answer
in the next run.

Invariants: what it posts is what `HttpAgent` posts. Activities are never posted.
"""

from __future__ import annotations

import secrets
from contextlib import nullcontext
from typing import Any

from statestream.tools.conformance.chats.ag_ui_thread import ThreadReader
from statestream.tools.conformance.chats.client import load_stream
from statestream.tools.conformance.chats.connections import Connection
from statestream.tools.conformance.chats.reply_under_test import RESULT, ReplyUnderTest
from statestream.tools.conformance.violation import Violation, expect


class AGUIClient:
    """An agent. `follows`: it follows the chat; `decides`: it answers what its runs have asked."""

    def __init__(self, reply: ReplyUnderTest, *, follows: bool, decides: bool) -> None:
        self.follows = follows
        self._reply, self._decides = reply, decides
        self.reader = ThreadReader({"id": reply.question, "role": "user", "content": reply.text})

    async def connect(self) -> Connection | None:
        decides = bool(self._decides and self.reader.over and self.reader.waits and not self._reply.stops)
        decided = self._decisions() if decides else {}
        self.reader.begin()
        messages = [message for message in self.reader.messages if message["role"] != "activity"]
        body = {"threadId": self._reply.chat, "runId": secrets.token_hex(8), "messages": messages, **decided}
        body |= {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        async with self._reply.turn() if decides else nullcontext():
            connection = await self._reply.server.events("POST", f"ag-ui?follow={int(self.follows)}", body)
        expect(connection is not None, "expected a run, got status 204")
        return connection

    def _decisions(self) -> dict[str, Any]:
        """The answers to the interrupts of the last run. Results of tools become messages."""
        if self._reply.approve:
            for call in self.reader.ending["outcome"].get("pendingToolCallIds", ()):
                self.reader.add_result(secrets.token_hex(8), call, RESULT)
        payload = {"approved": self._reply.approve}
        answers = [{"interruptId": id, "status": "resolved", "payload": payload} for id in self.reader.interrupts]
        return {"resume": answers} if answers else {}

    def take(self, frame: bytes) -> None:
        self.reader.take(frame)

    @property
    def ended(self) -> bool:
        return self.follows and self.reader.over and not self.reader.waits

    def end(self) -> None:
        expect(self.reader.over, "expected RUN_FINISHED or RUN_ERROR before the end of the stream")
        expect(not self.follows, "expected a stream that follows the chat to stay open, but it ended")

    async def lost(self, why: str) -> None:
        raise Violation(f"expected the run to continue, but {why}")

    def cut(self, rest: bytes) -> None:
        """Only whole blocks count."""

    async def load(self) -> None:
        """Runs with the question alone."""
        await load_stream(self)
