"""The slice of a chat that a subscriber of the state holds.

Invariants: pure. The strict replica applies the frames: a change that is lost, or that comes twice, is a violation. A
client comes back with its cursor, and the server must honour it. Chunks of text count as the text that they make.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.tools.conformance.chats.event_blocks import text_of
from statestream.tools.conformance.strict_replica import ParsedFrame, StrictReplica
from statestream.tools.conformance.violation import expect

UNFINISHED: Final = ("streaming", "waiting")


class SliceReader:
    """`name` is the slice of the chat. `replica` has its state and the cursor."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.replica = StrictReplica()

    def begin(self) -> None:
        """A stream begins: what is held stays."""

    def held(self) -> dict[str, Any]:
        """What the chat shows. A title may come at any time after the reply."""
        chat = self.replica.state.get(self.name, {})
        return {"leaf": chat.get("leaf"), "messages": [_whole(message) for message in chat.get("messages", ())]}

    def texts(self) -> dict[str, str]:
        chat = self.replica.state.get(self.name, {"messages": []})
        return {
            f"part {index} of {message['id']}": _text(part)
            for message in chat["messages"]
            for index, part in enumerate(message["parts"])
            if part["type"] in ("text", "reasoning", "tool")
        }

    def take(self, block: bytes) -> None:
        """Raises Violation."""
        text_of(block)
        frame = ParsedFrame.parse(block)
        if frame is None:
            return
        expect(frame.event != "stream.end", f"expected the stream to continue, got stream.end: {frame.data}")
        self.replica.apply(frame)
        odd = [reason for reason in self.replica.reasons[1:] if reason != "lagged"]
        expect(not odd, f"expected the cursor to be honoured, got state.initial: {', '.join(odd)}")

    def finished(self, reply: str) -> bool:
        """Whether it has seen the end of the reply."""
        messages = self.replica.state.get(self.name, {}).get("messages", ())
        return any(message["id"] == reply and message["status"] not in UNFINISHED for message in messages)


def _whole(message: dict[str, Any]) -> dict[str, Any]:
    parts = []
    for part in message["parts"]:
        name = "arguments" if part["type"] == "tool" else "text"
        rest = {key: value for key, value in part.items() if key != "chunks"}
        parts.append({**rest, name: _text(part)} if name in part else rest)
    return {**message, "parts": parts}


def _text(part: dict[str, Any]) -> str:
    return str(part["arguments" if part["type"] == "tool" else "text"]) + "".join(part.get("chunks", ()))
