"""The AI SDK's messages and chunks as types: what the documents for programs say of them.

Invariants: only what the projection sends. Tests validate by these types what it sends, and the SDK itself reads it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, with_config
from typing_extensions import NotRequired, TypedDict

from statestream.chat.message_types import DataPart, Failure, FilePart, Milliseconds, Tokens


@with_config(extra="allow")
class UIMetadata(TypedDict):
    """What is known of a message beside its content, and how a reply ended if it did not end well.

    A person's message also has the metadata that its front end posted.
    """

    createdAt: Milliseconds
    model: NotRequired[str]
    usage: NotRequired[Tokens]
    cost: NotRequired[float]
    author: NotRequired[str]
    error: NotRequired[Failure]
    status: NotRequired[Literal["stopped", "error"]]


class UIStepStart(TypedDict):
    """A step of a reply begins."""

    type: Literal["step-start"]


class UIText(TypedDict):
    """Text of a person or of a reply."""

    type: Literal["text"]
    text: str
    state: NotRequired[Literal["streaming", "done"]]


class UIRun(TypedDict):
    """A nested run: the id of the tool call that shows it, and the agent."""

    of: str
    agent: str


class UINested(TypedDict):
    """To which nested run something belongs."""

    statestream: UIRun


class UIReasoning(TypedDict):
    """Reasoning of a reply, or the reasoning and the text of a nested run."""

    type: Literal["reasoning"]
    id: str
    providerMetadata: NotRequired[UINested]
    text: str
    state: Literal["streaming", "done"]


class UIApproval(TypedDict):
    """The approval of a tool call and, once somebody has decided, the decision."""

    id: str
    approved: NotRequired[bool]
    reason: NotRequired[str]


class UITool(TypedDict):
    """A tool call, and its outcome."""

    type: Annotated[str, Field(pattern="^tool-")]
    toolCallId: str
    state: Literal[
        "input-streaming",
        "input-available",
        "approval-requested",
        "approval-responded",
        "output-available",
        "output-error",
        "output-denied",
    ]
    approval: NotRequired[UIApproval]
    input: NotRequired[Any]
    output: NotRequired[Any]
    providerExecuted: NotRequired[Literal[True]]
    errorText: NotRequired[str]


class UISource(TypedDict):
    """A page that a reply is based on: a part of a message, and a chunk."""

    type: Literal["source-url"]
    sourceId: str
    url: str
    title: NotRequired[str]


class UIFile(TypedDict):
    """A file of an agent: a part of a message, and a chunk. Its name is `providerMetadata.statestream.filename`."""

    type: Literal["file"]
    mediaType: str
    url: str
    providerMetadata: NotRequired[dict[str, dict[str, str]]]


class UIStatusText(TypedDict):
    """A few words."""

    text: str


class UIStatus(TypedDict):
    """What an agent is doing. It is not part of the message."""

    type: Literal["data-status"]
    data: UIStatusText
    transient: Literal[True]


class UITransient(TypedDict):
    """Data of an agent that passes. It is not part of the message."""

    type: Annotated[str, Field(pattern="^data-")]
    id: NotRequired[str]
    data: Any
    transient: Literal[True]


class UIMessage(TypedDict):
    """A message as `useChat` takes it."""

    id: str
    role: Literal["user", "assistant"]
    metadata: UIMetadata
    parts: list[UIStepStart | UIText | UIReasoning | UITool | UISource | UIFile | FilePart | DataPart]


class UIMessages(TypedDict):
    """The messages of a chat that are shown."""

    id: str
    messages: list[UIMessage]


class UIStart(TypedDict):
    """The message begins."""

    type: Literal["start"]
    messageId: str
    messageMetadata: UIMetadata


class UIBoundary(TypedDict):
    """A step begins or ends, or the reply was stopped."""

    type: Literal["start-step", "finish-step", "abort"]


class UIPartBoundary(TypedDict):
    """A part begins or ends."""

    type: Literal["text-start", "text-end", "reasoning-start", "reasoning-end"]
    id: str
    providerMetadata: NotRequired[UINested]


class UIPartDelta(TypedDict):
    """A part grows."""

    type: Literal["text-delta", "reasoning-delta"]
    id: str
    delta: str


class UIToolInputStart(TypedDict):
    """A tool call begins."""

    type: Literal["tool-input-start"]
    toolCallId: str
    toolName: str


class UIToolInputDelta(TypedDict):
    """The arguments of a tool call grow."""

    type: Literal["tool-input-delta"]
    toolCallId: str
    inputTextDelta: str


class UIToolInputAvailable(TypedDict):
    """The arguments of a tool call are complete."""

    type: Literal["tool-input-available"]
    toolCallId: str
    toolName: str
    input: Any


class UIToolInputError(TypedDict):
    """The arguments of a tool call cannot be read."""

    type: Literal["tool-input-error"]
    toolCallId: str
    toolName: str
    providerExecuted: Literal[True]
    input: Any
    errorText: str


class UIToolApprovalRequest(TypedDict):
    """A tool call waits for approval or denial."""

    type: Literal["tool-approval-request"]
    approvalId: str
    toolCallId: str


class UIToolDenied(TypedDict):
    """Somebody has denied a tool call."""

    type: Literal["tool-output-denied"]
    toolCallId: str


class UIToolOutput(TypedDict):
    """The result of a tool."""

    type: Literal["tool-output-available"]
    toolCallId: str
    providerExecuted: Literal[True]
    output: Any


class UIToolOutputError(TypedDict):
    """Why a tool has no result."""

    type: Literal["tool-output-error"]
    toolCallId: str
    providerExecuted: Literal[True]
    errorText: str


class UIMessageMetadata(TypedDict):
    """What is known of a reply that did not end well."""

    type: Literal["message-metadata"]
    messageMetadata: UIMetadata


class UIFinish(TypedDict):
    """The reply is complete or waits."""

    type: Literal["finish"]
    finishReason: Literal["stop", "length", "content-filter", "tool-calls", "other"]
    messageMetadata: UIMetadata


class UIError(TypedDict):
    """The reply failed: a sentence for people."""

    type: Literal["error"]
    errorText: str


UIChunk = (
    UIStart
    | UIBoundary
    | UIPartBoundary
    | UIPartDelta
    | UIToolInputStart
    | UIToolInputDelta
    | UIToolInputAvailable
    | UIToolInputError
    | UIToolApprovalRequest
    | UIToolDenied
    | UIToolOutput
    | UIToolOutputError
    | UISource
    | UIFile
    | UIStatus
    | UITransient
    | DataPart
    | UIMessageMetadata
    | UIFinish
    | UIError
)
"""A chunk of the UI message stream."""
