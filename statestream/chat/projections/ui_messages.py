"""A reply as the AI SDK's UI message stream, version 1, and a chat as its UI messages.

Source: ai-sdk.dev, "Stream Protocols". Only what both majors, 6 and 7, accept is sent: one reply a stream, parts
closed before the next step, no member that is null.

Invariants: the cursor is how much of each part was said. A stream that begins in the middle says what there is in one
delta a part, so a resumed stream and one that was there from the start lead to the same message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from statestream.chat.messages import Message, Part, State, over, path, shown
from statestream.chat.projections.growing import Growing
from statestream.core.errors import NotJSON
from statestream.core.values import loads

DONE: Final = b"data: [DONE]\n\n"

Chunk = dict[str, Any]

_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


class UIMessageProjection:
    """One viewer of one reply. `new` may be asked at any time, also for the first time in the middle."""

    def __init__(self) -> None:
        self._started = False
        self._step: int | None = None
        self._parts: list[_Seen] = []
        self._closed = 0
        self.over = False

    def new(self, message: Message) -> list[Chunk]:
        """The chunks behind what was given before."""
        if self.over:
            return []
        chunks = list(self._begun(message))
        for index in range(self._closed, len(message["parts"])):
            chunks += self._part(message, index)
        while self._closed < len(self._parts) and self._parts[self._closed].closed:
            self._closed += 1
        if message["status"] != "streaming":
            self.over = True
            chunks += self._ended(message)
        return chunks

    def _begun(self, message: Message) -> Iterator[Chunk]:
        if not self._started:
            self._started = True
            yield {"type": "start", "messageId": message["id"], "messageMetadata": _metadata(message)}

    def _part(self, message: Message, index: int) -> Iterator[Chunk]:
        part = message["parts"][index]
        if index == len(self._parts):
            self._parts.append(_Seen())
            yield from self._to_step(part.get("step", 0))
        seen = self._parts[index]
        if part["type"] == "tool":
            yield from _tool(seen, part)
        else:
            yield from _text(seen, part, str(index), done=over(message, index))

    def _to_step(self, step: int) -> Iterator[Chunk]:
        if step != self._step:
            if self._step is not None:
                yield {"type": "finish-step"}
            self._step = step
            yield {"type": "start-step"}

    def _ended(self, message: Message) -> Iterator[Chunk]:
        if self._step is not None:
            yield {"type": "finish-step"}
        if message["status"] == "complete":
            reason = _REASONS.get(message["finish_reason"], "other")
            yield {"type": "finish", "finishReason": reason, "messageMetadata": _metadata(message)}
            return
        yield {"type": "message-metadata", "messageMetadata": _metadata(message)}
        if message["status"] == "error":
            yield {"type": "error", "errorText": message["error"]["message"]}
        else:
            yield {"type": "abort"}


class _Seen:
    """How much of one part was said."""

    __slots__ = ("begun", "called", "closed", "growing")

    def __init__(self) -> None:
        self.begun = self.called = self.closed = False
        self.growing = Growing()


def _text(seen: _Seen, part: Part, part_id: str, *, done: bool) -> Iterator[Chunk]:
    if seen.closed:
        return
    kind = part["type"]
    if not seen.begun:
        seen.begun = True
        yield {"type": f"{kind}-start", "id": part_id}
    if delta := seen.growing.new(part):
        yield {"type": f"{kind}-delta", "id": part_id, "delta": delta}
    if done:
        seen.closed = True
        yield {"type": f"{kind}-end", "id": part_id}


def _tool(seen: _Seen, part: Part) -> Iterator[Chunk]:
    if seen.closed:
        return
    call, name = {"toolCallId": part["call"]}, {"toolName": part["name"]}
    if not seen.begun:
        seen.begun = True
        yield {"type": "tool-input-start", **call, **name}
    if delta := seen.growing.new(part):
        yield {"type": "tool-input-delta", **call, "inputTextDelta": delta}
    if part["status"] == "streaming":
        return
    readable, given = arguments_of(part)
    seen.closed = part["status"] != "running"
    if readable and not seen.called:
        seen.called = True
        yield {"type": "tool-input-available", **call, **name, "input": given}
    if part["status"] == "complete":
        yield {"type": "tool-output-available", **call, "output": part["result"]}
    elif part["status"] == "error" and readable:
        yield {"type": "tool-output-error", **call, "errorText": part["error"]}
    elif part["status"] == "error":
        yield {"type": "tool-input-error", **call, **name, "input": given, "errorText": part["error"]}


def arguments_of(part: Part) -> tuple[bool, Any]:
    """Whether a tool's arguments are JSON as the tool takes it, and their value; their text where they are not."""
    text = shown(part)
    try:
        return True, loads(text.encode() or b"{}")
    except NotJSON:
        return False, text


def _metadata(message: Message) -> dict[str, Any]:
    """What a message says about itself, and how it ended if not well. Members that it does not have are left out."""
    names = {"created_at": "createdAt", "model": "model", "usage": "usage", "author": "author", "error": "error"}
    metadata = {name: message[key] for key, name in names.items() if key in message}
    return metadata | ({"status": message["status"]} if message["status"] in ("stopped", "error") else {})


# a whole chat


def ui_messages(state: State) -> list[dict[str, Any]]:
    """The messages that are shown, as a page gives them to `useChat` when it is loaded."""
    return [ui_message(message) for message in path(state)]


def ui_message(message: Message) -> dict[str, Any]:
    """The message that a client has after the whole stream of a reply; a person's as it was posted."""
    parts: list[dict[str, Any]] = []
    step = None
    for index, part in enumerate(message["parts"]):
        if message["role"] != "user" and part.get("step", 0) != step:
            step = part.get("step", 0)
            parts.append({"type": "step-start"})
        parts.append(_ui_part(message, index))
    return {"id": message["id"], "role": message["role"], "metadata": _metadata(message), "parts": parts}


def _ui_part(message: Message, index: int) -> dict[str, Any]:
    part = message["parts"][index]
    if message["role"] == "user":
        return dict(part)
    if part["type"] != "tool":
        named = {"id": str(index)} if part["type"] == "reasoning" else {}
        state = "done" if over(message, index) else "streaming"
        return {"type": part["type"], **named, "text": shown(part), "state": state}
    readable, given = arguments_of(part)
    states = {"streaming": "input-streaming", "running": "input-available", "complete": "output-available"}
    ui = {"type": f"tool-{part['name']}", "toolCallId": part["call"]}
    ui["state"] = states.get(part["status"], "output-error")
    if readable or part["status"] == "error":
        ui["input"] = given
    if part["status"] == "complete":
        ui["output"] = part["result"]
    elif part["status"] == "error":
        ui["errorText"] = part["error"]
    return ui
