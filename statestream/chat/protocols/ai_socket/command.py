"""What the client sends over the WebSocket: commands.

Invariants: the only place that reads commands. `ai_sdk.request` reads the question in a `send`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from statestream.chat.question import MAX_ID
from statestream.server.bodies import Body


class Command(Body):
    """A command of any type."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["send", "resume", "abort"]
    requestId: str = Field(min_length=1, max_length=MAX_ID)  # noqa: N815 - the wire's name


class Resume(Body):
    """A command of the type `resume`. `id` is the chat's."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str = Field(min_length=1)
