"""How a reply continues after its end: an action on the slice `chat`.

Messages that have ended never change. So a reply that was cut off is continued by a sibling, whose parts begin as a
copy of the parts so far. Its member `continues` has the id of the reply that was cut off.

Invariants: pure. The journal gets the copied text once, when the sibling begins; the text that grows is a chunk like
any other. A tool call without an outcome is not copied. One that may have run keeps its error, so that the model knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from statestream.chat.approvals import approval_id
from statestream.chat.messages import NOT_RUN, Message, Part, find, short_id
from statestream.chat.slices.conversation import (
    ReplyPayload,
    add_reply,
    chat_slice,
    check_leaf,
    check_member,
)
from statestream.chat.slices.turn import check_idle
from statestream.core.change import Action
from statestream.core.errors import Refused

KINDS: Final = ("truncated", "interrupted", "timeout", "connection")
"""The kinds of errors after which a reply can continue. After any other error, only another answer makes sense."""
TOO_SHORT: Final = "length"
"""The finish reason of a reply that ended because it may not be longer."""


@chat_slice.action
def continued(
    state: Any, action: Action, *, message: str, reply: ReplyPayload, leaf: str | None = None, user: str | None = None
) -> None:
    """Somebody wants a reply to continue where it was cut off: adds a sibling with a copy of its parts."""
    check_member(state, action)
    check_idle(state)
    check_leaf(state, leaf)
    found = find(state, message)
    check_continuable(found)
    parts = [dict(part) for part in copied(found, reply["id"], renamed=found.get("model") != reply["model"]).values()]
    if parts[-1]["type"] == "text" and "of" not in parts[-1]:  # what follows continues this text
        parts[-1]["chunks"] = []
    add_reply(state, action, reply, found["parent"], parts=parts, continues=message)


def check_continuable(message: Message | None) -> None:
    """Raises Refused if a message is not a reply that can continue."""
    if message is None or message["role"] != "assistant" or "parent" not in message:
        raise Refused("unknown_message", "The reply to continue is no longer in this chat.")
    if not may_continue(message):
        raise Refused("not_continuable", "This reply was not cut off. Ask for another answer instead.")
    if not kept_parts(message):
        raise Refused("not_continuable", "This reply has no content yet. Ask for another answer instead.")


def may_continue(message: Message) -> bool:
    """Whether a reply was stopped, or was cut off by an error or its limit."""
    if message["status"] == "error":
        return message["error"]["kind"] in KINDS
    return message["status"] == "stopped" or message.get("finish_reason") == TOO_SHORT


def kept_parts(message: Message) -> list[int]:
    """The parts that the continuation of a reply begins with: all but tool calls that were never run."""
    return [index for index, part in enumerate(message["parts"]) if part.get("error") != NOT_RUN]


def copied(message: Message, reply: str, *, renamed: bool = False) -> Mapping[int, Part]:
    """The parts of a message as they begin another reply, by their places in the message.

    `renamed`: another model continues, so calls get ids that every provider accepts.
    """
    kept = {old: (new, message["parts"][old]) for new, old in enumerate(kept_parts(message))}
    calls = {part["call"]: short_id(reply, new) for new, part in kept.values() if renamed and part["type"] == "tool"}
    return {old: _copied(part, reply, new, calls) for old, (new, part) in kept.items()}


def _copied(part: Part, reply: str, index: int, calls: Mapping[str, str]) -> Part:
    """Approvals and offers have ids of their own. `calls` are the new ids of calls, by the old ones."""
    own = {name: {**part[name], "id": approval_id(reply, index)} for name in ("approval", "offer") if name in part}
    renamed = {name: calls[part[name]] for name in ("call", "of") if part.get(name) in calls}
    return {**part, **own, **renamed} if own or renamed else part
