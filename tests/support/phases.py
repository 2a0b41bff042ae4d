"""A client of the three-phase protocol, as strict as one can be: what it has of each chat after these frames.

Invariants: it shares no code with the product. Whatever breaks the protocol raises here, so every test that uses it
checks all of it.
"""

from __future__ import annotations

from typing import Any

MESSAGE = {"type", "id", "content", "sender", "timestamp", "session_id", "metadata"}
AGENT = {"agentId", "agentName", "agentType"}
FLAGS = ("stream_start", "stream_chunk", "stream_end")
STREAM = {"type", "id", "sender", "timestamp", "session_id", "metadata", *AGENT, *FLAGS}


class Fold:
    """What one person has on the screen. `cut` for a lost connection: what was seen stays."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.open: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.positions: dict[str, str] = {}
        self.again: list[str] = []
        """Messages that were begun again, or came complete, after they had been seen."""

    def take(self, frame: Any) -> None:
        assert not any(value is None for value in (*frame.values(), *frame["metadata"].values())), frame
        assert isinstance(frame["timestamp"], int)
        assert frame["timestamp"] > 1_600_000_000_000
        if frame["id"] in self.texts and (frame["type"] == "message" or frame["stream_start"]):
            self.again.append(frame["id"])
        if frame["type"] == "message":
            self._complete(frame)
        else:
            self._phase(frame)
        if "position" in frame["metadata"]:
            self.positions[frame.get("session_id", "")] = frame["metadata"]["position"]

    def _complete(self, frame: Any) -> None:
        assert set(frame) == MESSAGE
        assert frame["sender"] in ("user", "ai")
        self.texts[frame["id"]] = frame["content"]
        self.ended[frame["id"]] = frame
        self.open.pop(frame["id"], None)

    def _phase(self, frame: Any) -> None:
        assert frame["type"] == "message_stream"
        assert frame["sender"] == "ai"
        assert set(frame) - {"chunk"} == STREAM - ({"session_id"} - set(frame)), frame
        assert [frame[flag] for flag in FLAGS].count(True) == 1
        assert all(isinstance(frame[flag], bool) for flag in FLAGS)
        assert ("chunk" in frame) == frame["stream_chunk"]
        assert frame["metadata"]["streaming"] is not frame["stream_end"]
        if frame["stream_start"]:
            self.texts[frame["id"]] = ""
            self.open[frame["id"]] = frame
            return
        assert frame["id"] in self.open, f"goes on without a beginning: {frame}"
        for name in ("reply_to", *AGENT):
            begun = self.open[frame["id"]]
            assert frame.get(name, frame["metadata"].get(name)) == begun.get(name, begun["metadata"].get(name))
        if frame["stream_chunk"]:
            assert frame["chunk"]
            self.texts[frame["id"]] += frame["chunk"]
        else:
            del self.open[frame["id"]]
            self.ended[frame["id"]] = frame
