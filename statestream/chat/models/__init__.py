"""Models: given the turns of a conversation, a model yields the pieces of its answer as they come.

Some providers send data with an answer and require that it is sent back with this answer, such as a signature of the
model's thoughts. No other program can interpret this data: it is opaque. A model yields it as text, and receives it in
the turns of later requests.

Invariants: a model does not depend on chats, stores or requests. It ends with exactly one Finish, or raises ModelFailed
with a sentence that may be shown to people, without keys, prompts or tracebacks. An answer without a Finish counts as
cut short. Opaque data is returned only to the provider that sent it, and never to a client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from msgspec import Struct

from statestream.chat.models.settings import ModelSettings
from statestream.core.errors import StatestreamError

CONTINUE: Final = "Continue exactly where you stopped. Do not repeat anything, and do not comment on this request."
"""The last turn if an answer that was cut off is to continue."""


class ToolCall(Struct, frozen=True, kw_only=True):
    """A tool call in an earlier answer of the model. `arguments` is the JSON text of an object.

    `opaque` is the opaque data that the model yielded with the pieces of the call.
    """

    id: str
    name: str
    arguments: str
    opaque: tuple[str, ...] = ()


class Document(Struct, frozen=True, kw_only=True):
    """A PDF, as a `data:` URL, and its name."""

    url: str
    name: str


class Turn(Struct, frozen=True, kw_only=True):
    """One message of a conversation, as a model receives it.

    `images` are URLs that accompany a user's text, and so are `documents`, which are PDFs. `calls` are the tool calls
    of an assistant, `reasoning` its thoughts, and `opaque` the data of the Opaque pieces of that answer. In a turn of
    the role `tool`, `text` is the outcome of the call with the id `answers`.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    images: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""
    reasoning: str = ""
    opaque: tuple[str, ...] = ()


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool that the model may call. `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class Reasoning(Struct, frozen=True, kw_only=True):
    """A piece of the model's reasoning."""

    text: str


class CallPiece(Struct, frozen=True, kw_only=True):
    """A piece of a tool call. The first piece of a call has its `name`, and usually its `id`.

    `index` distinguishes the calls of an answer, if the provider does so: later pieces may have another index, or none.
    `chat/replies/calls.py` describes how pieces are matched to calls. If the id is missing, or already occurs in this
    reply, the call gets a new one. `opaque` is data that the provider wants back with this call.
    """

    index: int | None = None
    arguments: str = ""
    id: str = ""
    name: str = ""
    opaque: str = ""


class Opaque(Struct, frozen=True, kw_only=True):
    """Data that the provider wants back with this answer, in a form that only the model understands."""

    data: str


class Refusal(Struct, frozen=True, kw_only=True):
    """A piece of the text with which the model declines to answer."""

    text: str


class Usage(Struct, frozen=True, kw_only=True):
    """What an answer cost, in tokens. `reasoning` is included in `output`, and `cached` in `input`.

    `model` is the name of the model whose price counts; by default, that of the model or agent that makes the reply.
    """

    input: int
    output: int
    reasoning: int = 0
    cached: int = 0
    model: str = ""


class Finish(Struct, frozen=True, kw_only=True):
    """The end of an answer, and its reason: `stop`, `length`, `tool_calls`, `content_filter`, …"""

    reason: str


Piece = str | Reasoning | CallPiece | Opaque | Refusal | Usage | Finish
"""What a model yields. A plain string is a piece of the answer's text."""


TEMPORARY: Final = frozenset(("rate_limited", "connection"))
"""The kinds of failures that usually pass soon."""


class ModelFailed(StatestreamError):
    """The model cannot continue. `kind` is stable; the message is a sentence for people.

    `temporary`: whether the same request may succeed soon. By default, this is the case for `rate_limited` and
    `connection`. `wait`: the seconds that the provider asks to wait before the next request, if any.
    """

    code, status = "model_failed", 502

    def __init__(self, kind: str, sentence: str, *, temporary: bool | None = None, wait: float | None = None) -> None:
        self.kind, self.wait = kind, wait
        self.temporary = kind in TEMPORARY if temporary is None else temporary
        super().__init__(sentence)


class Model(Protocol):
    """The interface of a model.

    If several providers serve models of the same name, it also has a text `provider` that distinguishes them. It may
    have a text `vendor`, which traces show, such as `openai` for an API of that kind.
    """

    name: str

    def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings) -> AsyncIterator[Piece]:
        """Yields the pieces of the answer. Raises ModelFailed. A generator is closed if its caller stops early.

        A model that cannot follow one of the settings should raise ModelFailed rather than ignore it.
        """

    async def close(self) -> None:
        """Releases its connections."""


def provider_of(model: Model) -> str:
    """The provider to which the opaque data of a model's answers belongs."""
    return str(getattr(model, "provider", model.name))
