"""What happens to the tool calls of a reply that need approval: actions on the slice `chat`.

    streaming [-> running] -> waiting -> running -> complete | error     a call that was approved
                                      -> denied                          one that was not

When nothing is left to do before somebody decides, the reply pauses: it has no run, on no node. The last decision names
the run that continues it. A call about which somebody has decided waits until the others are decided, too.

Invariants: pure handlers. A call is decided once: whoever decides otherwise later is refused, and so is whoever decides
too late. A call that was not approved never runs.
"""

from __future__ import annotations

from typing import Any, Final

from typing_extensions import NotRequired, TypedDict

from statestream.chat.approvals import DENIED, approval_id
from statestream.chat.messages import undecided, waiting
from statestream.chat.slices.conversation import chat_slice, check_member, fold, leave, optional, streaming_reply
from statestream.core.change import Action
from statestream.core.errors import Refused

DECIDED: Final = "decided"
"""The code of the refusal if somebody has decided before."""


class RequestPayload(TypedDict):
    """A tool call that needs approval, by its part: by somebody with `role`, within `seconds`."""

    part: int
    role: NotRequired[str]
    seconds: NotRequired[float]


class DecisionPayload(TypedDict):
    """What somebody decided about the call that is this part. `arguments` is JSON text, in place of the call's."""

    part: int
    approved: bool
    reason: NotRequired[str]
    arguments: NotRequired[str]


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
def paused(
    state: Any,
    action: Action,
    *,
    reply: str,
    usage: dict[str, int] | None = None,
    figures: dict[str, float] | None = None,
    run: str | None = None,
    user: str | None = None,
) -> None:
    """The run has nothing left to do before people decide. See `ended` for the arguments."""
    message = streaming_reply(state, reply)
    if run not in (None, message["run"]["id"]):
        raise Refused("ended", "This run is over.")
    for part in message["parts"]:
        fold(part)
    leave(message, action, "waiting", figures, usage)


@chat_slice.action
def decided(
    state: Any,
    action: Action,
    *,
    reply: str,
    decisions: list[DecisionPayload],
    run: RunPayload | None = None,
    user: str | None = None,
) -> None:
    """Somebody decided about tool calls. With the last decision, the reply continues as `run`."""
    check_member(state, action)
    message = waiting(state)
    if message is None or message["id"] != reply:
        raise Refused("not_waiting", "This reply does not wait for approval.")
    for decision in decisions:
        _decide(message, action, decision)
    if undecided(message):
        return
    if run is None:
        raise Refused("stale", "The chat has changed meanwhile; decide again.")
    for part in message["parts"]:
        if part.get("status") == "waiting":
            _settle(part)
    message["status"], message["run"] = "streaming", {"id": run["id"], "node": run["node"]}
    message["updated_at"] = action.at


def _decide(message: Any, action: Action, decision: DecisionPayload) -> None:
    index = decision["part"]
    if index not in undecided(message):
        raise Refused(DECIDED, "Somebody has decided this already.")
    part = message["parts"][index]
    if action.at > part["approval"].get("expires_at", action.at):
        raise Refused("not_waiting", "It is too late to decide this.")
    more = optional(by=action.actor, reason=decision.get("reason"))
    part["approval"] = {**part["approval"], "approved": decision["approved"], **more}
    if "arguments" in decision:
        part["arguments"] = decision["arguments"]


def _settle(part: Any) -> None:
    approval = part["approval"]
    if approval["approved"]:
        part["status"] = "running"
        return
    part["status"] = "denied"
    part["error"] = f"{DENIED} {approval['reason']}" if "reason" in approval else DENIED
