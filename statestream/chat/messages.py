"""Reading a conversation: which messages are shown, in which order, and what they say.

    message  {"id", "role", "status", "parts": […], "parent"?, "author"?, "run"?, "model"?,
              "finish_reason"?, "usage"?, "error"?, "created_at", "updated_at"}
    part     {"type": "text" | "reasoning", "text", "chunks"?, "step"?}
             {"type": "tool", "call", "name", "arguments", "chunks"?, "status", "result"? | "error"?, "step"?}
             {"type": "file", "mediaType", "url", "filename"?}, {"type": "data-…", "id"?, "data"}

Messages form a tree by `parent`: a reply made again and a question asked differently are siblings of the first. What
is shown is the path from the chat's `leaf` up to the root. Text that grows is an array of chunks behind `text` (of a
tool: behind `arguments`), folded when it is done.

Invariants: pure functions of committed state, which they never change. Every projection reads through these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

State = Mapping[str, Any]
Message = Mapping[str, Any]
Part = Mapping[str, Any]

KEPT_DEPTH: Final = 5
"""Containers that stand around what a part holds, in the chat and in its archive."""
NO_OUTCOME: Final = "The tool was not run."


def find(state: State, message_id: str | None) -> Any:
    """The message with that id, or None. Looks at the newest first."""
    messages = state["messages"]
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["id"] == message_id:
            return messages[index]
    return None


def whose(state: State, message_id: str | None) -> Any:
    """The message with that id, or the reply of which it is a part: `<reply>:<part>`, as projections name those."""
    message = find(state, message_id)
    if message is None and message_id is not None:
        reply = find(state, message_id.rpartition(":")[0])
        return reply if reply is not None and reply["role"] == "assistant" else None
    return message


def path(state: State) -> list[Message]:
    """The messages that are shown, oldest first: the way from the leaf up, as far as it is held."""
    shown_now, wanted = [], state.get("leaf")
    for message in reversed(state["messages"]):  # a parent always stands before its children
        if message["id"] == wanted:
            shown_now.append(message)
            wanted = message.get("parent")
    return shown_now[::-1]


def streaming(state: State) -> Any:
    """The reply that is being made, or None. It is always the leaf, the newest message."""
    last = state["messages"][-1] if state["messages"] else None
    return last if last is not None and last["status"] == "streaming" else None


def reply_to(state: State, question: str) -> Any:
    """The newest reply to that message, or None."""
    for message in reversed(state["messages"]):
        if message.get("parent") == question and message["role"] == "assistant":
            return message
    return None


def leaf_below(state: State, message_id: str) -> str:
    """The newest message at or below that one: the end of the branch that is shown when it is chosen."""
    leaf, below = message_id, {message_id}
    for message in state["messages"]:
        if message.get("parent") in below:
            leaf = message["id"]
            below.add(leaf)
    return leaf


def shown(part: Part) -> str:
    """The text of a part, a tool's arguments, as a reader sees it."""
    whole = part["arguments"] if part["type"] == "tool" else part["text"]
    return str(whole) + "".join(part.get("chunks", ()))


def text_of(message: Message) -> str:
    """What a message says, without its reasoning and its tools."""
    return "".join(shown(part) for part in message["parts"] if part["type"] == "text")


def over(message: Message, index: int) -> bool:
    """Whether a part of the message grows no more: it is folded, or another one stands behind it."""
    return "chunks" not in message["parts"][index] or index + 1 < len(message["parts"])


def outcome(tool: Part) -> str:
    """What a model is told of a tool: its result, text as it is and all else as JSON, or why there is none."""
    if tool["status"] == "error":
        return str(tool["error"])
    result: Any = tool.get("result", NO_OUTCOME)
    return result if isinstance(result, str) else orjson.dumps(result).decode()
