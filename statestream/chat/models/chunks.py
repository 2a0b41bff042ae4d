"""Parses the stream of a chat completion of OpenAI's API: bytes in, pieces of the answer out.

Compatible providers agree on little more than the outline, so anything unexpected is skipped: members of other types
and choices beyond the first. Reasoning has either of two names. Some providers send the usage so far with every chunk
and some repeat the finish reason, so the last of each counts.

Invariants: pure. Wherever the bytes are split, the pieces are the same. Whatever the bytes are, only ModelFailed is
raised, with a sentence of ours. The size of an event is limited.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import orjson

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Refusal, Usage
from statestream.core.errors import TooLarge
from statestream.core.values import MAX_INT
from statestream.protocol.sse import Decoder, Event

MAX_EVENT: Final = 4 << 20

SENTENCES: Final = {
    400: ("bad_request", "The model could not process this conversation."),
    401: ("unauthenticated", "The model's key is missing or wrong."),
    403: ("forbidden", "The model's key does not allow this."),
    404: ("unknown_model", "The provider does not have this model."),
    429: ("rate_limited", "The model receives too many requests. Try again in a while."),
}
BROKEN_OFF: Final = ("failed", "The model stopped with an error.")


class Chunks:
    """Parses the chunks of one answer. `done`: the provider has announced the end of the stream.

    `finished`: the model has given its finish reason, and no content with it or since; some repeat it with every chunk.
    """

    def __init__(self) -> None:
        self.done = self.finished = False
        self._decoder = Decoder(limit=MAX_EVENT)
        self._usage: Usage | None = None
        self._finish: Finish | None = None

    def feed(self, data: bytes) -> Iterator[str | Reasoning | CallPiece | Refusal]:
        """The pieces of the answer that these bytes complete. Raises ModelFailed."""
        try:
            events = self._decoder.feed(data)
        except TooLarge:
            raise ModelFailed("failed", "The model sent more at once than can be read.") from None
        for event in events:
            if self.done or event.data.startswith("[DONE]"):
                self.done = True
                return
            content = False
            for piece in pieces_of(_chunk(event)):
                if isinstance(piece, Usage):
                    self._usage = piece
                elif isinstance(piece, Finish):
                    self._finish, self.finished = piece, not content
                else:
                    content, self.finished = True, False
                    yield piece

    def end(self) -> Iterator[Usage | Finish]:
        """The usage and the finish reason, as far as the provider has sent them."""
        if self._usage is not None:
            yield self._usage
        if self._finish is not None:
            yield self._finish


def pieces_of(chunk: Any) -> Iterator[Piece]:
    """The pieces in a chunk, in order. Raises ModelFailed for an error, and for anything that is not a chunk."""
    if type(chunk) is not dict:
        raise ModelFailed(*BROKEN_OFF)
    if chunk.get("error"):
        raise _error(chunk["error"])
    for choice in _objects(chunk.get("choices")):
        if choice.get("index") in (0, None):
            yield from _content(choice)
    usage = chunk.get("usage")
    if type(usage) is dict:
        yield from _usage(usage)


def _chunk(event: Event) -> Any:
    """The JSON of an event. Falls back to `json`: orjson rejects half a surrogate pair, which providers send."""
    try:
        value = orjson.loads(event.data)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            raise ModelFailed(*BROKEN_OFF) from None
    if event.event == "error":
        raise _error(value)
    return value


def _content(choice: dict[str, Any]) -> Iterator[Piece]:
    delta = choice.get("delta")
    if type(delta) is dict:
        thought = _text(delta, "reasoning_content") or _text(delta, "reasoning")
        if thought:
            yield Reasoning(text=thought)
        if text := _text(delta, "content"):
            yield text
        if refusal := _text(delta, "refusal"):
            yield Refusal(text=refusal)
        if calls := delta.get("tool_calls"):
            yield from _call_pieces(calls)
    if reason := _text(choice, "finish_reason"):
        yield Finish(reason=reason)


def _call_pieces(calls: Any) -> Iterator[CallPiece]:
    """Pieces of tool calls. One without an index has that of its place in the chunk."""
    for place, call in enumerate(_objects(calls)):
        index, function = call.get("index"), call.get("function")
        function = function if type(function) is dict else {}
        yield CallPiece(
            index=index if type(index) is int else place,
            id=_text(call, "id"),
            name=_text(function, "name"),
            arguments=_text(function, "arguments"),
        )


def _usage(usage: dict[str, Any]) -> Iterator[Usage]:
    input_details, output_details = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    used = Usage(
        input=_count(usage, "prompt_tokens"),
        output=_count(usage, "completion_tokens"),
        reasoning=_count(output_details, "reasoning_tokens"),
        cached=_count(input_details, "cached_tokens"),
    )
    if used.input or used.output:
        yield used


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if type(item) is dict] if type(value) is list else []


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    return text if type(text) is str else ""


def _count(value: Any, name: str) -> int:
    count = value.get(name) if type(value) is dict else None
    return count if type(count) is int and 0 <= count <= MAX_INT else 0


def _error(error: Any) -> ModelFailed:
    """An error in the stream. Its message may contain keys or prompts, so only its number is used."""
    code = error.get("code") if type(error) is dict else None
    return ModelFailed(*SENTENCES.get(code, BROKEN_OFF) if type(code) is int else BROKEN_OFF)
