"""What AG-UI clients post, and what of it counts: the last message of the person, if the chat does not have it yet.

    {"threadId", "runId", "messages": [{"id", "role", "content"}, …], "resume"?, …}

A client posts its whole copy of the thread with every run, and posts it again to see a run that it has lost. So an id
decides: one that the chat has is never asked again. The other ids say what the client shows, and in which order.
State, tools and context of the client are not ours to use.

Invariants: pure, and the only reader of such bodies. Raises Malformed for all that cannot be meant, Refused for what
this server does not do.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from statestream.chat.conversations import Asked
from statestream.chat.questions import MAX_ID, MAX_PARTS, within_limits
from statestream.core.errors import Malformed, Refused
from statestream.core.slices import first_problem
from statestream.server.bodies import Body

MAX_RUN_ID: Final = 256


class _Lenient(BaseModel):
    """Clients post more than we need."""

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


class _Posted(_Lenient):
    id: str = Field(min_length=1)
    role: Literal["developer", "system", "assistant", "user", "tool", "activity", "reasoning"]
    content: Any = None


class RunInput(Body):
    """The body of a run."""

    model_config = ConfigDict(strict=True, extra="ignore")
    threadId: str = Field(min_length=1)  # noqa: N815 - the wire's name
    runId: str = Field(min_length=1, max_length=MAX_RUN_ID)  # noqa: N815 - the wire's name
    messages: list[_Posted]
    resume: list[dict[str, Any]] | None = None

    @property
    def held(self) -> list[str]:
        """The ids of the messages that the client has, in its order."""
        return [message.id for message in self.messages]

    def question(self) -> str | None:
        """The id of the person's last message. Raises Refused for an answer to an interrupt: there are none."""
        if self.resume:
            raise Refused("nothing_to_resume", "There is nothing to resume: runs are never interrupted here.")
        last = self._last
        return None if last is None else last.id

    def asked(self, author: str | None) -> Asked:
        """That message, for a chat that does not have it."""
        last = self._last
        if last is None or len(last.id) > MAX_ID:
            raise Malformed(f"expected a last user message with an id of at most {MAX_ID} characters")
        try:
            content = _CONTENT.validate_python(last.content, strict=True)
        except ValidationError as error:
            raise Malformed(f"in the last user message's content: {first_problem(error)}") from None
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else [part.part() for part in content]
        return Asked(parts=within_limits(parts), id=last.id, author=author)

    @property
    def _last(self) -> _Posted | None:
        return next((message for message in reversed(self.messages) if message.role == "user"), None)
