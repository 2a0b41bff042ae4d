"""Calls of models, tools and agents, each in a span by OpenTelemetry's semantic conventions for generative AI.

Invariants: no prompt, answer, argument or result is in a span. A call that nobody traces is not looked at. The
conventions are in development: what is used of them is here only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from time import perf_counter

from statestream.chat.agents import Status
from statestream.chat.models import Finish, Model, ModelFailed, Opaque, Piece, ToolSpec, Turn, Usage
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.retrying import Retrying
from statestream.store import tracing
from statestream.store.tracing import Attribute, Span


@contextlib.asynccontextmanager
async def answering(
    model: Model,
    turns: Sequence[Turn],
    tools: Sequence[ToolSpec],
    settings: ModelSettings,
    *,
    chat: str,
    retrying: Retrying,
) -> AsyncIterator[AsyncIterator[Piece | Status]]:
    """The pieces of a model's answer, and the status of the call. Closes what the model has open, even if the caller
    stops early.

    `chat` is the key of the chat, for the span.
    """
    with _model_span(model, chat) as span:
        pieces = retrying.pieces(lambda: model.answer(turns, tools, settings), model.name)
        try:
            yield pieces if span is None else _Watched(pieces, span)
        finally:
            await pieces.aclose()


@contextlib.contextmanager
def _model_span(model: Model, chat: str) -> Iterator[Span | None]:
    about: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": str(getattr(model, "vendor", model.name)),
        "gen_ai.request.model": model.name,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": chat,
    }
    span = tracing.begin(f"chat {model.name}", "client", about) if tracing.is_on() else None
    if span is None:
        yield None
        return
    try:
        with span.current():
            yield span
    except asyncio.CancelledError:  # the reply was stopped, or the model was too slow
        span.fail("cancelled", ours=False)
        raise
    except ModelFailed as error:
        span.fail(error.kind)
        raise
    except Exception as error:
        span.fail(type(error).__name__)
        raise
    finally:
        span.end()


class _Watched:
    """The pieces of an answer; what they tell about the call is noted in its span."""

    def __init__(self, pieces: AsyncIterator[Piece | Status], span: Span) -> None:
        self._pieces, self._span = pieces, span
        self._began = perf_counter()
        self._waiting = True

    def __aiter__(self) -> AsyncIterator[Piece | Status]:
        return self

    async def __anext__(self) -> Piece | Status:
        piece = await anext(self._pieces)
        if isinstance(piece, Usage):
            self._note_usage(piece)
        elif isinstance(piece, Finish):
            self._span.set({"gen_ai.response.finish_reasons": [piece.reason]})
        elif self._waiting and not isinstance(piece, Opaque | Status):
            self._waiting = False
            self._span.set({"gen_ai.response.time_to_first_chunk": perf_counter() - self._began})
        return piece

    def _note_usage(self, usage: Usage) -> None:
        tokens = {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "reasoning.output_tokens": usage.reasoning,
            "cache_read.input_tokens": usage.cached,
        }
        self._span.set({f"gen_ai.usage.{name}": count for name, count in tokens.items()})


@contextlib.contextmanager
def tool_span(name: str, call: str, tools: Sequence[ToolSpec]) -> Iterator[Span | None]:
    """The span of a call of a tool; None if nobody traces it. A tool that was not declared has no name in it."""
    known = any(tool.name == name for tool in tools)
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.type": "function", "gen_ai.tool.call.id": call}
    about |= {"gen_ai.tool.name": name} if known else {}
    title = f"execute_tool {name}" if known else "execute_tool"
    with _span(title, about) as span:
        yield span


@contextlib.contextmanager
def agent_span(name: str, chat: str) -> Iterator[Span | None]:
    """The span of an agent's work on one reply; None if nobody traces it."""
    about = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name, "gen_ai.conversation.id": chat}
    with _span(f"invoke_agent {name}", about) as span:
        yield span


@contextlib.contextmanager
def _span(title: str, about: Mapping[str, Attribute]) -> Iterator[Span | None]:
    span = tracing.begin(title, attributes=about) if tracing.is_on() else None
    if span is None:
        yield None
        return
    try:
        with span.current():
            yield span
    finally:
        span.end()
