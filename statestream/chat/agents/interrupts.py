"""Interrupts of LangGraph that ask for the approval of tool calls, as LangChain's HumanInTheLoopMiddleware does.

If a window has to run a call, the middleware of `langchain` says so, with the id of the call (`in_window`).

The middleware asks either about all calls of an answer at once, without their ids (`action_requests`), or about a
single call, with its id (`tool_approval`).

Invariants: pure. An interrupt that asks for anything else is refused: nobody could answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from statestream.chat.agents import Task, ToolUse
from statestream.chat.agents.adapting import shown_arguments
from statestream.chat.approvals import DENIED, Decided
from statestream.chat.models import ModelFailed

IN_WINDOW: Final = "in_window"
"""The member of an interrupt's value that says that a window runs the call."""
Running = Mapping[str, ToolUse]
"""The calls without an outcome, by their ids."""


def asked(interrupts: Iterable[Any], running: Running) -> list[ToolUse]:
    """The calls that need approval. Raises ModelFailed if the graph asks for anything else."""
    left = dict(running)
    calls = [
        (running[id], _is_for_window(interrupt.value))
        for interrupt in interrupts
        for id in _calls(interrupt.value, left)
    ]
    return [
        ToolUse(
            id=call.id,
            name=call.name,
            arguments=shown_arguments(call.arguments),
            approval=not in_window,
            frontend=in_window,
        )
        for call, in_window in calls
    ]


def answers(interrupts: Iterable[Any], running: Running, task: Task) -> dict[str, Any]:
    """The answer to each interrupt for the graph, by the interrupt's id. Raises ModelFailed."""
    found, left = {}, dict(running)
    for interrupt in interrupts:
        if _is_for_window(interrupt.value):
            [id] = _calls(interrupt.value, left)
            answer = task.answered[id]
            found[interrupt.id] = {"result": answer.result} if answer.error is None else {"error": answer.error}
            continue
        decisions = [_decision(running[id], task.decided[id]) for id in _calls(interrupt.value, left)]
        found[interrupt.id] = decisions[0] if "tool_call_id" in interrupt.value else {"decisions": decisions}
    return found


def _is_for_window(value: Any) -> bool:
    return isinstance(value, dict) and IN_WINDOW in value


def _calls(value: Any, left: dict[str, ToolUse]) -> list[str]:
    """The ids of the calls that an interrupt is about. They are taken out of those that are left."""
    if isinstance(value, dict) and value.get("tool_call_id") in left:
        return [left.pop(value["tool_call_id"]).id]
    requests = value.get("action_requests") if isinstance(value, dict) else None
    if not isinstance(requests, list) or not requests:
        raise ModelFailed("input_required", "The agent waits for an answer that nobody can give here.")
    ids = []
    for request in requests:
        fitting = (id for id, call in left.items() if (call.name, call.arguments) == (request["name"], request["args"]))
        id = next(fitting, None)
        if id is None:
            raise ModelFailed("failed", "The agent asked for approval of a call that it has not made.")
        ids.append(left.pop(id).id)
    return ids


def _decision(call: ToolUse, decided: Decided) -> dict[str, Any]:
    if not decided.approved:
        return {"type": "reject", "message": decided.reason or DENIED}
    if decided.arguments == call.arguments:
        return {"type": "approve"}
    return {"type": "edit", "edited_action": {"name": call.name, "args": dict(decided.arguments)}}
