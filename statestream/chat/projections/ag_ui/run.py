"""One reply as one AG-UI run: begun with all that there is, then what is new, then how it ended.

Invariants: the cursor is how much of each part was said. What the snapshot has of a part that still grows is not said
again: the part is opened once more by its id, which the client takes as going on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from statestream.chat.messages import Message, Part, State, find, over, path
from statestream.chat.projections.ag_ui.messages import (
    Event,
    call_id,
    reasoning_id,
    result,
    settled,
    snapshots,
    step_id,
)
from statestream.chat.projections.growing import Growing

VERSION: Final = "1.0"
SUCCESS: Final = {"type": "success"}
CANCELLED: Final = {"type": "cancelled"}

_TOKENS: Final = {
    "input": "inputTokens",
    "output": "outputTokens",
    "reasoning": "reasoningTokens",
    "cached": "cachedInputTokens",
}


class RunProjection:
    """One viewer of one reply, or of a chat as it is where `reply` is None. `begin`, then `new` until it is `over`."""

    def __init__(self, thread: str, run: str, reply: str | None) -> None:
        self._ids = {"threadId": thread, "runId": run}
        self._reply = reply
        self._parts: list[_Seen] = []
        self._closed = 0
        self._told = 0
        self.over = False

    def begin(self, state: State, held: Sequence[str] = ()) -> list[Event]:
        """That the run has begun, and all messages, for a client that holds those of these ids.

        A reply that is not among the messages any more is not shown.
        """
        if all(message["id"] != self._reply for message in path(state)):
            self._reply = None
        reply = find(state, self._reply)
        if reply is not None:
            self._parts = [_Seen(reply, index, told=True) for index in range(len(reply["parts"]))]
            self._told = settled(reply)
        return [
            {"type": "RUN_STARTED", **self._ids, "protocolVersion": VERSION},
            *({"type": "MESSAGES_SNAPSHOT", "messages": messages} for messages in snapshots(state, held)),
        ]

    def new(self, state: State) -> list[Event]:
        """The events behind what was given before."""
        if self.over:
            return []
        if self._reply is None:
            return [self._finished()]
        reply = find(state, self._reply)
        if reply is None:  # the history is another one
            return [self.failed("unknown_message", "The reply is not in this chat any more.")]
        events = list(self._grown(reply))
        if reply["status"] != "streaming":
            events.append(self._ended(reply))
        return events

    def _grown(self, reply: Message) -> Iterator[Event]:
        parts = reply["parts"]
        for index in range(self._closed, len(parts)):
            if index == len(self._parts):
                if index and parts[index].get("step", 0) != parts[index - 1].get("step", 0):
                    yield from self._results(reply, index)
                self._parts.append(_Seen(reply, index))
            if not self._parts[index].closed:
                yield from self._parts[index].new(reply, index)
        while self._closed < len(self._parts) and self._parts[self._closed].closed:
            self._closed += 1
        yield from self._results(reply, len(parts))

    def _results(self, reply: Message, end: int) -> Iterator[Event]:
        """The outcomes before part `end` that were not told yet, in the order of the calls."""
        start, self._told = self._told, min(settled(reply, self._told), end)
        for index in range(start, self._told):
            part = reply["parts"][index]
            if part["type"] == "tool":
                said = result(reply["id"], index, part)
                yield {"type": "TOOL_CALL_RESULT", "messageId": said.pop("id"), **said, "role": "tool"}

    def _ended(self, reply: Message) -> Event:
        usage = {"usage": [_usage(reply)]} if "usage" in reply else {}
        if reply["status"] == "error":
            return self.failed(reply["error"]["kind"], reply["error"]["message"], **usage)
        return self._finished(SUCCESS if reply["status"] == "complete" else CANCELLED, **usage)

    def _finished(self, outcome: dict[str, str] = SUCCESS, **more: Any) -> Event:
        self.over = True
        return {"type": "RUN_FINISHED", **self._ids, "outcome": outcome, **more}

    def failed(self, code: str, sentence: str, **more: Any) -> Event:
        """The end of a run that went wrong."""
        self.over = True
        return error(code, sentence, **more)


def error(code: str, sentence: str, **more: Any) -> Event:
    """A run that went wrong, or that never began."""
    return {"type": "RUN_ERROR", "message": sentence, "code": code, **more}


class _Seen:
    """How much of one part was said, and whether it was opened and closed by this run."""

    __slots__ = ("begun", "closed", "closing", "growing", "grown", "opening")

    def __init__(self, reply: Message, index: int, *, told: bool = False) -> None:
        part = reply["parts"][index]
        self.opening, self.grown, self.closing = _words(reply["id"], index, part)
        self.begun = self.closed = False
        self.growing = Growing()
        if told:
            self.growing.new(part)
            self.closed = _whole(reply, index)

    def new(self, reply: Message, index: int) -> Iterator[Event]:
        """The events of the part behind those that were given before."""
        if not self.begun:
            self.begun = True
            yield from self.opening
        if delta := self.growing.new(reply["parts"][index]):
            yield {**self.grown, "delta": delta}
        if _whole(reply, index):
            self.closed = True
            yield from self.closing


def _whole(reply: Message, index: int) -> bool:
    """Whether a part, of a tool its arguments, grows no more."""
    part = reply["parts"][index]
    return part["status"] != "streaming" if part["type"] == "tool" else over(reply, index)


def _words(reply: str, index: int, part: Part) -> tuple[list[Event], Event, list[Event]]:
    """What opens a part, what says that it grows, and what closes it."""
    if part["type"] == "tool":
        call = {"toolCallId": call_id(reply, index)}
        start = {"toolCallName": part["name"], "parentMessageId": step_id(reply, part.get("step", 0))}
        return (
            [{"type": "TOOL_CALL_START", **call, **start}],
            {"type": "TOOL_CALL_ARGS", **call},
            [{"type": "TOOL_CALL_END", **call}],
        )
    if part["type"] == "reasoning":
        thought = {"messageId": reasoning_id(reply, index)}
        return (
            [
                {"type": "REASONING_START", **thought},
                {"type": "REASONING_MESSAGE_START", **thought, "role": "reasoning"},
            ],
            {"type": "REASONING_MESSAGE_CONTENT", **thought},
            [{"type": "REASONING_MESSAGE_END", **thought}, {"type": "REASONING_END", **thought}],
        )
    said = {"messageId": step_id(reply, part.get("step", 0))}
    return (
        [{"type": "TEXT_MESSAGE_START", **said, "role": "assistant"}],
        {"type": "TEXT_MESSAGE_CONTENT", **said},
        [{"type": "TEXT_MESSAGE_END", **said}],
    )


def _usage(reply: Message) -> dict[str, Any]:
    usage = {name: reply["usage"][key] for key, name in _TOKENS.items() if key in reply["usage"]}
    return {"model": reply["model"], **usage}
