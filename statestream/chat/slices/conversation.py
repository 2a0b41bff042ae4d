"""The slice `chat`: the messages of a conversation, who belongs to it, and what can happen to it.

    chat/<key>  {"messages": [...], "leaf"?: the id of the newest message that is shown, "title"?,
                 "user"?: the owner, "participants"?: [those whom the owner has invited], "queued"?: see `later`}

`messages` describes the content of a chat. One action saves a question together with the place of its reply. The reply
then grows by pieces that name the place where they belong, so that applying a piece twice changes nothing, and it ends
once. The messages are in the order of creation; those that are not live are in the archive. Actions also say who owns
the chat, if anybody does, for the lists of chats.

If an action has an actor, it is done by that person, who must belong to the chat; to invite others and to delete the
chat, they must own it. The server's own actions, and those of people on a server that does not authenticate, have none.

Choosing another branch changes what everybody sees. An action that does so can name the `leaf` that its sender has
seen. If the chat shows another leaf, the action is refused.

What happens to tool calls that need approval is in `approvals`, and how a reply continues after its end in
`continuations`.

Invariants: pure handlers; ids and times come with the action. A message that has ended never changes again. A reply
that is in progress or waiting is the leaf and the last of the list. A chat that was removed comes back only by being
created.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from typing_extensions import NotRequired, TypedDict

from statestream.chat.members import MAX_PARTICIPANTS, belongs, participants_of, person_key
from statestream.chat.message_types import Conversation
from statestream.chat.messages import NOT_RUN, State, find, full_text, leaf_below, streaming, unfinished
from statestream.chat.prices import added
from statestream.chat.slices.turn import check_idle, take_turn
from statestream.core.change import REMOVED, Action
from statestream.core.errors import Refused
from statestream.core.slices import Slice

NAME: Final = "chat"
KNOWN: Final = "known"
"""The code with which a repeated question is refused, so that it changes nothing, not even the lists of chats."""
STALE: Final = "stale"
"""The code of the refusal if the sender of a request has not seen what the chat shows."""
NOT_MEMBER: Final = "not_member"
"""The code of the refusal if the actor does not belong to the chat, which must look as if it did not exist."""

chat_slice = Slice(NAME, initial={"messages": []}, type=Conversation, keyed=True, internal=True)


class QuestionPayload(TypedDict):
    """A person's message. `edits` is the message that it replaces, as a sibling."""

    id: str
    parts: list[dict[str, Any]]
    author: NotRequired[str]
    metadata: NotRequired[dict[str, Any]]
    edits: NotRequired[str]


class ReplyPayload(TypedDict):
    """The place of a reply: its run, and the node that owns the run."""

    id: str
    run: str
    node: str
    model: str


class PiecePayload(TypedDict):
    """How a reply grew: a new part (`begin`), or chunk number `chunk` of an existing part. Both are counted from 0."""

    part: int
    begin: NotRequired[dict[str, Any]]
    chunk: NotRequired[int]
    text: NotRequired[str]


class ToolOutcome(TypedDict):
    """How a tool call ended: with a result, or with a sentence that explains why there is none."""

    result: NotRequired[Any]
    error: NotRequired[str]


class Listed(TypedDict):
    """The entry of a chat in the list of a person."""

    created_at: int
    updated_at: int
    status: str
    title: NotRequired[str]


def name_of(key: str) -> str:
    """The full name of a chat's instance."""
    return f"{NAME}/{key}"


def optional(**fields: Any) -> dict[str, Any]:
    """The fields that have a value: an optional field of a payload is absent, never null."""
    return {name: value for name, value in fields.items() if value is not None}


@chat_slice.action
def created(state: Any, *, user: str | None = None) -> None:
    """A chat was created, without messages. Changes nothing if it exists, and is refused if it is somebody else's."""
    if user is None or user == state.get("user"):
        return
    if state["messages"] or "user" in state or "participants" in state:
        raise Refused(NOT_MEMBER, "There is a chat with this id already.")
    state["user"] = user


@chat_slice.action
def asked(
    state: Any,
    action: Action,
    *,
    question: QuestionPayload,
    reply: ReplyPayload,
    leaf: str | None = None,
    user: str | None = None,
) -> None:
    """Somebody asked a question: adds it and the place of its reply. Refused while a reply is in progress."""
    check_member(state, action)
    known = find(state, question["id"])
    if known is not None:
        taken = "This id belongs to another message of this chat; use a new one."
        raise Refused(KNOWN, "This was asked before.") if known["role"] == "user" else Refused("id_taken", taken)
    take_turn(state, question["id"])
    check_leaf(state, leaf)
    parent = state.get("leaf")
    if "edits" in question:
        edited = find(state, question["edits"])
        if edited is None or edited["role"] != "user":
            raise Refused("unknown_message", "The message to edit is no longer in this chat.")
        parent = edited.get("parent")
    message: dict[str, Any] = {
        "id": question["id"],
        "role": "user",
        "status": "complete",
        "parts": question["parts"],
    }
    if "author" in question:
        message["author"] = question["author"]
    if "metadata" in question:
        message["metadata"] = question["metadata"]
    add_message(state, action, message, parent)
    add_reply(state, action, reply, question["id"])


@chat_slice.action
def regenerated(
    state: Any, action: Action, *, question: str, reply: ReplyPayload, leaf: str | None = None, user: str | None = None
) -> None:
    """Somebody asked for another reply to an existing question: a sibling of its earlier replies."""
    check_member(state, action)
    check_idle(state)
    check_leaf(state, leaf)
    found = find(state, question)
    if found is None or found["role"] != "user":
        raise Refused("unknown_message", "The message to answer again is no longer in this chat.")
    add_reply(state, action, reply, question)


@chat_slice.action(gradual=True)
def grew(state: Any, *, reply: str, pieces: list[PiecePayload]) -> None:
    """The reply got longer."""
    parts = streaming_reply(state, reply)["parts"]
    for piece in pieces:
        if "begin" in piece:
            if piece["part"] == len(parts):
                parts.append(piece["begin"])
        elif piece["part"] < len(parts):
            chunks = parts[piece["part"]].get("chunks")
            if chunks is not None and piece["chunk"] == len(chunks):
                chunks.append(piece["text"])


@chat_slice.action
def called(state: Any, *, reply: str, parts: list[int]) -> None:
    """The arguments of these tool calls are complete: the tools are running."""
    message = streaming_reply(state, reply)
    for index in parts:
        part = message["parts"][index]
        if part["status"] == "streaming":
            fold(part)
            part["status"] = "running"


@chat_slice.action
def returned(state: Any, *, reply: str, part: int, outcome: ToolOutcome) -> None:
    """A tool has ended."""
    tool = streaming_reply(state, reply)["parts"][part]
    if tool["status"] == "running":
        tool["status"] = "error" if "error" in outcome else "complete"
        tool.update(outcome)


@chat_slice.action
def progressed(state: Any, *, reply: str, status: str) -> None:
    """The agent does something else now, which it describes in a few words; without any, nothing that it describes."""
    run = streaming_reply(state, reply)["run"]
    run["status"] = status
    if not status:
        del run["status"]


@chat_slice.action
def handed_over(state: Any, *, reply: str, agent: str) -> None:
    """Another agent continues the reply. A part of it says so, too."""
    streaming_reply(state, reply)["model"] = agent


@chat_slice.action
def went_on(state: Any, *, reply: str) -> None:
    """Changes nothing, and is refused if the reply has ended: for requests that also change other slices."""
    streaming_reply(state, reply)


@chat_slice.action
def ended(
    state: Any,
    action: Action,
    *,
    reply: str,
    status: Literal["complete", "stopped", "error"],
    finish_reason: str | None = None,
    usage: dict[str, int] | None = None,
    error: dict[str, str] | None = None,
    figures: dict[str, float] | None = None,
    cost: float | None = None,
    run: str | None = None,
    user: str | None = None,
) -> None:
    """The reply has ended; its text so far stays. `figures` are measurements of the run, see ReplyRun.

    `run`: the run that ends the reply. The action is refused if the reply belongs to another run. Without `run`, a
    waiting reply ends, too.
    """
    check_member(state, action)
    message = unfinished(state)
    if message is None or message["id"] != reply or run not in (None, message["run"]["id"]):
        raise Refused("ended", "This reply has ended.")
    for part in message["parts"]:
        fold(part)
        if part["type"] == "tool" and part["status"] in ("streaming", "waiting", "running"):
            sentence = "The reply ended before this was done." if part["status"] == "running" else NOT_RUN
            part["status"], part["error"] = "error", sentence
    leave(message, action, status, figures, usage, cost)
    for name, value in (("finish_reason", finish_reason), ("error", error)):
        if value is not None:
            message[name] = value


@chat_slice.action
def titled(state: Any, *, title: str, user: str | None = None) -> None:
    """The chat got a title."""
    if not state["messages"]:
        raise Refused("unknown_chat", "This chat was deleted.")
    state["title"] = title


@chat_slice.action
def branched(state: Any, action: Action, *, message: str, leaf: str | None = None) -> None:
    """Somebody chose the branch with that message: shows it, down to its newest message."""
    check_member(state, action)
    check_idle(state)
    check_leaf(state, leaf)
    if find(state, message) is None:
        raise Refused("unknown_message", "The message to show is no longer in this chat.")
    state["leaf"] = leaf_below(state, message)


@chat_slice.action
def trimmed(state: Any, *, ids: list[str]) -> None:
    """These messages have moved to the archive."""
    gone = set(ids)
    places = [at for at, message in enumerate(state["messages"]) if message["id"] in gone]
    for at in reversed(places):
        del state["messages"][at]


@chat_slice.action
def restored(state: Any, *, messages: list[dict[str, Any]], places: list[int]) -> None:
    """These messages were restored from the archive, to these places, in ascending order."""
    for message, place in zip(messages, places, strict=True):
        state["messages"].insert(place, message)


@chat_slice.action
def invited(state: Any, action: Action, *, person: str, entry: Listed, user: str | None = None) -> None:
    """The owner invited a person. `entry` is what their list of chats gets. Changes nothing if they belong to it.

    `user` is the owner.
    """
    _check_owner(state, action)
    if belongs(state, person):
        return
    if len(participants_of(state)) >= MAX_PARTICIPANTS:
        raise Refused("full", f"A chat can have at most {MAX_PARTICIPANTS} participants besides its owner.")
    state["participants"] = [*participants_of(state), person]


@chat_slice.action
def removed(state: Any, action: Action, *, person: str) -> None:
    """A participant left, or the owner removed them. Changes nothing if they are none."""
    if action.actor is None or person_key(action.actor) != person:
        _check_owner(state, action)
    else:
        check_member(state, action)
    if state.get("user") == person:
        raise Refused("owner", "The owner of a chat cannot leave it. You can delete the chat instead.")
    if person in participants_of(state):
        state["participants"] = [each for each in state["participants"] if each != person]
        if not state["participants"]:
            del state["participants"]


@chat_slice.action
def deleted(state: Any, action: Action, *, user: str | None = None, pages: int = 0) -> Any:
    """The owner deleted the chat, whose archive has so many pages. `user` is the owner."""
    _check_owner(state, action)
    return REMOVED


def check_member(state: Any, action: Action) -> None:
    """Raises Refused if the actor does not belong to the chat."""
    if action.actor is not None and not belongs(state, person_key(action.actor)):
        raise Refused(NOT_MEMBER, "You do not belong to this chat.")


def _check_owner(state: Any, action: Action) -> None:
    check_member(state, action)
    if action.actor is not None and state.get("user") != person_key(action.actor):
        raise Refused("not_owner", "Only the owner of this chat can do this.")


def check_leaf(state: State, leaf: str | None) -> None:
    """Raises Refused if the sender of a request names a leaf, and the chat shows another one."""
    if leaf is not None and leaf != state.get("leaf"):
        raise Refused(STALE, "The chat has changed since you loaded it. Load it again, then repeat this.")


def streaming_reply(state: Any, reply: str) -> Any:
    """The reply in progress. Raises Refused if it is not that one."""
    message = streaming(state)
    if message is None or message["id"] != reply:
        raise Refused("ended", "This reply has ended.")
    return message


def leave(
    message: Any,
    action: Action,
    status: str,
    figures: dict[str, float] | None,
    usage: dict[str, int] | None,
    cost: float | None,
) -> None:
    """The run of a reply is over: the reply has ended or waits. The usage and the cost of its runs are added up."""
    message["status"] = status
    message["updated_at"] = action.at
    message["run"] = {"id": message["run"]["id"], **(figures or {})}
    if usage is not None:
        before = message.get("usage", {})
        message["usage"] = {**before, **{name: before.get(name, 0) + tokens for name, tokens in usage.items()}}
    if cost is not None:
        message["cost"] = added(message.get("cost"), cost)


def add_message(state: Any, action: Action, message: dict[str, Any], parent: str | None) -> None:
    """Adds a message below `parent`, and shows it."""
    if parent is not None:
        message["parent"] = parent
    state["messages"].append({**message, "created_at": action.at, "updated_at": action.at})
    state["leaf"] = message["id"]


def add_reply(state: Any, action: Action, reply: ReplyPayload, question: str, **more: Any) -> None:
    """Adds the place of a reply. `more` are further members of the message."""
    message = {"id": reply["id"], "role": "assistant", "status": "streaming", "parts": [], **more}
    run = {"id": reply["run"], "node": reply["node"]}
    add_message(state, action, {**message, "run": run, "model": reply["model"]}, question)


def fold(part: Any) -> None:
    """The part has stopped growing."""
    if "chunks" in part:
        part["arguments" if part["type"] == "tool" else "text"] = full_text(part)
        del part["chunks"]
