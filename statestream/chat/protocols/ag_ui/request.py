"""What AG-UI clients post, and which of it counts: the last message of the person, if the chat does not have it yet.

    {"threadId", "runId", "messages": [{"id", "role", "content"}, …], "resume"?, …}

A client posts its whole copy of the thread with every run, and posts it again to see a run that it has lost. So the id
decides: a message that the chat has is never asked again. The other ids determine what the client shows, and in which
order. `forwardedProps` may name the `leaf` that it has seen, and the `agent` that is to answer. `resume` answers the
interrupts of a reply that waits, and a `tool` message the call of a front-end tool. `tools` are those that the client
runs, `context` is what its page reports, and `state` its
copy of the slices, of which it may change those that are shared.

Invariants: pure, and the only place that reads such bodies. Raises Malformed for anything that cannot be understood,
and Refused for what this server does not do.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Final, Literal

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from statestream.chat.agents.declared import MAX_NAME
from statestream.chat.approvals import Decision, ToolAnswer, approval_id
from statestream.chat.messages import KEPT_DEPTH, State, call_id, undecided, waiting
from statestream.chat.models import ToolSpec
from statestream.chat.provisions import MAX_CONTEXT, MAX_ITEMS, ContextItem
from statestream.chat.question import MAX_ID, MAX_PARTS, Question, check_parts
from statestream.core.errors import Malformed, NotJSON, Refused
from statestream.core.signature import first_problem
from statestream.core.values import loads, plain
from statestream.server.bodies import Body, checked

MAX_RUN_ID: Final = 256
MAX_TOOLS: Final = 32
MAX_DESCRIPTION: Final = 4_000
MAX_PARAMETERS: Final = 10_000
"""The bytes of the schema of one tool."""


class _Lenient(BaseModel):
    """Clients post more than is needed."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Text(_Lenient):
    type: Literal["text"]
    text: str

    def part(self) -> dict[str, Any]:
        return {"type": "text", "text": self.text}


class _Data(_Lenient):
    type: Literal["data"]
    value: str
    mimeType: str = Field(min_length=1)  # noqa: N815 - the wire's name

    def url(self) -> str:
        return f"data:{self.mimeType};base64,{self.value}"


class _Url(_Lenient):
    type: Literal["url"]
    value: str
    mimeType: str | None = None  # noqa: N815 - the wire's name

    def url(self) -> str:
        return self.value


class _Media(_Lenient):
    type: Literal["image", "audio", "video", "document"]
    source: Annotated[_Data | _Url, Field(discriminator="type")]

    def part(self) -> dict[str, Any]:
        kind = "application/octet-stream" if self.type == "document" else f"{self.type}/*"
        return {"type": "file", "mediaType": self.source.mimeType or kind, "url": self.source.url()}


_CONTENT: Final[TypeAdapter[str | list[_Text | _Media]]] = TypeAdapter(
    str | Annotated[list[Annotated[_Text | _Media, Field(discriminator="type")]], Field(max_length=MAX_PARTS)]
)


class ThreadMessage(_Lenient):
    """A message of the client's copy of the thread. Of the person's last one, `content` is text, or a list of parts."""

    id: str = Field(min_length=1)
    role: Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
    content: Any = None
    toolCallId: str | None = None  # noqa: N815 - the wire's name
    error: str | None = None

    def result(self) -> Any:
        """The result of a tool: its content parsed as JSON if that is possible, otherwise the content itself."""
        if isinstance(self.content, str):
            with contextlib.suppress(NotJSON):
                return loads(self.content.encode(errors="replace"))
        return self.content


class _Response(Body):
    """The answer to an interrupt. `editedArgs` replaces all arguments of the tool."""

    model_config = ConfigDict(strict=True, extra="ignore")
    approved: bool
    editedArgs: dict[str, Any] | None = None  # noqa: N815 - the wire's name
    reason: str | None = None


class Resumption(_Lenient):
    """What the client does about an interrupt. Cancelling it denies the call."""

    interruptId: str = Field(min_length=1, max_length=MAX_ID)  # noqa: N815 - the wire's name
    status: Literal["resolved", "cancelled"]
    payload: Any = None

    def decision(self) -> Decision:
        """Raises Malformed."""
        if self.status == "cancelled":
            return Decision(id=self.interruptId, approved=False)
        answer = checked(_Response, self.payload)
        edited = answer.editedArgs if answer.approved else None
        return Decision(id=self.interruptId, approved=answer.approved, arguments=edited, reason=answer.reason)


class DeclaredTool(_Lenient):
    """A tool that the client runs. `parameters` is the JSON Schema of its arguments."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str = Field(default="", max_length=MAX_DESCRIPTION)
    parameters: dict[str, Any] | None = None

    def spec(self) -> ToolSpec:
        """Raises Malformed."""
        parameters = plain(self.parameters or {"type": "object", "properties": {}}, KEPT_DEPTH)
        if len(orjson.dumps(parameters)) > MAX_PARAMETERS:
            raise Malformed(f"expected the parameters of {self.name} in at most {MAX_PARAMETERS:,} bytes of JSON")
        return ToolSpec(name=self.name, description=self.description, parameters=parameters)


class ReportedContext(_Lenient):
    """Something that the page of the client reports."""

    description: str
    value: str


class RunInput(Body):
    """The body of a run."""

    model_config = ConfigDict(strict=True, extra="ignore")
    threadId: str = Field(min_length=1)  # noqa: N815 - the wire's name
    runId: str = Field(min_length=1, max_length=MAX_RUN_ID)  # noqa: N815 - the wire's name
    protocolVersion: Any = None  # noqa: N815 - the wire's name
    messages: list[ThreadMessage]
    tools: list[DeclaredTool] | None = Field(default=None, max_length=MAX_TOOLS)
    state: Any = None
    context: list[ReportedContext] | None = Field(default=None, max_length=MAX_ITEMS)
    resume: list[Resumption] | None = Field(default=None, max_length=MAX_PARTS)
    forwardedProps: Any = None  # noqa: N815 - the wire's name

    @property
    def held(self) -> list[str]:
        """The ids of the messages that the client has, in its order."""
        return [message.id for message in self.messages]

    @property
    def is_early(self) -> bool:
        """Whether the client speaks a version of the protocol before 1.0, when clients began to say which."""
        return self.protocolVersion is None

    @property
    def leaf(self) -> str | None:
        """The leaf that the client has seen, if it sends one: `leaf` in its forwarded properties. Raises Malformed."""
        return self._forwarded("leaf", "the id of a message", MAX_ID)

    @property
    def agent(self) -> str | None:
        """The agent that is to answer, if the client names one in its forwarded properties. Raises Malformed."""
        return self._forwarded("agent", "the name of an agent", MAX_NAME)

    def _forwarded(self, name: str, what: str, most: int) -> str | None:
        found = self.forwardedProps.get(name) if isinstance(self.forwardedProps, dict) else None
        if found is not None and not (isinstance(found, str) and 0 < len(found) <= most):
            raise Malformed(f"expected `forwardedProps.{name}` to be {what}, of 1 to {most} characters")
        return found

    def decisions(self, state: State) -> list[Decision]:
        """The answers to interrupts; none if the client sends none. Raises Malformed, Refused.

        The protocol requires that all interrupts of a run are answered at once.
        """
        decisions = [answer.decision() for answer in self.resume or ()]
        reply = waiting(state)
        if decisions and reply is not None:
            asked = {approval_id(reply["id"], part) for part in undecided(reply) if "approval" in reply["parts"][part]}
            left = asked - {each.id for each in decisions}
            if left and len(left) < len(asked):
                raise Refused("incomplete", "Answer all interrupts of the run at once.")
        return decisions

    def answers(self, state: State) -> list[ToolAnswer]:
        """The client's results for front-end tool calls of the waiting reply."""
        reply = waiting(state)
        if reply is None:
            return []
        offers = {
            call_id(reply["id"], index): part["offer"]["id"]
            for index, part in enumerate(reply["parts"])
            if part.get("status") == "waiting" and "offer" in part
        }
        return [
            ToolAnswer(id=offers[message.toolCallId], result=message.result(), error=message.error)
            for message in self.messages
            if message.role == "tool" and message.toolCallId in offers
        ]

    def question_id(self) -> str | None:
        """The id of the person's last message."""
        last = self._last
        return None if last is None else last.id

    def question(self, author: str | None) -> Question:
        """The person's last message, for a chat that does not have it. Raises Malformed."""
        last = self._last
        if last is None or len(last.id) > MAX_ID:
            raise Malformed(f"expected a last user message with an id of at most {MAX_ID} characters")
        try:
            content = _CONTENT.validate_python(last.content, strict=True)
        except ValidationError as error:
            raise Malformed(f"in the last user message's content: {first_problem(error)}") from None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else [part.part() for part in content]
        return Question(
            parts=check_parts(parts),
            id=last.id,
            author=author,
            agent=self.agent,
            tools=self.specs,
            context=self.reported,
        )

    @property
    def specs(self) -> list[ToolSpec]:
        """The tools that the client runs. Raises Malformed."""
        return [tool.spec() for tool in self.tools or ()]

    @property
    def reported(self) -> list[ContextItem]:
        """What the client's page reports. Raises Malformed."""
        items = [ContextItem(description=item.description, value=item.value) for item in self.context or ()]
        if sum(len(item.description) + len(item.value) for item in items) > MAX_CONTEXT:
            raise Malformed(f"expected `context` of at most {MAX_CONTEXT:,} characters in all")
        return items

    @property
    def _last(self) -> ThreadMessage | None:
        return next((message for message in reversed(self.messages) if message.role == "user"), None)


def follows(request: web.Request) -> bool:
    """Whether the query asks to follow the chat. Raises Malformed."""
    follow = request.query.get("follow", "0")
    if follow not in ("0", "1"):
        raise Malformed("expected follow=1 or follow=0")
    return follow == "1"
