"""What the server sends over the AI SDK's WebSocket, as types.

Invariants: only what the projection and the routes send. Tests validate by these types what they send.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from statestream.chat.protocols.ai_sdk.ui_types import UIChunk


class SocketBoundary(TypedDict):
    """A request begins or ends, or there is nothing to resume."""

    type: Literal["start", "end", "no-active"]
    requestId: str


class SocketChunk(TypedDict):
    """A chunk of a request, by its number."""

    type: Literal["chunk"]
    requestId: str
    sequence: Annotated[int, Field(ge=0)]
    chunk: UIChunk


class SocketError(TypedDict):
    """A request is refused, or its reply is lost: a sentence for people."""

    type: Literal["error"]
    requestId: str
    errorText: str
