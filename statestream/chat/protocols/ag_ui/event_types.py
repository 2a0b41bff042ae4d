"""AG-UI's messages and events as types: what the documents for programs say of them.

Invariants: only what the projection sends. Tests validate by these types what it sends, and the protocol's own client
reads it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from statestream.protocol.frame_types import Removing, Setting


class AGText(TypedDict):
    """Text of a person."""

    type: Literal["text"]
    text: str


class AGSource(TypedDict):
    """Where a file is: its data, or a URL."""

    type: Literal["data", "url"]
    value: str
    mimeType: str


class AGFile(TypedDict):
    """A file of a person."""

    type: Literal["image", "audio", "video", "document"]
    source: AGSource


class AGUser(TypedDict):
    """A message of a person."""

    id: str
    role: Literal["user"]
    content: str | list[AGText | AGFile]
    name: NotRequired[str]


class AGFunction(TypedDict):
    """The tool that is called, and its arguments as JSON."""

    name: str
    arguments: str


class AGCall(TypedDict):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: AGFunction


class AGAssistant(TypedDict):
    """One step of a reply."""

    id: str
    role: Literal["assistant"]
    content: NotRequired[str]
    toolCalls: NotRequired[list[AGCall]]


class AGReasoning(TypedDict):
    """Reasoning of a reply."""

    id: str
    role: Literal["reasoning"]
    content: str


class AGTool(TypedDict):
    """The outcome of a tool call."""

    id: str
    role: Literal["tool"]
    toolCallId: str
    content: str


class AGActivity(TypedDict):
    """Data of an agent, or a page that a reply is based on."""

    id: str
    role: Literal["activity"]
    activityType: str
    content: dict[str, Any]


class AGRunStarted(TypedDict):
    """A run begins."""

    type: Literal["RUN_STARTED"]
    threadId: str
    runId: str
    protocolVersion: str


class AGMessagesSnapshot(TypedDict):
    """All messages, as many as an event can hold. `metadata`: it has all activities, so that a client drops others."""

    type: Literal["MESSAGES_SNAPSHOT"]
    metadata: NotRequired[dict[Literal["@ag-ui/client"], dict[Literal["authoritativeActivityTypes"], None]]]
    messages: list[AGUser | AGAssistant | AGReasoning | AGTool | AGActivity]


class AGStateSnapshot(TypedDict):
    """The slices beside the chat, by their full names."""

    type: Literal["STATE_SNAPSHOT"]
    snapshot: dict[str, Any]


class AGStateDelta(TypedDict):
    """What has changed in the slices beside the chat."""

    type: Literal["STATE_DELTA"]
    delta: list[Setting | Removing]


class AGMessageBoundary(TypedDict):
    """Text or reasoning begins or ends."""

    type: Literal["TEXT_MESSAGE_END", "REASONING_START", "REASONING_MESSAGE_END", "REASONING_END"]
    messageId: str


class AGMessageStart(TypedDict):
    """A message begins."""

    type: Literal["TEXT_MESSAGE_START", "REASONING_MESSAGE_START"]
    messageId: str
    role: Literal["assistant", "reasoning"]


class AGMessageContent(TypedDict):
    """A message grows."""

    type: Literal["TEXT_MESSAGE_CONTENT", "REASONING_MESSAGE_CONTENT"]
    messageId: str
    delta: str


class AGToolCallStart(TypedDict):
    """A tool call begins."""

    type: Literal["TOOL_CALL_START"]
    toolCallId: str
    toolCallName: str
    parentMessageId: str


class AGToolCallArgs(TypedDict):
    """The arguments of a tool call grow."""

    type: Literal["TOOL_CALL_ARGS"]
    toolCallId: str
    delta: str


class AGToolCallEnd(TypedDict):
    """The arguments of a tool call are complete."""

    type: Literal["TOOL_CALL_END"]
    toolCallId: str


class AGToolCallResult(TypedDict):
    """The outcome of a tool call."""

    type: Literal["TOOL_CALL_RESULT"]
    messageId: str
    toolCallId: str
    content: str
    role: Literal["tool"]


class AGActivitySnapshot(TypedDict):
    """Data of an agent, or a page that the reply is based on."""

    type: Literal["ACTIVITY_SNAPSHOT"]
    messageId: str
    activityType: str
    content: dict[str, Any]
    replace: Literal[True]


class AGStatus(TypedDict):
    """What an agent is doing, in a few words."""

    type: Literal["CUSTOM"]
    name: Literal["status"]
    value: str


class AGTransient(TypedDict):
    """Data of an agent that passes. It is in no message."""

    type: Literal["CUSTOM"]
    name: Annotated[str, Field(pattern="^data-")]
    value: Any


class AGRunOutcome(TypedDict):
    """How a run ended."""

    type: Literal["success", "cancelled"]
    pendingToolCallIds: NotRequired[list[str]]


class AGInterrupt(TypedDict):
    """A tool call that waits for approval or denial."""

    id: str
    reason: Literal["tool_call"]
    message: str
    toolCallId: str
    responseSchema: dict[str, Any]
    expiresAt: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]


class AGRunInterrupted(TypedDict):
    """The run has ended, but its reply has not: people have to decide first."""

    type: Literal["interrupt"]
    interrupts: list[AGInterrupt]


class AGRunUsage(TypedDict):
    """What a run cost, in tokens."""

    model: str
    inputTokens: NotRequired[int]
    outputTokens: NotRequired[int]
    reasoningTokens: NotRequired[int]
    cachedInputTokens: NotRequired[int]


class AGRunFinished(TypedDict):
    """A run ends."""

    type: Literal["RUN_FINISHED"]
    threadId: str
    runId: str
    outcome: AGRunOutcome | AGRunInterrupted
    usage: NotRequired[list[AGRunUsage]]


class AGRunError(TypedDict):
    """A run failed, or was refused: a sentence for people, and a code."""

    type: Literal["RUN_ERROR"]
    message: str
    code: str
    usage: NotRequired[list[AGRunUsage]]


AGEvent = (
    AGRunStarted
    | AGMessagesSnapshot
    | AGStateSnapshot
    | AGStateDelta
    | AGMessageBoundary
    | AGMessageStart
    | AGMessageContent
    | AGToolCallStart
    | AGToolCallArgs
    | AGToolCallEnd
    | AGToolCallResult
    | AGActivitySnapshot
    | AGStatus
    | AGTransient
    | AGRunFinished
    | AGRunError
)
"""An event of a run."""
