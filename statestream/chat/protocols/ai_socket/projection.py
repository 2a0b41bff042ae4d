"""A reply as the items of one request: the UI message stream, with a number for each chunk.

Invariants: numbers begin with 0 in each request, even if it resumes: the SDK then begins again.
"""

from __future__ import annotations

from typing import Any

from statestream.chat.protocols.ai_sdk.projection import NOTHING, Held, UIMessageProjection
from statestream.chat.viewing.projection import Item, Look


class UISocketProjection:
    """One request's view of one reply. `held`: what the client has of it. `late`: it was away meanwhile.

    If the reply is lost, the view ends with an error.
    """

    truncated = False  # a connection is not a response: it carries other requests, too

    def __init__(self, request_id: str, reply: str, held: Held = NOTHING, *, late: bool = False) -> None:
        self._request_id = request_id
        self._chunks = UIMessageProjection(reply, held, late=late)
        self._begun = False
        self._sequence = 0

    @property
    def over(self) -> bool:
        return self._chunks.over

    def new(self, look: Look) -> list[Item]:
        """The items that follow those of the last look."""
        if self.over:
            return []
        chunks = self._chunks.new(look)
        over = self._chunks.over
        if over and self._chunks.truncated:
            return [item("error", self._request_id, errorText="The reply is no longer in this chat; load it again.")]
        items: list[Item] = [] if self._begun else [item("start", self._request_id)]
        self._begun = True
        for chunk in chunks:
            items.append(item("chunk", self._request_id, sequence=self._sequence, chunk=chunk))
            self._sequence += 1
        return [*items, item("end", self._request_id)] if over else items


def item(kind: str, request_id: str, **more: Any) -> dict[str, Any]:
    """An item about one request."""
    return {"type": kind, "requestId": request_id, **more}
