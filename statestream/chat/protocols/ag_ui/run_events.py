"""The events of one run: that it has begun, all messages, then what is new of its reply, then how that ended.

Invariants: the viewer's place is how much of each part was sent. What the snapshot has of a part that still grows is
not sent again: the part is opened once more by its id, which the client takes as its continuation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from statestream.chat.messages import WRITTEN, Message, Part, State, call_id, find, is_finished, path, undecided
from statestream.chat.protocols.ag_ui.messages import (
    Event,
    Held,
    activity_of,
    is_reasoning,
    reasoning_id,
    result_of,
    settled_parts,
    snapshots,
    step_id,
)
from statestream.chat.viewing.projection import Growing, Passing, Replaceable

VERSION: Final = "1.0"
SUCCESS: Final = {"type": "success"}
CANCELLED: Final = {"type": "cancelled"}

ANSWER_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "editedArgs": {"type": "object", "description": "All arguments of the tool, in place of the proposed ones."},
        "reason": {"type": "string"},
    },
    "required": ["approved"],
}
"""The schema of a client's answer to an interrupt."""

_TOKENS: Final = {
    "input": "inputTokens",
    "output": "outputTokens",
    "reasoning": "reasoningTokens",
    "cached": "cachedInputTokens",
}


class RunEvents:
    """The events of one reply for one viewer, or of a chat as it is if `reply` is None.

    `early`: the viewer speaks a version before 1.0. `late`: they join a run that has begun without them. Call `begin`,
    then `new` until it is `over`.
    """

    def __init__(self, thread: str, run: str, reply: str | None, *, early: bool = False, late: bool = False) -> None:
        self._ids = {"threadId": thread, "runId": run}
        self._reply, self._early = reply, early
        self._parts: list[_SentPart] = []
        self._closed = 0
        """The first parts that are closed, and need no look any more."""
        self._settled = 0
        """The parts whose outcomes were sent."""
        self._status: str | None = None
        self._passing, self._replaceable = Passing(late=late), Replaceable()
        self.over = False

    def begin(self, state: State, held: Held = Held()) -> list[Event]:  # noqa: B008 - it is frozen
        """The beginning of the run, and all messages, for a client that holds those.

        A reply that is not among the messages any more is not shown.
        """
        if all(message["id"] != self._reply for message in path(state)):
            self._reply = None
        reply = find(state, self._reply)
        if reply is not None:
            self._parts = [_SentPart(reply, index, in_snapshot=True) for index in range(len(reply["parts"]))]
            self._settled = settled_parts(reply)
            for index, part in enumerate(reply["parts"]):
                self._replaceable.note(part, index)
        return [
            started(self._ids["threadId"], self._ids["runId"]),
            *snapshots(state, held),
        ]

    def new(self, state: State) -> list[Event]:
        """The events that follow those that were returned before."""
        if self.over:
            return []
        if self._reply is None:
            return [self._finished()]
        reply = find(state, self._reply)
        if reply is None:  # the history is another one
            return [self.failed("unknown_message", "The reply is no longer in this chat.")]
        events = list(self._grown(reply))
        if reply["status"] != "streaming":
            events.append(self._ended(reply))
        return events

    def _grown(self, reply: Message) -> Iterator[Event]:
        status = reply["run"].get("status")
        if status != self._status and (status is not None or reply["status"] == "streaming"):
            self._status = status
            yield {"type": "CUSTOM", "name": "status", "value": status or ""}
        parts = reply["parts"]
        for index in self._replaceable.new(reply):
            yield from _events_of(reply["id"], index, parts[index])[0]
        for item in self._passing.new(reply):
            yield {"type": "CUSTOM", "name": item["type"], "value": item["data"]}
        for index in range(self._closed, len(parts)):
            if index == len(self._parts):
                if index and parts[index].get("step", 0) != parts[index - 1].get("step", 0):
                    yield from self._results(reply, index)  # a step begins after the outcomes of the last one
                self._parts.append(_SentPart(reply, index))
                self._replaceable.note(parts[index], index)
            if not self._parts[index].closed:
                yield from self._parts[index].new(reply, index)
        while self._closed < len(self._parts) and self._parts[self._closed].closed:
            self._closed += 1
        yield from self._results(reply, len(parts))

    def _results(self, reply: Message, end: int) -> Iterator[Event]:
        """The outcomes before part `end` that were not sent yet, in the order of the calls."""
        start, self._settled = self._settled, min(settled_parts(reply, self._settled), end)
        for index in range(start, self._settled):
            part = reply["parts"][index]
            if part["type"] == "tool":
                result = result_of(reply["id"], index, part)
                yield {"type": "TOOL_CALL_RESULT", "messageId": result.pop("id"), **result, "role": "tool"}

    def _ended(self, reply: Message) -> Event:
        usage = {"usage": [_usage(reply)]} if "usage" in reply else {}
        if reply["status"] == "error":
            return self.failed(reply["error"]["kind"], reply["error"]["message"], **usage)
        if reply["status"] == "waiting":
            return self._finished(_waiting(reply), **usage)
        return self._finished(SUCCESS if reply["status"] == "complete" else CANCELLED, **usage)

    def _finished(self, outcome: Mapping[str, Any] = SUCCESS, **more: Any) -> Event:
        self.over = True
        if self._early and outcome["type"] != "interrupt":
            outcome = SUCCESS  # clients before 1.0 reject the run if its outcome is or has anything else
        return {"type": "RUN_FINISHED", **self._ids, "outcome": outcome, **more}

    def failed(self, code: str, sentence: str, **more: Any) -> Event:
        """Ends the run with an error."""
        self.over = True
        return error_event(code, sentence, **more)


def started(thread: str, run: str) -> Event:
    """The beginning of a run."""
    return {"type": "RUN_STARTED", "threadId": thread, "runId": run, "protocolVersion": VERSION}


def error_event(code: str, sentence: str, **more: Any) -> Event:
    """The end of a run with an error, or of one that never began."""
    return {"type": "RUN_ERROR", "message": sentence, "code": code, **more}


class _SentPart:
    """How much of one part was sent, and whether this run has opened and closed it."""

    __slots__ = ("begun", "closed", "closing", "content", "growing", "opening")

    def __init__(self, reply: Message, index: int, *, in_snapshot: bool = False) -> None:
        part = reply["parts"][index]
        self.opening, self.content, self.closing = _events_of(reply["id"], index, part)
        self.begun = self.closed = False
        self.growing = Growing()
        if in_snapshot:
            self.closed = _is_complete(reply, index)
            if _grows(part):
                self.growing.new(part)

    def new(self, reply: Message, index: int) -> Iterator[Event]:
        """The events of the part that follow those that were returned before."""
        if not self.begun:
            self.begun = True
            yield from self.opening
        part = reply["parts"][index]
        if _grows(part) and (delta := self.growing.new(part)):
            yield {**self.content, "delta": delta}
        if _is_complete(reply, index):
            self.closed = True
            yield from self.closing


def _grows(part: Part) -> bool:
    return part["type"] == "tool" or part["type"] in WRITTEN


def _is_complete(reply: Message, index: int) -> bool:
    """Whether a part, or the arguments of a tool call, has stopped growing."""
    part = reply["parts"][index]
    return part["status"] != "streaming" if part["type"] == "tool" else is_finished(reply, index)


def _events_of(reply: str, index: int, part: Part) -> tuple[list[Event], Event, list[Event]]:
    """The events that open a part, that carry its content, and that close it."""
    if part["type"] == "tool":
        call = {"toolCallId": call_id(reply, index)}
        start = {"toolCallName": part["name"], "parentMessageId": step_id(reply, part.get("step", 0))}
        return (
            [{"type": "TOOL_CALL_START", **call, **start}],
            {"type": "TOOL_CALL_ARGS", **call},
            [{"type": "TOOL_CALL_END", **call}],
        )
    if is_reasoning(part):
        reasoning = {"messageId": reasoning_id(reply, index)}
        return (
            [
                {"type": "REASONING_START", **reasoning},
                {"type": "REASONING_MESSAGE_START", **reasoning, "role": "reasoning"},
            ],
            {"type": "REASONING_MESSAGE_CONTENT", **reasoning},
            [{"type": "REASONING_MESSAGE_END", **reasoning}, {"type": "REASONING_END", **reasoning}],
        )
    if not _grows(part):
        activity = activity_of(reply, index, part)
        del activity["role"]
        return [{"type": "ACTIVITY_SNAPSHOT", "messageId": activity.pop("id"), **activity, "replace": True}], {}, []
    text = {"messageId": step_id(reply, part.get("step", 0))}
    return (
        [{"type": "TEXT_MESSAGE_START", **text, "role": "assistant"}],
        {"type": "TEXT_MESSAGE_CONTENT", **text},
        [{"type": "TEXT_MESSAGE_END", **text}],
    )


def _waiting(reply: Message) -> dict[str, Any]:
    """The outcome of a run whose reply waits: interrupts if calls need approval, otherwise the calls of front-end
    tools.
    """
    parts = undecided(reply)
    if interrupts := [_interrupt(reply, index) for index in parts if "approval" in reply["parts"][index]]:
        return {"type": "interrupt", "interrupts": interrupts}
    return {**SUCCESS, "pendingToolCallIds": [call_id(reply["id"], index) for index in parts]}


def _interrupt(reply: Message, index: int) -> dict[str, Any]:
    part = reply["parts"][index]
    approval = part["approval"]
    until = {"expiresAt": _iso(approval["expires_at"])} if "expires_at" in approval else {}
    role = {"metadata": {"role": approval["role"]}} if "role" in approval else {}
    return {
        "id": approval["id"],
        "reason": "tool_call",
        "message": f"May {part['name']} run?",
        "toolCallId": call_id(reply["id"], index),
        "responseSchema": ANSWER_SCHEMA,
        **until,
        **role,
    }


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _usage(reply: Message) -> dict[str, Any]:
    usage = {name: reply["usage"][key] for key, name in _TOKENS.items() if key in reply["usage"]}
    return {"model": reply["model"], **usage}
