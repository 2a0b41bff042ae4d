"""What happens to the tool calls of a reply that need approval: actions on the slice `chat`.

    streaming [-> running] -> waiting -> running -> complete | error     a call that was approved
                                      -> denied                          one that was not

A call of a front-end tool is offered to windows. It is also `waiting` until one of them has run it. A window claims a
call before it runs it. If the window neither answers nor renews the claim in time, other windows may claim the call.

When nothing is left to do until somebody decides, the reply pauses: it has no run on any node. The last decision names
the run that continues the reply. A decided call waits until the others are decided, too.

Invariants: pure handlers. A call is decided once: a different later decision is refused, and so is a decision that
comes too late. A call that needs approval never runs without it.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import NotRequired, TypedDict

from statestream.chat.approvals import DENIED, Approval, approval_id
from statestream.chat.messages import undecided, waiting
from statestream.chat.slices.conversation import (
    ToolOutcome,
    chat_slice,
    check_member,
    fold,
    leave,
    optional,
    streaming_reply,
)
from statestream.core.change import Action
from statestream.core.errors import Refused

DECIDED: Final = "decided"
"""The code of the refusal if somebody has decided before."""
ANSWERED: Final = "answered"
CLAIM_MS: Final = 30_000
"""How long a claim lasts. The window may renew it before that."""


class RequestPayload(TypedDict):
    """A tool call, by its part, that needs approval by somebody with `role`, within `seconds`."""

    part: int
    role: NotRequired[str]
    seconds: NotRequired[float]


def request_of(part: int, approval: Approval) -> RequestPayload:
    """The call that is this part needs that approval."""
    request: RequestPayload = {"part": part}
    if approval.role is not None:
        request["role"] = approval.role
    if approval.seconds is not None:
        request["seconds"] = approval.seconds
    return request


class DecisionPayload(TypedDict):
    """The decision about the call that is this part. `arguments` is JSON text that replaces the call's arguments."""

    part: int
    approved: bool
    reason: NotRequired[str]
    arguments: NotRequired[str]


class AnswerPayload(TypedDict):
    """The outcome of the front-end tool call that is this part."""

    part: int
    outcome: ToolOutcome


class RunPayload(TypedDict):
    """The run that continues a reply, and the node that owns it."""

    id: str
    node: str


@chat_slice.action
def requested(state: Any, action: Action, *, reply: str, requests: list[RequestPayload]) -> None:
    """The arguments of these tool calls are complete, and they need approval. An agent may have begun one already."""
    message = streaming_reply(state, reply)
    for request in requests:
        part = message["parts"][request["part"]]
        if part["status"] not in ("streaming", "running"):
            continue
        fold(part)
        part["status"] = "waiting"
        part["approval"] = {"id": approval_id(reply, request["part"]), **optional(role=request.get("role"))}
        if "seconds" in request:
            part["approval"]["expires_at"] = action.at + round(request["seconds"] * 1000)


@chat_slice.action
def offered(state: Any, *, reply: str, parts: list[int]) -> None:
    """The arguments of these front-end tool calls are complete. An agent may have begun one already."""
    message = streaming_reply(state, reply)
    for index in parts:
        part = message["parts"][index]
        if part["status"] in ("streaming", "running"):
            fold(part)
            part["status"], part["offer"] = "waiting", {"id": approval_id(reply, index)}


@chat_slice.action
def claimed(state: Any, action: Action, *, reply: str, part: int, window: str) -> None:
    """A window claims the call for the next CLAIM_MS. Refused while another window's claim lasts."""
    check_member(state, action)
    offer = _offered(waiting(state), reply, part)["offer"]
    _check_claim(offer, action, window)
    offer["window"], offer["until"] = window, action.at + CLAIM_MS


@chat_slice.action
def paused(
    state: Any,
    action: Action,
    *,
    reply: str,
    usage: dict[str, int] | None = None,
    figures: dict[str, float] | None = None,
    cost: float | None = None,
    run: str | None = None,
    user: str | None = None,
) -> None:
    """The run has nothing left to do until people decide. See `ended` for the arguments."""
    message = streaming_reply(state, reply)
    if run not in (None, message["run"]["id"]):
        raise Refused("ended", "This run is over.")
    for part in message["parts"]:
        fold(part)
    leave(message, action, "waiting", figures, usage, cost)


@chat_slice.action
def decided(
    state: Any,
    action: Action,
    *,
    reply: str,
    decisions: list[DecisionPayload],
    answers: list[AnswerPayload] | None = None,
    window: str | None = None,
    run: RunPayload | None = None,
    user: str | None = None,
) -> None:
    """Somebody has decided about tool calls, or a window has run some. After the last one, the reply continues as
    `run`.
    """
    check_member(state, action)
    message = waiting(state)
    if message is None or message["id"] != reply:
        raise Refused("not_waiting", "This reply does not wait any more.")
    for decision in decisions:
        _decide(message, action, decision)
    for answer in answers or ():
        _answer(message, action, answer, window)
    if undecided(message):
        return
    if run is None:
        raise Refused("stale", "The chat has changed in the meantime. Decide again.")
    for part in message["parts"]:
        if part.get("status") == "waiting":
            _settle(part)
    message["status"], message["run"] = "streaming", {"id": run["id"], "node": run["node"]}
    message["updated_at"] = action.at


def _decide(message: Any, action: Action, decision: DecisionPayload) -> None:
    index = decision["part"]
    if index not in undecided(message) or "approval" not in message["parts"][index]:
        raise Refused(DECIDED, "Somebody has decided this already.")
    part = message["parts"][index]
    if action.at > part["approval"].get("expires_at", action.at):
        raise Refused("not_waiting", "It is too late for this decision.")
    more = optional(by=action.actor, reason=decision.get("reason"))
    part["approval"] = {**part["approval"], "approved": decision["approved"], **more}
    if "arguments" in decision:
        part["arguments"] = decision["arguments"]


def _answer(message: Any, action: Action, answer: AnswerPayload, window: str | None) -> None:
    part = _offered(message, message["id"], answer["part"])
    _check_claim(part["offer"], action, window)
    part["status"] = "error" if "error" in answer["outcome"] else "complete"
    part.update(answer["outcome"])


def _offered(message: Any, reply: str, index: int) -> Any:
    """The offered call. Raises Refused if it is no longer offered."""
    if message is None or message["id"] != reply:
        raise Refused("not_waiting", "This reply does not wait: it may still be running other tools.")
    parts = message["parts"]
    part = parts[index] if index < len(parts) else {}
    if part.get("status") != "waiting" or "offer" not in part:
        raise Refused(ANSWERED, "This call has already been run.")
    return part


def _check_claim(offer: Any, action: Action, window: str | None) -> None:
    if offer.get("until", 0) > action.at and offer["window"] != window:
        raise Refused("claimed", "Another window is running this call.")


def _settle(part: Any) -> None:
    approval = part["approval"]
    if approval["approved"]:
        part["status"] = "running"
        return
    part["status"] = "denied"
    part["error"] = f"{DENIED} {approval['reason']}" if "reason" in approval else DENIED
