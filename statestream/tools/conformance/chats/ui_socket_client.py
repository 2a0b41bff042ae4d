"""A page with the AI SDK's `useChat`, over a WebSocket: `WebSocketChatTransport` of its major 7.

It comes back with `resume`. Like the SDK, it sends no `lastSequence`: a resumed request begins again with the number 0.

Invariants: numbers of chunks have no gap, and nothing of another request is in a request.
"""

from __future__ import annotations

import secrets
from typing import Any

from statestream.tools.conformance.chats.connections import Connection, Lost, SocketConnection
from statestream.tools.conformance.chats.event_blocks import object_of
from statestream.tools.conformance.chats.ui_client import UIPage
from statestream.tools.conformance.violation import Violation, expect


class UISocketClient(UIPage):
    """A page over a WebSocket."""

    _request = ""
    _sequence = -1
    _begun = False
    ended = False

    async def connect(self) -> Connection | None:
        posted = self._to_post()
        connection = await self.reply.server.socket("api/chat")
        self._request, self._sequence, self._begun, self.ended = secrets.token_hex(8), -1, False, False
        command: dict[str, Any] = {"requestId": self._request, "id": self.reply.chat, "headers": {}, "body": {}}
        if posted is None:
            command["type"] = "resume"
        else:
            command |= {"type": "send", "trigger": "submit-message", "messages": [posted]}
        if posted is not None:
            async with self._turn(posted):
                await self._sent(connection, command)
        elif await self._sent(connection, command) == "no-active":
            await connection.close()
            await self.load()
            return None
        return connection

    async def _sent(self, connection: SocketConnection, command: Any) -> str:
        """Sends a command. Returns the type of the first item of its request, when that has come."""
        await connection.send(command)
        try:
            first = await connection.next()
        except Lost as lost:
            raise Violation(f"expected an answer to {command['type']}, but {lost}") from None
        connection.put_back(first)
        return str(object_of(first)["type"])

    def take(self, frame: bytes) -> None:
        item = object_of(frame)
        kind = item["type"]
        expect(item.get("requestId") == self._request, f"expected {kind} with its requestId, got another one")
        expect(self._begun or kind in ("start", "error"), f"expected start as the first item, got {kind}")
        match kind:
            case "start":
                expect(not self._begun, "expected start once, got another one")
                self._begun = True
            case "chunk":
                self._sequence += 1
                number = item.get("sequence")
                expect(number == self._sequence, f"expected the sequence {self._sequence}, got {number}")
                self.reader.chunk(item["chunk"])
            case "end":
                expect(self.reader.over, "expected finish, abort or error before the end of the request")
                self.ended = self._whole = True
            case _:
                raise Violation(f"expected the request to continue, got {kind}: {item.get('errorText')}")

    def end(self) -> None:
        raise Violation("expected the WebSocket to stay open, but it ended")
