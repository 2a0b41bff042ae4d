"""The messages that a client of the three phases holds: complete ones, and those that grow by chunks.

Invariants: pure. A client comes back with the position of the last item that it has received, and keeps what it holds.
What follows is new: nothing begins again, and no chunk comes twice.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.tools.conformance.chats.event_blocks import object_of
from statestream.tools.conformance.violation import expect

FLAGS: Final = ("stream_start", "stream_chunk", "stream_end")
ENDING: Final = ("error", "stopped")
NOTES: Final = ("author", "reply_to")


class PhasesReader:
    """`position` is where the client resumes; `ended` are the ids of the messages that have ended."""

    def __init__(self) -> None:
        self.position = ""
        self.ended: set[str] = set()
        self._messages: dict[str, dict[str, Any]] = {}

    def begin(self) -> None:
        """A connection begins: what is held stays."""

    def held(self) -> list[dict[str, Any]]:
        return list(self._messages.values())

    def texts(self) -> dict[str, str]:
        return {f"the message {id}": message["content"] for id, message in self._messages.items()}

    def take(self, frame: bytes) -> None:
        """Raises Violation."""
        item = object_of(frame)
        missing = {"id", "sender", "timestamp", "session_id", "metadata"} - set(item)
        expect(not missing, f"expected {', '.join(sorted(missing))} in a {item['type']}, got none")
        if item["type"] == "message":
            self._complete(item)
        else:
            expect(item["type"] == "message_stream", f"expected an item of the protocol, got {item['type']}")
            self._phase(item)
        self.position = item["metadata"].get("position", self.position)

    def _complete(self, item: dict[str, Any]) -> None:
        self._begin(item, item["content"])
        self._end(item)

    def _phase(self, item: dict[str, Any]) -> None:
        phases = [flag for flag in FLAGS if item.get(flag) is True]
        expect(len(phases) == 1, f"expected one phase, got {phases}")
        id = item["id"]
        if phases == ["stream_start"]:
            self._begin(item, "")
            return
        grows = id in self._messages and id not in self.ended
        expect(grows, f"expected {id} to have begun and not to have ended, got {phases[0]}")
        if phases == ["stream_chunk"]:
            self._messages[id]["content"] += item["chunk"]
        else:
            self._end(item)

    def _begin(self, item: dict[str, Any], text: str) -> None:
        expect(item["id"] not in self._messages, f"expected {item['id']} to begin once, but it begins again")
        notes = {name: item["metadata"][name] for name in NOTES if name in item["metadata"]}
        self._messages[item["id"]] = {"id": item["id"], "sender": item["sender"], "content": text, **notes}

    def _end(self, item: dict[str, Any]) -> None:
        self._messages[item["id"]] |= {name: item["metadata"][name] for name in ENDING if name in item["metadata"]}
        self.ended.add(item["id"])
