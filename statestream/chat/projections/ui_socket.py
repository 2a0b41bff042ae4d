"""A reply as the frames of the AI SDK's `WebSocketChatTransport`: the UI message stream, each chunk with its number.

Source: `websocket-chat-transport.ts` of the SDK's major 7.

Invariants: numbers begin with 0 in each request, also in one that resumes: the SDK then begins again.
"""

from __future__ import annotations

from typing import Any

from statestream.chat.messages import Message
from statestream.chat.projections.ui_messages import UIMessageProjection


class UISocketProjection:
    """One request's view of one reply. `new` may be asked at any time, also for the first time in the middle."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._view = UIMessageProjection()
        self._begun = False
        self._sequence = 0

    @property
    def over(self) -> bool:
        return self._view.over

    def new(self, message: Message) -> list[dict[str, Any]]:
        """The frames behind what was given before."""
        if self.over:
            return []
        frames = [] if self._begun else [frame("start", self._request_id)]
        self._begun = True
        for chunk in self._view.new(message):
            frames.append(frame("chunk", self._request_id, sequence=self._sequence, chunk=chunk))
            self._sequence += 1
        return [*frames, frame("end", self._request_id)] if self.over else frames


def frame(kind: str, request_id: str, **more: Any) -> dict[str, Any]:
    """What is said of one request."""
    return {"type": kind, "requestId": request_id, **more}
