"""Agents: programs that make whole replies, with whatever framework they like.

    @chat.agent
    async def support(task, context):
        yield Status(text="Looking at your orders")
        orders = await context.get("orders")
        yield Data(name="orders", data=orders)
        yield f"You have {len(orders)} orders."

An agent is an async generator. It yields the pieces of a reply as they come. Everything that a model yields is such a
piece, too, so an agent can pass on what a model answers.

Invariants: plain data. An agent does not depend on routes or protocols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from msgspec import Struct, field

from statestream.chat.approvals import Approval, Decided
from statestream.chat.messages import Message, text_of
from statestream.chat.models import Piece, ToolSpec, Turn
from statestream.chat.provisions import ContextItem
from statestream.core.change import Action


class HandedOver(Struct, frozen=True, kw_only=True):
    """The agent `by` has handed a reply over to this agent, with a note."""

    by: str
    note: str = ""


class ToolResult(Struct, frozen=True, kw_only=True):
    """The outcome of the call with that id: a result, which is JSON, or `error`, a sentence for people."""

    id: str
    result: Any = None
    error: str | None = None


class Task(Struct, frozen=True, kw_only=True):
    """What an agent is to do: answer `question`.

    `chat` and `reply` are the ids of the chat and of the reply. `messages` are the newest messages that the chat shows,
    oldest first; the last one is the question. `turns` are the same messages in the form that models accept.
    `decided` contains the decisions about calls that needed approval, and `answered` the results of calls that windows
    have run, both by the ids of the calls. If one of them is not empty, this run continues the reply. `continues` is
    the reply that was cut off, and that this one continues: everybody already sees its parts, and `turns` contains
    them, followed by the request to continue. `handed_over` is the agent that has handed this reply over, with its
    note; `turns` then contains what the reply had before. `tools` are those that the front end of the person who asks
    can run. `context` is what their page reports, which `turns` contains as well. Do not change any of these values.
    """

    chat: str
    reply: str
    question: Message
    messages: Sequence[Message]
    turns: Sequence[Turn]
    decided: Mapping[str, Decided] = field(default_factory=dict)
    continues: Message | None = None
    handed_over: HandedOver | None = None
    tools: Sequence[ToolSpec] = ()
    context: Sequence[ContextItem] = ()
    answered: Mapping[str, ToolResult] = field(default_factory=dict)

    @property
    def has_waited(self) -> bool:
        """Whether this run continues a reply that has waited for people or windows."""
        return bool(self.decided or self.answered)

    @property
    def text(self) -> str:
        """The text of the question."""
        return text_of(self.question)


class ToolUse(Struct, frozen=True, kw_only=True):
    """The agent calls a tool of its own. `id` names the call for its ToolResult.

    With `approval`, somebody has to approve the call first, even if the agent has already yielded it without
    `approval`. When the agent returns, the reply waits until somebody decides, however long that takes. The agent then
    runs again, and finds the decision in `task.decided`.

    With `frontend`, a window runs the tool. The reply waits in the same way, and the agent finds the result in
    `task.answered`. Use a name from `task.tools`, or the name of a tool that your pages have.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    approval: bool | Approval = False
    frontend: bool = False


class Data(Struct, frozen=True, kw_only=True):
    """JSON for the front end, such as the numbers of a chart. `name` consists of letters, digits, - and _.

    Data with an `id` replaces earlier data of this name and id in the same reply. With `transient`, only people who are
    watching the reply at that moment see the data: it is not part of the message.
    """

    name: str
    data: Any
    id: str | None = None
    transient: bool = False


class Source(Struct, frozen=True, kw_only=True):
    """A page that the reply is based on. `url` begins with https:// or http://."""

    url: str
    title: str = ""


class File(Struct, frozen=True, kw_only=True):
    """A file for people: its bytes as `data`, or the `path` to read. The chat must accept the `media_type`.

    The server stores the file, and the reply has a part with its URL. Raises TypeError and ValueError.
    """

    data: bytes | None = None
    path: str | PathLike[str] | None = None
    media_type: str
    filename: str | None = None

    def __post_init__(self) -> None:
        if (self.data is None) == (self.path is None):
            raise ValueError("expected a File with `data` or `path`, and not with both")
        if self.data is not None and not isinstance(self.data, bytes):
            raise TypeError(f"expected the `data` of a File as bytes, got {type(self.data).__name__}")


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file that was stored: its part, and the actions that belong to it. What `Context.keep` makes of a File."""

    part: Mapping[str, Any]
    actions: Sequence[Action]


class Status(Struct, frozen=True, kw_only=True):
    """What the agent is doing, in a few words. It is shown until the next status, or the end of the reply."""

    text: str


class Speaker(Struct, frozen=True, kw_only=True):
    """From here on, another agent of the same framework speaks. `agent` is its name, as people see it."""

    agent: str


class HandOver(Struct, frozen=True, kw_only=True):
    """Lets another agent of the chat continue this reply. Yield it last: the code after it does not run.

    `agent` is the name of the other agent, `note` tells it what to do. Everybody sees the note.
    """

    agent: str
    note: str = ""


AgentPiece = Piece | ToolUse | ToolResult | Data | Source | File | StoredFile | Status | Speaker | HandOver
"""What an agent yields. A plain string is a piece of the reply's text."""
