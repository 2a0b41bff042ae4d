"""Parses the stream of an answer of Anthropic's Messages API: bytes in, pieces of the answer out.

An answer consists of blocks, one after the other: text, thoughts, redacted thoughts, tool calls. Thoughts are signed
and must be sent back unchanged, so they become opaque data once they are complete.

Invariants: pure. Wherever the bytes are split, the pieces are the same. Whatever the bytes are, only ModelFailed is
raised, with a sentence of ours. Unknown events and members are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.events import MAX_EVENT, Events, count_in, index_in, object_in, text_in, value_of
from statestream.chat.models.failures import BROKEN_OFF, TOO_LONG, failure_in_stream
from statestream.chat.models.layout import Place
from statestream.chat.models.opaque import json_text

REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""The finish reasons of this API in the terms that all models share. Any other reason stays unchanged."""
STATUSES: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
"""The types of errors in the stream, and the status that each would have had before the stream began."""
_COUNTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class AnthropicStream:
    """Parses the events of one answer. `done` and `finished` are described by Parser."""

    def __init__(self) -> None:
        self.done = self.finished = False
        self._events = Events()
        self._place = Place()
        self._thought: dict[str, Any] | None = None
        """The thought that is being sent, whose text and signature are still in pieces."""
        self._size = 0
        self._counts: dict[str, int] = {}
        self._finish: Finish | None = None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The pieces of the answer that these bytes complete. Raises ModelFailed."""
        for event in self._events.feed(data):
            if self.done or event.data.startswith("[DONE]"):  # of gateways
                self.done = True
                return
            value = value_of(event)
            if type(value) is not dict:
                raise ModelFailed(*BROKEN_OFF)
            kind = "error" if event.event == "error" else text_in(value, "type")
            yield from self._pieces(kind, value)

    def end(self) -> Iterator[Usage | Finish]:
        """The usage and the finish reason, as far as the provider has sent them."""
        if any(self._counts.values()):
            yield self._usage()
        if self._finish is not None:
            yield self._finish

    def _pieces(self, kind: str, value: dict[str, Any]) -> Iterator[Piece]:
        if kind == "content_block_delta":
            yield from self._delta(object_in(value, "delta"), index_in(value, "index"))
        elif kind == "content_block_start":
            yield from self._start(object_in(value, "content_block"), index_in(value, "index"))
        elif kind == "content_block_stop":
            yield from self._stop()
        elif kind == "message_start":
            self._count(object_in(object_in(value, "message"), "usage"))
        elif kind == "message_delta":
            self._count(object_in(value, "usage"))
            yield from self._reason(object_in(value, "delta"))
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            raise _error(object_in(value, "error"))

    def _start(self, block: dict[str, Any], index: int | None) -> Iterator[Piece]:
        self.finished = False
        kind = text_in(block, "type")
        if kind == "text":
            yield from self._text(text_in(block, "text"))
        elif kind == "thinking":
            self._thought = {"type": kind, "thinking": [], "signature": [text_in(block, "signature")]}
            yield from self._thinking(text_in(block, "thinking"))
        elif kind == "redacted_thinking":
            self._thought = {"type": kind, "data": [text_in(block, "data")]}
        elif kind == "tool_use":
            self._place.calls += 1
            given = object_in(block, "input")  # empty if the arguments come in pieces
            arguments = json_text(given, readable=True) if given else ""
            yield CallPiece(index=index, id=text_in(block, "id"), name=text_in(block, "name"), arguments=arguments)

    def _delta(self, delta: dict[str, Any], index: int | None) -> Iterator[Piece]:
        self.finished = False
        kind = text_in(delta, "type")
        if kind == "text_delta":
            yield from self._text(text_in(delta, "text"))
        elif kind == "thinking_delta":
            yield from self._thinking(text_in(delta, "thinking"))
        elif kind == "signature_delta":
            self._extend("signature", text_in(delta, "signature"))
        elif kind == "input_json_delta" and (arguments := text_in(delta, "partial_json")):
            yield CallPiece(index=index, arguments=arguments)

    def _stop(self) -> Iterator[Piece]:
        """The end of a block. If the block is a thought, it is complete."""
        kept, self._thought = self._thought, None
        if kept is None:
            return
        thought = {name: value if name == "type" else "".join(value) for name, value in kept.items()}
        if any(value for name, value in thought.items() if name != "type"):
            yield self._place.of(thought)

    def _text(self, text: str) -> Iterator[Piece]:
        if text:
            self._place.text += len(text)
            yield text

    def _thinking(self, text: str) -> Iterator[Piece]:
        self._extend("thinking", text)
        if text:
            yield Reasoning(text=text)

    def _extend(self, name: str, text: str) -> None:
        """Adds to the thought. Raises ModelFailed if it is too long."""
        self._size += len(text)
        if self._size > MAX_EVENT:
            raise ModelFailed(*TOO_LONG)
        if self._thought is not None and name in self._thought:
            self._thought[name].append(text)

    def _reason(self, delta: dict[str, Any]) -> Iterator[Piece]:
        reason = text_in(delta, "stop_reason")
        if not reason:
            return
        self._finish, self.finished = Finish(reason=REASONS.get(reason, reason)), True
        if reason == "refusal":
            explanation = text_in(object_in(delta, "stop_details"), "explanation")
            yield Refusal(text=f"\n\n{explanation}" if explanation and self._place.text else explanation)

    def _count(self, usage: dict[str, Any]) -> None:
        """Notes the counts in an event. They replace those of earlier events."""
        details = object_in(usage, "output_tokens_details")
        for name, where in (*((name, usage) for name in _COUNTS), ("thinking_tokens", details)):
            if where.get(name) is not None:
                self._counts[name] = count_in(where, name)

    def _usage(self) -> Usage:
        """The usage. This API does not include cached tokens, read or written, in its count of the input."""
        fresh, written, cached, output = (self._counts.get(name, 0) for name in _COUNTS)
        thought = self._counts.get("thinking_tokens", 0)
        return Usage(input=fresh + written + cached, output=output, reasoning=thought, cached=cached)


def _error(error: dict[str, Any]) -> ModelFailed:
    """An error in the stream. Its message may contain keys or prompts, so only its type is used."""
    return failure_in_stream(STATUSES.get(text_in(error, "type")))
