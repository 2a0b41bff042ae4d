"""What the client sends over the WebSocket.

Invariants: the only place that reads these frames; the question in a `send` is read by `ai_sdk.request`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from statestream.chat.question import MAX_ID
from statestream.server.bodies import Body


class Frame(Body):
    """A frame of any type."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["send", "resume", "abort"]
    requestId: str = Field(min_length=1, max_length=MAX_ID)  # noqa: N815 - the wire's name


class Resume(Body):
    """A frame of the type `resume`. `id` is the chat's."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str = Field(min_length=1)
