"""Parses the stream of an answer of OpenAI's Responses API: bytes in, pieces of the answer out.

An answer consists of items, one after the other: reasoning, messages, function calls. Encrypted reasoning must be sent
back unchanged, so it becomes opaque data once it is complete. So does the phase of a message.

Invariants: pure. Wherever the bytes are split, the pieces are the same. Whatever the bytes are, only ModelFailed is
raised, with a sentence of ours. Unknown events and members are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.events import Events, count_in, index_in, object_in, text_in, value_of
from statestream.chat.models.failures import BROKEN_OFF, failure_in_stream
from statestream.chat.models.layout import Place

KEPT: Final = ("type", "id", "summary", "content", "encrypted_content")
"""The members of a reasoning item that are sent back. The API rejects others, such as the status."""
STATUSES: Final = {
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "server_is_overloaded": 503,
    "slow_down": 503,
}
"""The codes of errors in the stream, and the status that each would have had before the stream began."""


class ResponsesStream:
    """Parses the events of one answer. `done` and `finished` are described by Parser."""

    def __init__(self) -> None:
        self.done = self.finished = False
        self._events = Events()
        self._place = Place()
        self._message = self._place.copy()
        """Where the current message has begun."""
        self._called: dict[int | None, bool] = {}
        """The calls by their index, and whether any of their arguments have arrived."""
        self._usage: Usage | None = None
        self._finish: Finish | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces of the answer that these bytes complete. Raises ModelFailed."""
        for event in self._events.feed(data):
            if self.done or event.data.startswith("[DONE]"):
                self.done = True
                return
            value = value_of(event)
            if type(value) is not dict:
                raise ModelFailed(*BROKEN_OFF)
            yield from self._pieces("error" if event.event == "error" else text_in(value, "type"), value)

    def end(self) -> Iterator[Usage | Finish]:
        """The usage and the finish reason, as far as the provider has sent them."""
        if self._usage is not None:
            yield self._usage
        if self._finish is not None:
            yield self._finish

    def _pieces(self, kind: str, value: dict[str, Any]) -> Iterator[Piece]:
        if kind == "response.output_text.delta":
            yield from self._text(text_in(value, "delta"))
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            yield Reasoning(text=text_in(value, "delta"))
        elif kind == "response.reasoning_summary_part.added" and index_in(value, "summary_index"):
            yield Reasoning(text="\n\n")  # parts are paragraphs
        elif kind == "response.function_call_arguments.delta":
            yield from self._arguments(index_in(value, "output_index"), text_in(value, "delta"))
        elif kind == "response.refusal.delta":
            yield Refusal(text=text_in(value, "delta"))
        elif kind == "response.output_item.added":
            yield from self._added(object_in(value, "item"), index_in(value, "output_index"))
        elif kind == "response.output_item.done":
            yield from self._complete(object_in(value, "item"), index_in(value, "output_index"))
        elif kind in ("response.completed", "response.incomplete"):
            self._end(object_in(value, "response"))
        elif kind in ("response.failed", "error"):
            raise _error(value)

    def _text(self, text: str) -> Iterator[Piece]:
        if text:
            self._place.text += len(text)
            yield text

    def _added(self, item: dict[str, Any], index: int | None) -> Iterator[Piece]:
        kind = text_in(item, "type")
        if kind == "message":
            self._message = self._place.copy()
        elif kind == "function_call":
            self._place.calls += 1
            self._called[index] = False
            yield CallPiece(index=index, id=text_in(item, "call_id"), name=text_in(item, "name"))
            yield from self._arguments(index, text_in(item, "arguments"))

    def _arguments(self, index: int | None, arguments: str) -> Iterator[Piece]:
        if arguments:
            self._called[index] = True
            yield CallPiece(index=index, arguments=arguments)

    def _complete(self, item: dict[str, Any], index: int | None) -> Iterator[Piece]:
        """An item is complete. Some providers send the arguments of a call, or the whole call, only now."""
        kind = text_in(item, "type")
        if kind == "reasoning" and text_in(item, "encrypted_content"):
            yield self._place.of({name: item[name] for name in KEPT if item.get(name) is not None})
        elif kind == "message" and (phase := text_in(item, "phase")):
            yield self._message.of({"phase": phase})
        elif kind == "function_call":
            if index not in self._called:
                yield from self._added(item, index)
            elif not self._called[index]:
                yield from self._arguments(index, text_in(item, "arguments"))

    def _end(self, response: dict[str, Any]) -> None:
        self.done = self.finished = True
        usage = object_in(response, "usage")
        used = Usage(
            input=count_in(usage, "input_tokens"),
            output=count_in(usage, "output_tokens"),
            reasoning=count_in(object_in(usage, "output_tokens_details"), "reasoning_tokens"),
            cached=count_in(object_in(usage, "input_tokens_details"), "cached_tokens"),
        )
        self._usage = used if used.input or used.output else None
        reason = text_in(object_in(response, "incomplete_details"), "reason")
        if reason:
            self._finish = Finish(reason="length" if reason == "max_output_tokens" else reason)
        else:
            self._finish = Finish(reason="tool_calls" if self._called else "stop")


def _error(value: dict[str, Any]) -> ModelFailed:
    """An error in the stream. Its message may contain keys or prompts, so only its code is used."""
    error = object_in(object_in(value, "response"), "error") or object_in(value, "error") or value
    code = text_in(error, "code")
    return failure_in_stream(STATUSES.get(code), code)
