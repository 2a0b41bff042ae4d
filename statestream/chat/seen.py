"""What the sender of a request sees of a chat: the branch that the chat shows, or another one.

A request that leads a chat to another branch may name the chat's leaf. If it names none, it applies to the chat as it
is, but may not hide a question: its sender may never have seen it.

Invariants: pure. The decision is based on one state, so the action itself checks the returned leaf again.
"""

from __future__ import annotations

from collections.abc import Iterable

from statestream.chat.messages import Message, State, message_or_reply, path, showing
from statestream.chat.slices.conversation import STALE, check_leaf
from statestream.core.errors import NotFound, Refused


def leaf_seen(state: State, leaf: str | None, hidden: Iterable[Message]) -> str | None:
    """The leaf that the sender has seen, or can be assumed to have seen. Raises Refused.

    `leaf` is the leaf that the request names, `hidden` the messages that the chat would no longer show.
    """
    check_leaf(state, leaf)
    if leaf is None and any(message["role"] == "user" for message in hidden):
        raise Refused(
            STALE,
            "This would hide newer messages of this chat. To do so anyway, send `leaf`, the id of the last message "
            "that you see.",
        )
    return state.get("leaf")


def hidden_by_branch(state: State, message_id: str) -> list[Message]:
    """The messages that would no longer be shown if the branch with that message were shown."""
    then = {message["id"] for message in path(showing(state, message_id))}
    return [message for message in path(state) if message["id"] not in then]


def hidden_by_sibling(state: State, message: Message) -> list[Message]:
    """The messages after that one, or after its shown sibling. Raises Refused if neither is shown."""
    shown = path(state)
    ids = [each["id"] for each in shown]
    if message["id"] in ids:
        return shown[ids.index(message["id"]) + 1 :]
    parent = message.get("parent")
    if parent in ids:
        return shown[ids.index(parent) + 2 :]
    if parent is None:
        return shown if shown and "parent" in shown[0] else shown[1:]
    raise stale()


def looked_at(state: State, leaf: str | None) -> State:
    """The chat as seen by a client that looks at the branch with that message. Raises NotFound."""
    if leaf is None:
        return state
    if message_or_reply(state, leaf) is None:
        raise NotFound("`leaf` is not the id of a message that this chat holds; older ones are in the archive")
    return showing(state, leaf)


def check_same_branch(shown: State, looked_at: State) -> None:
    """Raises Refused if the asker looks at another branch than the chat shows, where the answer would not appear."""
    if shown.get("leaf") != looked_at.get("leaf"):
        raise Refused("other_branch", "You are looking at another branch of this chat. Show it before you ask there.")


def stale() -> Refused:
    """The refusal for a sender that sees another branch than the chat shows."""
    return Refused(STALE, "The chat now shows another branch. Load it again, then repeat this.")
