"""Agents that already speak AG-UI: their events as pieces of a reply.

    @chat.agent
    async def planner(task, context):
        async for piece in ag_ui.pieces(planning.run(input_of(task))):
            yield piece

An event is an object of `ag_ui.core`, or a dict with the names of the wire. The chat shows the pieces in every
protocol, and in AG-UI as events of the same kind.

Invariants: pure, and independent of AG-UI's packages. State and lists of messages are not taken over: the chat is the
list of messages, and state belongs into slices.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from statestream.chat.agents import AgentPiece, Data, Status, ToolResult, ToolUse
from statestream.chat.agents.adapting import arguments_of
from statestream.chat.models import CallPiece, Finish, ModelFailed, Reasoning, Usage
from statestream.core.errors import NotJSON
from statestream.core.patch import apply_patch
from statestream.core.values import loads

MAX_NAME: Final = 64
_NOT_IN_NAMES: Final = re.compile(r"[^a-zA-Z0-9_-]", re.ASCII)
Event = Mapping[str, Any]


async def pieces(events: AsyncIterable[Any]) -> AsyncIterator[AgentPiece]:
    """Turns the events of one run into pieces. Calls without a result run in a window, or wait for approval.

    Raises ModelFailed for RUN_ERROR, and for an interrupt that nobody can answer here.
    """
    run = _Run()
    async for event in events:
        given = event if isinstance(event, Mapping) else event.model_dump(mode="json", by_alias=True, exclude_none=True)
        for piece in run.pieces(given):
            yield piece


class _Run:
    """One run. `calls` are the names and arguments of the calls without a result, by their ids."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, list[str]]] = {}
        self._activities: dict[str, tuple[str, Any]] = {}
        self._last = ""
        """The call that began last, which a chunk without an id continues."""
        self._readers: Mapping[str, Callable[[Event], Iterator[AgentPiece]]] = {
            "TEXT_MESSAGE_CONTENT": _text,
            "TEXT_MESSAGE_CHUNK": _text,
            "REASONING_MESSAGE_CONTENT": _reasoning,
            "REASONING_MESSAGE_CHUNK": _reasoning,
            "TOOL_CALL_START": self._call,
            "TOOL_CALL_ARGS": self._call,
            "TOOL_CALL_CHUNK": self._call,
            "TOOL_CALL_RESULT": self._result,
            "ACTIVITY_SNAPSHOT": self._activity,
            "ACTIVITY_DELTA": self._changed,
            "CUSTOM": _custom,
            "STEP_STARTED": _step,
            "STEP_FINISHED": _step,
            "RUN_FINISHED": self._finished,
            "RUN_ERROR": _failed,
        }

    def pieces(self, event: Event) -> Iterator[AgentPiece]:
        """Nothing for an event that a reply cannot hold."""
        reader = self._readers.get(event["type"])
        return iter(()) if reader is None else reader(event)

    def _call(self, event: Event) -> Iterator[AgentPiece]:
        id = self._last = event.get("toolCallId", self._last)
        name, arguments = event.get("toolCallName", ""), event.get("delta", "")
        known = self._calls.setdefault(id, (name, []))
        known[1].append(arguments)
        yield CallPiece(id=id, name=name, arguments=arguments)

    def _result(self, event: Event) -> Iterator[AgentPiece]:
        self._calls.pop(event["toolCallId"], None)
        yield ToolResult(id=event["toolCallId"], result=_parsed(event["content"]))

    def _activity(self, event: Event) -> Iterator[AgentPiece]:
        yield self._shown(event["messageId"], event["activityType"], event["content"])

    def _changed(self, event: Event) -> Iterator[AgentPiece]:
        kind, content = self._activities.get(event["messageId"], (event["activityType"], {}))
        yield self._shown(event["messageId"], kind, apply_patch(content, event["patch"]))

    def _shown(self, id: str, kind: str, content: Any) -> Data:
        self._activities[id] = kind, content
        return Data(name=_name(kind), data=content, id=id)

    def _finished(self, event: Event) -> Iterator[AgentPiece]:
        interrupts = (event.get("outcome") or {}).get("interrupts", ())
        approvals = [each.get("toolCallId") for each in interrupts]
        if any(id not in self._calls for id in approvals):
            raise ModelFailed("input_required", "The agent waits for an answer that nobody can give here.")
        for id, (name, texts) in self._calls.items():
            arguments, asks = arguments_of("".join(texts)), id in approvals
            yield ToolUse(id=id, name=name, arguments=arguments, approval=asks, frontend=not asks)
        for usage in event.get("usage") or ():
            yield _usage(usage)
        yield Finish(reason="stop")


def _text(event: Event) -> Iterator[AgentPiece]:
    yield event.get("delta", "")


def _reasoning(event: Event) -> Iterator[AgentPiece]:
    yield Reasoning(text=event.get("delta", ""))


def _custom(event: Event) -> Iterator[AgentPiece]:
    yield Data(name=_name(event["name"]), data=event.get("value"), transient=True)


def _step(event: Event) -> Iterator[AgentPiece]:
    yield Status(text=event["stepName"] if event["type"] == "STEP_STARTED" else "")


def _failed(event: Event) -> Iterator[AgentPiece]:
    raise ModelFailed(_name(event.get("code") or "failed"), event["message"])


def _usage(usage: Event) -> Usage:
    return Usage(
        input=usage.get("inputTokens", 0),
        output=usage.get("outputTokens", 0),
        reasoning=usage.get("reasoningTokens", 0),
        cached=usage.get("cachedInputTokens", 0),
    )


def _name(given: str) -> str:
    return _NOT_IN_NAMES.sub("_", given)[:MAX_NAME] or "_"


def _parsed(content: Any) -> Any:
    """The content of a result: text is parsed as JSON if that is possible."""
    if isinstance(content, str):
        with contextlib.suppress(NotJSON):
            return loads(content.encode(errors="replace"))
    return content
