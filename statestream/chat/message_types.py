"""Messages, chats and lists of them as types: what type checkers and the documents for programs know of them.

Invariants: `messages` says what each member means; these types say the same. Tests validate by them what chats contain.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, with_config
from typing_extensions import NotRequired, TypedDict

Id = Annotated[str, Field(min_length=1)]
Milliseconds = Annotated[int, Field(ge=0, description="Unix time in ms.")]
Step = Annotated[int, Field(ge=1, description="The step of the reply; absent in the first one.")]
Of = Annotated[Id, Field(description="The call that shows the nested run to which this belongs.")]
Chunks = Annotated[list[str], Field(description="What follows the text while it grows.")]


class WrittenPart(TypedDict):
    """Text or reasoning: `text`, followed by the chunks."""

    type: Literal["text", "reasoning"]
    text: str
    chunks: NotRequired[Chunks]
    step: NotRequired[Step]
    of: NotRequired[Of]


class ToolApproval(TypedDict):
    """The approval of a tool call: what it requires, and, once somebody has decided, the decision."""

    id: Id
    role: NotRequired[str]
    expires_at: NotRequired[Milliseconds]
    approved: NotRequired[bool]
    by: NotRequired[str]
    reason: NotRequired[str]


class ToolOffer(TypedDict):
    """A tool call that a window may run. `window` has claimed it, until the time in `until`."""

    id: Id
    window: NotRequired[str]
    until: NotRequired[Milliseconds]


class ToolPart(TypedDict):
    """A tool call and its outcome. A call that is `waiting` needs approval or a window, or other calls of its reply
    still do.
    """

    type: Literal["tool"]
    call: str
    name: str
    arguments: str
    chunks: NotRequired[Chunks]
    status: Literal["streaming", "waiting", "running", "complete", "error", "denied"]
    result: NotRequired[Any]
    error: NotRequired[str]
    approval: NotRequired[ToolApproval]
    offer: NotRequired[ToolOffer]
    step: NotRequired[Step]
    of: NotRequired[Of]


class FilePart(TypedDict):
    """A file that a person has posted, or that an agent has sent."""

    type: Literal["file"]
    mediaType: str
    url: str
    filename: NotRequired[str]
    step: NotRequired[Step]


class DataPart(TypedDict):
    """Data of a front end, which the server only keeps, or of an agent for the front end."""

    type: Annotated[str, Field(pattern="^data-")]
    id: NotRequired[Any]
    data: NotRequired[Any]
    step: NotRequired[Step]
    of: NotRequired[Of]


class SourcePart(TypedDict):
    """A page that a reply is based on."""

    type: Literal["source"]
    url: str
    title: NotRequired[str]
    step: NotRequired[Step]
    of: NotRequired[Of]


class AgentPart(TypedDict):
    """From here on, another agent speaks. `by` is the agent that has handed over to it."""

    type: Literal["agent"]
    name: str
    by: NotRequired[str]
    note: NotRequired[str]
    step: NotRequired[Step]
    of: NotRequired[Of]


class TransientData(TypedDict):
    """Data of an agent that passes: its number in the run, counted from 1."""

    n: int
    type: Annotated[str, Field(pattern="^data-")]
    id: NotRequired[str]
    data: NotRequired[Any]


class Run(TypedDict):
    """How a reply is made: while the run lasts, the node, what an agent is doing, and whether the run still waits for
    its turn; afterwards, measurements.

    A reply that has waited is made by several runs. This is the newest one.
    """

    id: str
    node: NotRequired[str]
    status: NotRequired[str]
    transient: NotRequired[list[TransientData]]
    queued: NotRequired[bool]
    queued_ms: NotRequired[float]
    duration_ms: NotRequired[float]
    first_piece_ms: NotRequired[float]
    pieces: NotRequired[float]
    tokens_per_second: NotRequired[float]


@with_config()  # types that contain it may be open to other members
class Tokens(TypedDict):
    """What a reply cost. `reasoning` is included in `output`, and `cached` in `input`."""

    input: int
    output: int
    reasoning: NotRequired[int]
    cached: NotRequired[int]


@with_config()
class Failure(TypedDict):
    """Why a reply failed: for programs, and a sentence for people."""

    kind: str
    message: str


class ChatMessage(TypedDict):
    """A message of a person or a model. `parent` is the message above it, `continues` the sibling that it continues."""

    id: Id
    role: Literal["user", "assistant"]
    status: Literal["streaming", "waiting", "complete", "stopped", "error"]
    parts: list[WrittenPart | ToolPart | SourcePart | AgentPart | FilePart | DataPart]
    parent: NotRequired[Id]
    author: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]
    run: NotRequired[Run]
    model: NotRequired[str]
    finish_reason: NotRequired[str]
    usage: NotRequired[Tokens]
    cost: NotRequired[Annotated[float, Field(ge=0, description="In the currency of the prices.")]]
    error: NotRequired[Failure]
    continues: NotRequired[Id]
    created_at: Milliseconds
    updated_at: Milliseconds


class QueuedQuestion(TypedDict):
    """A question that waits in the queue of its chat, as the message that it will be."""

    id: Id
    parts: list[WrittenPart | FilePart | DataPart]
    author: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]
    created_at: Milliseconds


class Conversation(TypedDict):
    """A chat, as its slice has it. `leaf` is the newest message that is shown, `user` the owner."""

    messages: list[ChatMessage]
    leaf: NotRequired[Id]
    title: NotRequired[str]
    user: NotRequired[str]
    participants: NotRequired[list[str]]
    queued: NotRequired[list[QueuedQuestion]]


class ListedChat(TypedDict):
    """The entry of a chat in the list of a person."""

    created_at: Milliseconds
    updated_at: Milliseconds
    status: Literal["idle", "streaming", "waiting"]
    title: NotRequired[str]


class ChatList(TypedDict):
    """The newest chats of a person, by their ids."""

    chats: dict[str, ListedChat]
