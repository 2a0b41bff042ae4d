"""Decisions about tool calls, and results of windows, checked against the chat as it is.

Invariants: pure. When a decision takes effect, its action checks again whether it is still valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from statestream.chat.agents.adapting import arguments_of
from statestream.chat.approvals import MAX_ARGUMENTS, MAX_REASON, UNKNOWN, Decision, ToolAnswer, parsed_id
from statestream.chat.messages import KEPT_DEPTH, Message, Part, State, find, waiting
from statestream.chat.replies.tools import error_of, outcome_of
from statestream.chat.slices.approvals import DECIDED, AnswerPayload, DecisionPayload
from statestream.chat.slices.conversation import ToolOutcome
from statestream.core.errors import Forbidden, Malformed, NotFound, Refused
from statestream.core.principal import Identity
from statestream.core.values import plain


def is_known(state: State, id: str) -> bool:
    """Whether the chat has an approval, or an offer, with that id."""
    return _part(state, id) is not None


def payloads_of(
    state: State, decisions: Sequence[Decision], by: Identity | None
) -> tuple[Message, list[DecisionPayload]]:
    """The reply that the decisions are about, and the decisions that are new.

    Raises NotFound for an unknown approval, Forbidden, Malformed, and Refused if somebody has decided differently or
    the reply no longer waits.
    """
    reply, parts = _calls(state, [decision.id for decision in decisions], "decisions about")
    payloads = [
        _payload(decision)
        for decision, part in zip(decisions, parts, strict=True)
        if not _is_repeated(part, decision, by)
    ]
    if payloads:
        _check_waiting(state, reply)
    return reply, payloads


def answer_payloads(state: State, answers: Sequence[ToolAnswer]) -> tuple[Message, list[AnswerPayload]]:
    """The reply that the answers belong to, and the answers that are new.

    Raises NotFound for an unknown offer, Malformed, and Refused if the reply no longer waits.
    """
    reply, parts = _calls(state, [answer.id for answer in answers], "the results of")
    payloads: list[AnswerPayload] = [
        {"part": parsed_id(answer.id)[1], "outcome": _outcome(part["name"], answer)}
        for answer, part in zip(answers, parts, strict=True)
        if part["status"] == "waiting"
    ]
    if payloads:
        _check_waiting(state, reply)
    return reply, payloads


def _calls(state: State, ids: Sequence[str], what: str) -> tuple[Message, list[Part]]:
    """The reply with these approvals or offers, and their tool calls. Raises Malformed, NotFound."""
    replies = {parsed_id(id)[0] for id in ids}
    if len(replies) != 1 or len(set(ids)) != len(ids):
        raise Malformed(f"expected {what} different tool calls of one reply")
    parts = [_existing(state, id) for id in ids]
    return find(state, replies.pop()), parts


def _check_waiting(state: State, reply: Message) -> None:
    if reply is not waiting(state):
        raise Refused("not_waiting", "This reply does not wait any more.")


def _outcome(name: str, answer: ToolAnswer) -> ToolOutcome:
    return outcome_of(name, answer.result) if answer.error is None else error_of(answer.error)


def check_role(by: Identity | None, role: str | None) -> None:
    """Raises Forbidden if the decision requires a role that the person lacks. Without authentication, everybody may."""
    if by is not None and role is not None and role not in by.roles:
        raise Forbidden(f"only people with the role {role} can decide about this")


def _part(state: State, id: str) -> Part | None:
    """The tool call with that approval or offer."""
    reply, index = parsed_id(id)
    message = find(state, reply)
    parts: Sequence[Part] = [] if message is None else message["parts"]
    part: Part = parts[index] if index < len(parts) else {}
    return part if "approval" in part or "offer" in part else None


def _existing(state: State, id: str) -> Part:
    part = _part(state, id)
    if part is None:
        raise NotFound(UNKNOWN)
    return part


def _is_repeated(part: Part, decision: Decision, by: Identity | None) -> bool:
    """Whether the same decision was already made. Raises Forbidden, Refused."""
    approval = part.get("approval")
    if approval is None:
        raise NotFound(UNKNOWN)
    check_role(by, approval.get("role"))
    if "approved" not in approval:
        return False
    edited = decision.arguments is not None and dict(decision.arguments) != arguments_of(part["arguments"])
    if approval["approved"] != decision.approved or edited:
        raise Refused(DECIDED, "Somebody has decided this already.")
    return True


def _payload(decision: Decision) -> DecisionPayload:
    """Raises Malformed."""
    payload: DecisionPayload = {"part": parsed_id(decision.id)[1], "approved": decision.approved}
    if decision.reason is not None:
        if len(decision.reason) > MAX_REASON:
            raise Malformed(f"expected a reason of at most {MAX_REASON} characters")
        payload["reason"] = decision.reason
    if decision.arguments is not None:
        if not decision.approved:
            raise Malformed("expected arguments only with an approval")
        payload["arguments"] = _json(decision.arguments)
    return payload


def _json(arguments: Any) -> str:
    text = orjson.dumps(plain(dict(arguments), KEPT_DEPTH))
    if len(text) > MAX_ARGUMENTS:
        raise Malformed(f"expected arguments of at most {MAX_ARGUMENTS:,} bytes of JSON")
    return text.decode()
