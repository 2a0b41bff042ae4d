"""The stream of a chat completion as OpenAI's API sends it: bytes in, pieces of the answer out.

Compatible providers agree on little more than the outline, so what is not understood is skipped: members of
another type, choices beyond the first, thoughts under any of two names. Some send what was used so far with every
chunk and some say twice why they stopped, so of these the last counts.

Invariants: pure. Whatever the bytes are and wherever they are split, the pieces are the same, and nothing is raised but
ModelFailed with a sentence of ours. An event is held up to a limit.
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
    400: ("bad_request", "The model could not make sense of this conversation."),
    401: ("unauthenticated", "The model's key is missing or wrong."),
    403: ("forbidden", "The model's key does not allow this."),
    404: ("unknown_model", "The model does not exist there."),
    429: ("rate_limited", "The model is asked too often just now. Try again in a while."),
}
BROKEN_OFF: Final = ("failed", "The model broke off with an error.")


class Chunks:
    """The chunks of one answer. `done`: the provider has said that no more will come.

    `finished`: the model has said why it stopped, and nothing with it or since; some say so with every chunk.
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
            raise ModelFailed("failed", "The model said more at once than can be read.") from None
        for event in events:
            if self.done or event.data.startswith("[DONE]"):
                self.done = True
                return
            said = False
            for piece in pieces_of(_chunk(event)):
                if isinstance(piece, Usage):
                    self._usage = piece
                elif isinstance(piece, Finish):
                    self._finish, self.finished = piece, not said
                else:
                    said, self.finished = True, False
                    yield piece

    def end(self) -> Iterator[Usage | Finish]:
        """What the answer cost and why it ended, as far as the provider has said so."""
        if self._usage is not None:
            yield self._usage
        if self._finish is not None:
            yield self._finish


def pieces_of(chunk: Any) -> Iterator[Piece]:
    """What a chunk says, in order. Raises ModelFailed for an error, and for what is no chunk at all."""
    if type(chunk) is not dict:
        raise ModelFailed(*BROKEN_OFF)
    if chunk.get("error"):
        raise _error(chunk["error"])
    for choice in _objects(chunk.get("choices")):
        if choice.get("index") in (0, None):
            yield from _said(choice)
    usage = chunk.get("usage")
    if type(usage) is dict:
        yield from _used(usage)


def _chunk(event: Event) -> Any:
    """The JSON of an event. orjson refuses half a surrogate pair, which providers cut text into."""
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


def _said(choice: dict[str, Any]) -> Iterator[Piece]:
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
            yield from _called(calls)
    if reason := _text(choice, "finish_reason"):
        yield Finish(reason=reason)


def _called(calls: Any) -> Iterator[CallPiece]:
    """Fragments of calls. Where one has no index, its place among the others of its chunk says which it is."""
    for place, call in enumerate(_objects(calls)):
        index, function = call.get("index"), call.get("function")
        function = function if type(function) is dict else {}
        yield CallPiece(
            index=index if type(index) is int else place,
            id=_text(call, "id"),
            name=_text(function, "name"),
            arguments=_text(function, "arguments"),
        )


def _used(usage: dict[str, Any]) -> Iterator[Usage]:
    asked, said = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    used = Usage(
        input=_count(usage, "prompt_tokens"),
        output=_count(usage, "completion_tokens"),
        reasoning=_count(said, "reasoning_tokens"),
        cached=_count(asked, "cached_tokens"),
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
    """An error that came in the stream: what it says may hold keys or prompts, only its number is believed."""
    code = error.get("code") if type(error) is dict else None
    return ModelFailed(*SENTENCES.get(code, BROKEN_OFF) if type(code) is int else BROKEN_OFF)
