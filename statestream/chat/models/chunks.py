"""Parses the stream of a chat completion of OpenAI's API: bytes in, pieces of the answer out.

Compatible providers agree on little more than the outline, so anything unexpected is skipped: members of other types
and choices beyond the first. Reasoning has either of two names. Some providers send the usage so far with every chunk
and some repeat the finish reason, so the last of each counts. Tool calls come in many shapes: with arguments that are
an object, with members beside `function` instead of in it, as one object instead of a list, or as `function_call`.

Invariants: pure. Wherever the bytes are split, the pieces are the same. Whatever the bytes are, only ModelFailed is
raised, with a sentence of ours. The size of an event is limited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from statestream.chat.models import CallPiece, Finish, ModelFailed, Opaque, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.events import MAX_EVENT, Events, count_in, index_in, objects, text_in, value_of
from statestream.chat.models.failures import BROKEN_OFF, TOO_LONG, failure_in_stream
from statestream.chat.models.opaque import MEMBERS, THOUGHTS, dumped, json_text, merged, of_answer, of_call
from statestream.protocol.sse import Event

_SELDOM: Final = MEMBERS | {"tool_calls", "function_call"}


class Chunks:
    """Parses the chunks of one answer. `done`: the provider has announced the end of the stream.

    `finished`: the model has sent its finish reason, and no content with it or since; some repeat it with every chunk.
    `thoughts`: whether the name under which the provider sends thoughts is part of the opaque data. Opaque data of the
    answer is gathered until its first tool call, and then until its end. Each time it becomes one piece, however many
    chunks it takes.
    """

    def __init__(self, *, thoughts: bool = False) -> None:
        self.done = self.finished = False
        self._events = Events()
        self._usage: Usage | None = None
        self._finish: Finish | None = None
        self._opaque: dict[str, Any] = {}
        self._gathered = 0
        self._thoughts_wanted = thoughts

    def feed(self, data: bytes) -> Iterator[str | Reasoning | CallPiece | Opaque | Refusal]:
        """The pieces of the answer that these bytes complete. Raises ModelFailed."""
        for event in self._events.feed(data):
            if self.done or event.data.startswith("[DONE]"):
                self.done = True
                return
            content = False
            for piece in pieces_of(chunk := _chunk(event)):
                if type(piece) is str:  # nearly all are
                    content, self.finished = True, False
                    yield piece
                elif isinstance(piece, Usage):
                    self._usage = piece
                elif isinstance(piece, Finish):
                    self._finish, self.finished = piece, not content
                elif isinstance(piece, Opaque):
                    self._gather(piece)
                else:
                    content, self.finished = True, False
                    if (opaque := self._before(piece, chunk)) is not None:
                        yield opaque
                    yield piece

    def end(self) -> Iterator[Opaque | Usage | Finish]:
        """The rest of the opaque data, the usage and the finish reason, as far as the provider has sent them."""
        if (opaque := self._taken()) is not None:
            yield opaque
        if self._usage is not None:
            yield self._usage
        if self._finish is not None:
            yield self._finish

    def _gather(self, piece: Opaque) -> None:
        self._gathered += len(piece.data)
        if self._gathered > MAX_EVENT:
            raise ModelFailed(*TOO_LONG)
        self._opaque = merged(self._opaque, {"members": json.loads(piece.data)})

    def _before(self, piece: Piece, chunk: Any) -> Opaque | None:
        """The opaque data that is due before a piece of this chunk."""
        if isinstance(piece, CallPiece):
            return self._taken()
        if self._thoughts_wanted and isinstance(piece, Reasoning):
            self._thoughts_wanted = False
            self._opaque["thought"] = _name_of_thought(chunk)
        return None

    def _taken(self) -> Opaque | None:
        if not self._opaque:
            return None
        opaque, self._opaque = self._opaque, {}
        return Opaque(data=dumped(opaque))


def pieces_of(chunk: Any) -> Iterator[Piece]:
    """The pieces in a chunk, in order. Raises ModelFailed for an error, and for anything that is not a chunk."""
    if type(chunk) is not dict:
        raise ModelFailed(*BROKEN_OFF)
    if chunk.get("error"):
        raise _error(chunk["error"])
    for choice in objects(chunk.get("choices")):
        if choice.get("index") in (0, None):
            yield from _content(choice)
    usage = chunk.get("usage")
    if type(usage) is dict:
        yield from _usage(usage)


def _chunk(event: Event) -> Any:
    value = value_of(event)
    if event.event == "error":
        raise _error(value)
    return value


def _content(choice: dict[str, Any]) -> Iterator[Piece]:
    delta = choice.get("delta")
    if type(delta) is dict:
        thought = text_in(delta, "reasoning_content") or text_in(delta, "reasoning")
        if thought:
            yield Reasoning(text=thought)
        if text := text_in(delta, "content"):
            yield text
        if refusal := text_in(delta, "refusal"):
            yield Refusal(text=refusal)
        if not _SELDOM.isdisjoint(delta):
            yield from _seldom(delta)
    if reason := text_in(choice, "finish_reason"):
        yield Finish(reason=reason)


def _seldom(delta: dict[str, Any]) -> Iterator[Opaque | CallPiece]:
    """The rarer contents of a delta: opaque data, and pieces of tool calls in their new or their old shape."""
    if opaque := of_answer(delta):
        yield Opaque(data=json_text(opaque))
    if calls := delta.get("tool_calls"):
        yield from _call_pieces(calls)
    elif type(call := delta.get("function_call")) is dict:
        yield _call_piece({"function": call}, None)


def _call_pieces(calls: Any) -> Iterator[CallPiece]:
    """Pieces of tool calls. Where one chunk has pieces of several without an index, their places tell them apart."""
    pieces = objects([calls] if type(calls) is dict else calls)
    for place, call in enumerate(pieces):
        yield _call_piece(call, place if len(pieces) > 1 else None)


def _call_piece(call: dict[str, Any], place: int | None) -> CallPiece:
    index, id, function, opaque = index_in(call, "index"), call.get("id"), call.get("function"), of_call(call)
    function = function if type(function) is dict else call
    return CallPiece(
        index=place if index is None else index,
        id=str(id) if type(id) is int else text_in(call, "id"),
        name=text_in(function, "name"),
        arguments=_arguments(function.get("arguments")),
        opaque=json_text(opaque) if opaque else "",
    )


def _arguments(value: Any) -> str:
    """A piece of a call's arguments. Some providers send an object, which is empty if the text is still to come."""
    if type(value) is dict and value:
        return json_text(value, readable=True)
    return value if type(value) is str else ""


def _name_of_thought(chunk: Any) -> str:
    """The name of the reasoning in a chunk that has some."""
    deltas = [choice.get("delta") for choice in objects(chunk.get("choices"))]
    return next(name for name in THOUGHTS if any(text_in(delta, name) for delta in objects(deltas)))


def _usage(usage: dict[str, Any]) -> Iterator[Usage]:
    input_details, output_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    used = Usage(
        input=count_in(usage, "prompt_tokens"),
        output=count_in(usage, "completion_tokens"),
        reasoning=count_in(output_details, "reasoning_tokens"),
        cached=count_in(input_details, "cached_tokens"),
    )
    if used.input or used.output:
        yield used


def _error(error: Any) -> ModelFailed:
    """An error in the stream. Its message may contain keys or prompts, so only its number is used."""
    code = error.get("code") if type(error) is dict else None
    return failure_in_stream(code if type(code) is int else None)
