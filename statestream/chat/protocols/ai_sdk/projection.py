"""A reply as the AI SDK's UI message stream.

Invariants: one reply per stream. A part is closed before the next step begins, and no member is null. The viewer's
place is how much of each part was sent. A stream that begins in mid-reply sends the existing content of a part in one
delta, so that a late viewer and one who was there from the start end up with the same message. If the viewer holds the
message up to the point where it waited, the stream continues from there, and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

from msgspec import Struct

from statestream.chat.messages import WRITTEN, Message, Part, call_id, find, is_finished
from statestream.chat.protocols.ai_sdk.messages import SETTLED, arguments_of, kind_of, metadata_of, whole_part
from statestream.chat.viewing.projection import Growing, Item, Look, Passing, Replaceable

Chunk = dict[str, Any]

_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
}


class Held(Struct, frozen=True, kw_only=True):
    """What a viewer holds of a reply: its first parts, the outcomes of these calls, and the inputs of those.

    The keys of `inputs` are the ids that calls have in this protocol.
    """

    parts: int = 0
    outcomes: frozenset[str] = frozenset()
    inputs: Mapping[str, Any] = {}


NOTHING: Final = Held()


class UIMessageProjection:
    """One viewer of one reply, and what they hold of it.

    `late`: they were not there from the start. If the reply is lost, the projection is over and truncated.
    """

    def __init__(self, reply: str, held: Held = NOTHING, *, late: bool = False) -> None:
        self._reply, self._held = reply, held
        self._passing, self._replaceable = Passing(late=late), Replaceable()
        self._started = False
        self._step: int | None = None
        self._in_step = False
        self._status: str | None = None
        self._parts: list[_SentPart] = []
        self._closed = 0
        """The first parts that are closed, and need no look any more."""
        self.over = self.truncated = False

    def new(self, look: Look) -> list[Item]:
        """The chunks that follow those of the last look."""
        if self.over:
            return []
        message = find(look.state, self._reply)
        if message is None:  # it was trimmed, or the history is another one
            self.over = self.truncated = True
            return []
        self.over = message["status"] != "streaming"
        self.truncated = look.last and not self.over
        return list(self._chunks(message))

    def _chunks(self, message: Message) -> Iterator[Chunk]:
        if not self._started:
            self._started = True
            self._hold(message)
            yield {"type": "start", "messageId": message["id"], "messageMetadata": metadata_of(message)}
        status = message["run"].get("status")
        if status != self._status and (status is not None or not self.over):
            self._status = status
            yield {"type": "data-status", "data": {"text": status or ""}, "transient": True}
        for index in self._replaceable.new(message):
            yield whole_part(message["parts"][index], index)
        for item in self._passing.new(message):
            yield {**whole_part(item, 0), "transient": True}
        for index in range(self._closed, len(message["parts"])):
            yield from self._part(message, index)
        while self._closed < len(self._parts) and self._parts[self._closed].closed:
            self._closed += 1
        if self.over:
            yield from self._end(message)

    def _hold(self, message: Message) -> None:
        """Skips what the viewer holds. Somebody else may have edited the arguments of a call in the meantime."""
        for index, part in enumerate(message["parts"][: self._held.parts]):
            sent = _SentPart(part, self._held.outcomes)
            self._parts.append(sent)
            self._replaceable.note(part, index)
            self._step, id = part.get("step", 0), call_id(message["id"], index)
            inputs = self._held.inputs
            if part["type"] == "tool" and id in inputs and inputs[id] != arguments_of(part)[1]:
                sent.arguments = None

    def _part(self, message: Message, index: int) -> Iterator[Chunk]:
        part = message["parts"][index]
        if index == len(self._parts):
            self._parts.append(_SentPart())
            yield from self._begin_step(part.get("step", 0))
        sent = self._parts[index]
        if part["type"] == "tool":
            yield from _tool(sent, part, call_id(message["id"], index))
        elif part["type"] not in WRITTEN:
            if not sent.closed:
                sent.closed = True
                self._replaceable.note(part, index)
                yield whole_part(part, index)
        else:
            yield from _text(sent, message, index)

    def _begin_step(self, step: int) -> Iterator[Chunk]:
        if step != self._step:
            if self._in_step:
                yield {"type": "finish-step"}
            self._step, self._in_step = step, True
            yield {"type": "start-step"}

    def _end(self, message: Message) -> Iterator[Chunk]:
        if self._in_step:
            yield {"type": "finish-step"}
        if message["status"] in ("complete", "waiting"):
            reason = _REASONS.get(message.get("finish_reason", "tool_calls"), "other")
            yield {"type": "finish", "finishReason": reason, "messageMetadata": metadata_of(message)}
            return
        yield {"type": "message-metadata", "messageMetadata": metadata_of(message)}
        if message["status"] == "error":
            yield {"type": "error", "errorText": message["error"]["message"]}
        else:
            yield {"type": "abort"}


class _SentPart:
    """How much of one part was sent. `called`: the input of a tool call is available; `asked`: its approval is.

    `arguments` are the arguments that were sent, as text. `held`: the part as the viewer holds it, if they hold it.
    """

    __slots__ = ("arguments", "asked", "begun", "called", "closed", "growing")

    def __init__(self, held: Part | None = None, outcomes: AbstractSet[str] = NOTHING.outcomes) -> None:
        self.begun = self.called = self.asked = held is not None
        self.closed = held is not None and (held["type"] != "tool" or held["call"] in outcomes)
        self.arguments: str | None = held["arguments"] if held is not None and held["type"] == "tool" else None
        self.growing = Growing()


def _text(sent: _SentPart, message: Message, index: int) -> Iterator[Chunk]:
    """The chunks of a part of text or reasoning."""
    if sent.closed:
        return
    part, part_id = message["parts"][index], str(index)
    kind, nested = kind_of(message, part)
    if not sent.begun:
        sent.begun = True
        yield {"type": f"{kind}-start", "id": part_id, **nested}
    if delta := sent.growing.new(part):
        yield {"type": f"{kind}-delta", "id": part_id, "delta": delta}
    if is_finished(message, index):
        sent.closed = True
        yield {"type": f"{kind}-end", "id": part_id}


def _tool(sent: _SentPart, part: Part, id: str) -> Iterator[Chunk]:
    """The chunks of a tool call: its input, its approval if it needs one, then its output."""
    if sent.closed:
        return
    call, name = {"toolCallId": id}, {"toolName": part["name"]}
    if not sent.begun:
        sent.begun = True
        yield {"type": "tool-input-start", **call, **name}
    if not sent.called and (delta := sent.growing.new(part)):
        yield {"type": "tool-input-delta", **call, "inputTextDelta": delta}
    if part["status"] == "streaming":
        return
    sent.closed = part["status"] not in ("waiting", "running")
    readable, given = arguments_of(part)
    if readable and sent.arguments != part["arguments"]:  # new, or edited by whoever has approved them
        sent.called, sent.arguments = True, part["arguments"]
        yield {"type": "tool-input-available", **call, **name, "input": given}
    if "approval" in part and part["status"] == "waiting" and not sent.asked:
        sent.asked = True
        yield {"type": "tool-approval-request", "approvalId": part["approval"]["id"], **call}
    if part["status"] == "error" and not readable:
        yield {"type": "tool-input-error", **call, **name, **SETTLED, "input": given, "errorText": part["error"]}
    elif sent.closed:
        yield _output(part, call)


def _output(part: Part, call: Chunk) -> Chunk:
    if part["status"] == "complete":
        return {"type": "tool-output-available", **call, **SETTLED, "output": part["result"]}
    if part["status"] == "denied":
        return {"type": "tool-output-denied", **call}
    return {"type": "tool-output-error", **call, **SETTLED, "errorText": part["error"]}
