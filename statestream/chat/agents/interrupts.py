"""Interrupts of LangGraph that ask for the approval of tool calls, as LangChain's HumanInTheLoopMiddleware does.

The middleware asks either about all calls of an answer at once, without their ids (`action_requests`), or about a
single call, with its id (`tool_approval`).

Invariants: pure. An interrupt that asks for anything else is refused: nobody could answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from statestream.chat.agents import ToolUse
from statestream.chat.agents.adapting import shown_arguments
from statestream.chat.approvals import DENIED, Decided
from statestream.chat.models import ModelFailed

Running = Mapping[str, ToolUse]
"""The calls without an outcome, by their ids."""


def asked(interrupts: Iterable[Any], running: Running) -> list[ToolUse]:
    """The calls that need approval. Raises ModelFailed if the graph asks for anything else."""
    left = dict(running)
    calls = [running[id] for interrupt in interrupts for id in _calls(interrupt.value, left)]
    return [
        ToolUse(id=call.id, name=call.name, arguments=shown_arguments(call.arguments), approval=True) for call in calls
    ]


def answers(interrupts: Iterable[Any], running: Running, decided: Mapping[str, Decided]) -> dict[str, Any]:
    """The answer to each interrupt for the graph, by the interrupt's id. Raises ModelFailed."""
    found, left = {}, dict(running)
    for interrupt in interrupts:
        decisions = [_decision(running[id], decided[id]) for id in _calls(interrupt.value, left)]
        found[interrupt.id] = decisions[0] if "tool_call_id" in interrupt.value else {"decisions": decisions}
    return found


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
