"""The slice `chat`: what can happen to a conversation. What it looks like stands in messages.py.

    {"messages": [...], "leaf"?: the id of the newest message that is shown, "user"?: whose chat it is, "title"?}

A question and the place of its reply are saved by one action; the reply then grows by pieces that say where they
belong, so that saying one twice changes nothing, and it ends once. `messages` is in the order of creation and holds
the newest only; older ones move to the archive.

Invariants: pure handlers; ids and times come with the action. A message that has ended never changes again, and while
one is made it is the leaf and the last of the list.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from typing_extensions import NotRequired, TypedDict

from statestream.chat.messages import find, leaf_below, shown, streaming
from statestream.core.change import Action
from statestream.core.errors import Refused
from statestream.core.slices import Slice

NAME: Final = "chat"
KNOWN: Final = "known"
"""Why a question is refused that is there already. It changes nothing, in the lists of chats neither."""

chat_slice = Slice(NAME, initial={"messages": []}, keyed=True, internal=True)


class Question(TypedDict):
    """A message of a person. `edits`: the message that it stands in the place of, as its sibling."""

    id: str
    parts: list[dict[str, Any]]
    author: NotRequired[str]
    edits: NotRequired[str]


class Reply(TypedDict):
    """The place of a reply: the run that makes it, and the node that owns the run."""

    id: str
    run: str
    node: str
    model: str


class Piece(TypedDict):
    """What a reply grew by: a new part, or chunk number `chunk` of a part that is there. Both are counted from 0."""

    part: int
    begin: NotRequired[dict[str, Any]]
    chunk: NotRequired[int]
    text: NotRequired[str]


class Result(TypedDict):
    """What became of a tool's call: a result, or a sentence that says why there is none."""

    result: NotRequired[Any]
    error: NotRequired[str]


@chat_slice.action
def created(state: Any, *, user: str | None = None) -> None:
    """A chat was made, with no messages yet. One that exists stays as it is."""
    if user is not None and not state["messages"] and "user" not in state:
        state["user"] = user


@chat_slice.action
def asked(state: Any, action: Action, *, question: Question, reply: Reply, user: str | None = None) -> None:
    """Somebody asked: their message, and the place of its reply. Refused while one is made, and if it is there."""
    known = find(state, question["id"])
    if known is not None:
        taken = "The id of this message stands for another one in this chat; take a fresh one."
        raise Refused(KNOWN, "This was asked before.") if known["role"] == "user" else Refused("id_taken", taken)
    _check_idle(state)
    parent = state.get("leaf")
    if "edits" in question:
        edited = find(state, question["edits"])
        if edited is None or edited["role"] != "user":
            raise Refused("unknown_message", "The message to change is not in this chat any more.")
        parent = edited.get("parent")
    message = {"id": question["id"], "role": "user", "status": "complete", "parts": question["parts"]}
    if "author" in question:
        message["author"] = question["author"]
    _add(state, action, message, parent)
    _add_reply(state, action, reply, question["id"])


@chat_slice.action
def regenerated(state: Any, action: Action, *, question: str, reply: Reply, user: str | None = None) -> None:
    """Another reply to a question that is there was asked for: a sibling of the ones before."""
    _check_idle(state)
    found = find(state, question)
    if found is None or found["role"] != "user":
        raise Refused("unknown_message", "The message to answer again is not in this chat any more.")
    _add_reply(state, action, reply, question)


@chat_slice.action
def grew(state: Any, *, reply: str, pieces: list[Piece]) -> None:
    """The reply got longer."""
    parts = _streaming(state, reply)["parts"]
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
    """The arguments of these tool calls are whole: they are being run."""
    message = _streaming(state, reply)
    for index in parts:
        part = message["parts"][index]
        if part["status"] == "streaming":
            _fold(part)
            part["status"] = "running"


@chat_slice.action
def returned(state: Any, *, reply: str, part: int, outcome: Result) -> None:
    """A tool has ended."""
    tool = _streaming(state, reply)["parts"][part]
    if tool["status"] == "running":
        tool["status"] = "error" if "error" in outcome else "complete"
        tool.update(outcome)


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
    user: str | None = None,
) -> None:
    """The reply is over; what it said so far stays. `figures` are the run's, see Generation."""
    message = _streaming(state, reply)
    for part in message["parts"]:
        _fold(part)
        if part["type"] == "tool" and part["status"] in ("streaming", "running"):
            part["status"], part["error"] = "error", "The reply ended before this was done."
    message["status"] = status
    message["updated_at"] = action.at
    message["run"] = {"id": message["run"]["id"], **(figures or {})}
    for name, value in (("finish_reason", finish_reason), ("usage", usage), ("error", error)):
        if value is not None:
            message[name] = value


@chat_slice.action
def titled(state: Any, *, title: str, user: str | None = None) -> None:
    """The chat has a name now."""
    state["title"] = title


@chat_slice.action
def branched(state: Any, *, message: str) -> None:
    """Somebody chose the branch with that message: it is shown, down to its newest end."""
    _check_idle(state)
    if find(state, message) is None:
        raise Refused("unknown_message", "The message to show is not in this chat any more.")
    state["leaf"] = leaf_below(state, message)


@chat_slice.action
def trimmed(state: Any, *, up_to: str) -> None:
    """The messages up to that one stand in the archive now."""
    index = next((at for at, message in enumerate(state["messages"]) if message["id"] == up_to), -1)
    del state["messages"][: index + 1]


def _check_idle(state: Any) -> None:
    if streaming(state) is not None:
        raise Refused("busy", "This chat is being answered already; wait for the reply to end.")


def _streaming(state: Any, reply: str) -> Any:
    message = streaming(state)
    if message is None or message["id"] != reply:
        raise Refused("ended", "This reply has ended.")
    return message


def _add(state: Any, action: Action, message: dict[str, Any], parent: str | None) -> None:
    if parent is not None:
        message["parent"] = parent
    state["messages"].append({**message, "created_at": action.at, "updated_at": action.at})
    state["leaf"] = message["id"]


def _add_reply(state: Any, action: Action, reply: Reply, question: str) -> None:
    message = {"id": reply["id"], "role": "assistant", "status": "streaming", "parts": []}
    run = {"id": reply["run"], "node": reply["node"]}
    _add(state, action, {**message, "run": run, "model": reply["model"]}, question)


def _fold(part: Any) -> None:
    if "chunks" in part:
        part["arguments" if part["type"] == "tool" else "text"] = shown(part)
        del part["chunks"]
