"""What the server sends over the WebSocket of three phases, as types.

Invariants: only what the projection sends. Tests validate by these types what it sends.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from statestream.chat.message_types import Milliseconds

PositionMark = Annotated[str, Field(pattern=r":(end|[0-9]+)$", description="From where to resume.")]


class MessageNotes(TypedDict):
    """What is known of a complete message beside its content."""

    position: PositionMark
    author: NotRequired[str]
    reply_to: NotRequired[str]
    agent: NotRequired[str]
    error: NotRequired[str]
    stopped: NotRequired[Literal[True]]


class CompleteMessage(TypedDict):
    """A message that has ended."""

    type: Literal["message"]
    id: str
    content: str
    sender: Literal["user", "ai"]
    timestamp: Milliseconds
    session_id: str
    metadata: MessageNotes


class PhaseNotes(TypedDict):
    """What is known of a reply, or of a refusal, which may have no position."""

    position: NotRequired[PositionMark]
    reply_to: NotRequired[str]
    agent: NotRequired[str]
    error: NotRequired[str]
    stopped: NotRequired[Literal[True]]
    streaming: bool


class _Phase(TypedDict):
    type: Literal["message_stream"]
    id: str
    sender: Literal["ai"]
    timestamp: Milliseconds
    agentId: str
    agentName: str
    agentType: Literal["assistant", "system"]
    session_id: NotRequired[str]
    metadata: PhaseNotes


class PhaseStart(_Phase):
    """A reply, or a refusal, begins."""

    stream_start: Literal[True]
    stream_chunk: Literal[False]
    stream_end: Literal[False]


class PhaseChunk(_Phase):
    """A reply grows by the text of `chunk`."""

    chunk: str
    stream_start: Literal[False]
    stream_chunk: Literal[True]
    stream_end: Literal[False]


class PhaseEnd(_Phase):
    """A reply, or a refusal, ends."""

    stream_start: Literal[False]
    stream_chunk: Literal[False]
    stream_end: Literal[True]
