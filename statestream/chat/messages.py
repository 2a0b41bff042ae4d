"""Reads a conversation: which messages it has, which of them are shown, and what their text is.

    message  {"id", "role", "status", "parts": […], "parent"?, "author"?, "metadata"?, "run"?, "model"?,
              "finish_reason"?, "usage"?, "cost"?, "error"?, "continues"?, "created_at", "updated_at"}
    part     {"type": "text" | "reasoning", "text", "chunks"?, "step"?}
             {"type": "tool", "call", "name", "arguments", "chunks"?, "status", "result"? | "error"?, "step"?,
              "approval"?: {"id", "role"?, "expires_at"?, "approved"?, "by"?, "reason"?},
              "offer"?: {"id", "window"?, "until"?}}
             {"type": "file", "mediaType", "url", "filename"?, "step"?}, {"type": "data-…", "id"?, "data", "step"?}
             {"type": "source", "url", "title"?, "step"?}, {"type": "agent", "name", "by"?, "note"?, "step"?}

Messages form a tree by `parent`: a regenerated reply and an edited question are siblings of the first. The chat shows
the path from its `leaf` up to the root. Text that is still growing is `text` (in a tool call: `arguments`) followed by
an array of chunks. When the reply pauses or ends, the chunks are folded into the text.

A reply that was cut off is continued by a sibling, which begins with a copy of its parts and `continues` it.

What an agent yields that works for another agent, or for a tool, has the member `of`: the id of the call that shows the
nested run. It is not part of what the message says.

A reply that waits for people to approve tool calls, or for windows to run them, is `waiting`. It has no run until then.

Invariants: pure functions of committed state, which they never change. Every projection reads through them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

State = Mapping[str, Any]
"""The value of an instance of the slice `chat`."""
Message = Mapping[str, Any]
Part = Mapping[str, Any]

KEPT_DEPTH: Final = 5
"""The containers around the content of a part, in a chat and in its archive. They count towards the limit on depth."""
WRITTEN: Final = ("text", "reasoning")
"""The types of the parts that consist of text, and grow."""
NOT_RUN: Final = "The tool was not run."
"""The outcome of a tool call that was not run before the reply ended."""


def find(state: State, message_id: str | None) -> Any:
    """The message with that id, or None. Searches the newest messages first."""
    messages = state["messages"]
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["id"] == message_id:
            return messages[index]
    return None


def message_or_reply(state: State, message_id: str | None) -> Any:
    """The message with that id, or the reply of which it is a part: projections name parts `<reply>:<part>`."""
    message = find(state, message_id)
    if message is None and message_id is not None:
        reply = find(state, message_id.rpartition(":")[0])
        return reply if reply is not None and reply["role"] == "assistant" else None
    return message


def path(state: State) -> list[Message]:
    """The messages that are shown, oldest first: the way up from the leaf, as far as the chat still holds it."""
    shown, wanted = [], state.get("leaf")
    for message in reversed(state["messages"]):  # parents come before their children, so one pass finds the whole way
        if message["id"] == wanted:
            shown.append(message)
            wanted = message.get("parent")
    return shown[::-1]


def streaming(state: State) -> Any:
    """The reply in progress, or None. It is always the leaf and the newest message."""
    last = state["messages"][-1] if state["messages"] else None
    return last if last is not None and last["status"] == "streaming" else None


def waiting(state: State) -> Any:
    """The reply that waits for people to decide about its tool calls, or None. It is always the leaf and the newest."""
    last = state["messages"][-1] if state["messages"] else None
    return last if last is not None and last["status"] == "waiting" else None


def unfinished(state: State) -> Any:
    """The reply in progress, or the one that waits, or None."""
    return streaming(state) or waiting(state)


def queued(state: State) -> Sequence[Any]:
    """The questions that wait until the unfinished reply has ended, in the order in which they will be asked."""
    found: Sequence[Any] = state.get("queued", ())
    return found


def is_queued(state: State, question: str) -> bool:
    """Whether a question waits in the queue of its chat."""
    return any(each["id"] == question for each in queued(state))


def undecided(message: Message) -> list[int]:
    """The parts of a reply that are tool calls without a decision, or without a result from a window."""
    return [
        index
        for index, part in enumerate(message["parts"])
        if part.get("status") == "waiting" and "approved" not in part.get("approval", ())
    ]


def reply_to(state: State, question: str) -> Any:
    """The reply to that message: the shown one, otherwise the newest; None if there is none."""
    for message in (*path(state), *reversed(state["messages"])):
        if message.get("parent") == question and message["role"] == "assistant":
            return message
    return None


def leaf_below(state: State, message_id: str) -> str:
    """The newest message at or below that one: the leaf of the branch that is shown when you choose the message."""
    leaf, below = message_id, {message_id}
    for message in state["messages"]:
        if message.get("parent") in below:
            leaf = message["id"]
            below.add(leaf)
    return leaf


def showing(state: State, message_id: str) -> State:
    """The chat as it would be if the branch with that message were shown, down to its newest message.

    If the chat does not hold the message, nothing is shown.
    """
    message = message_or_reply(state, message_id)
    return {**state, "leaf": message_id if message is None else leaf_below(state, message["id"])}


def handing_over(reply: Message) -> int | None:
    """The part of a reply with which the last hand-over begins, or None. Agents of frameworks are no hand-over."""
    parts = reply["parts"]
    return next((at for at in range(len(parts) - 1, -1, -1) if "by" in _agent(parts[at])), None)


def asked_maker(reply: Message | None) -> str | None:
    """The model or the agent that was asked for a reply, regardless of to whom it has handed over."""
    if reply is None:
        return None
    handed = next((part for part in reply["parts"] if "by" in _agent(part)), None)
    return str(reply["model"] if handed is None else handed["by"])


def last_speaker(state: State) -> str | None:
    """The agent that spoke last, if one has handed over to another in the shown messages; otherwise None."""
    replies = [message for message in path(state) if message["role"] == "assistant"]
    handed = any(handing_over(reply) is not None for reply in replies)
    return str(replies[-1]["model"]) if handed else None


def _agent(part: Part) -> Part:
    return part if part["type"] == "agent" else {}


def full_text(part: Part) -> str:
    """The text of a part, or the arguments of a tool call, including the chunks."""
    whole = part["arguments"] if part["type"] == "tool" else part["text"]
    return str(whole) + "".join(part.get("chunks", ()))


def is_said(part: Part) -> bool:
    """Whether a part is text of the message itself, and not of a nested run."""
    return part["type"] == "text" and "of" not in part


def text_of(message: Message) -> str:
    """The text of a message, without its reasoning, its tool calls and its nested runs."""
    return "".join(full_text(part) for part in message["parts"] if is_said(part))


def is_finished(message: Message, index: int) -> bool:
    """Whether a part of the message has stopped growing: it is folded, another part follows in the same run, or its
    nested run is over.
    """
    parts = message["parts"]
    if "chunks" not in parts[index]:
        return True
    run = parts[index].get("of")
    if any(parts[at].get("of") == run for at in range(index + 1, len(parts))):
        return True
    return run is not None and parts[run_of(message, run)]["status"] != "running"


def run_of(message: Message, call: str) -> int:
    """The part with that call, to which the parts of a nested run belong."""
    parts = message["parts"]
    return next(at for at, part in enumerate(parts) if part["type"] == "tool" and part["call"] == call)


def outcome_text(tool: Part) -> str:
    """The outcome of a tool call as text: its result, as JSON unless it is a string, or why there is no result."""
    if tool["status"] in ("error", "denied"):
        return str(tool["error"])
    result: Any = tool.get("result", NOT_RUN)
    return result if isinstance(result, str) else orjson.dumps(result).decode()


def is_object(text: str) -> bool:
    """Whether a text is JSON of an object, as the arguments of a tool call must be."""
    try:
        return type(orjson.loads(text)) is dict
    except orjson.JSONDecodeError:
        return False


def call_id(reply: str, index: int) -> str:
    """An id for a tool call that is unique in the chat, as front ends require. That of its model or agent is unique
    only in the reply.
    """
    return f"{reply}:call-{index}"


def short_id(message_id: str, number: int) -> str:
    """An id for a tool call of a message: nine letters and digits, which every known provider accepts."""
    return hashlib.sha256(f"{message_id}-{number}".encode()).hexdigest()[:9]
