"""The slice `chat`: what a conversation is, and everything that can happen to it.

    {"messages": [{"id", "role", "status", "parts": [{"type": "text", "text", "chunks"?}],
                   "run"?, "model"?, "error"?, "finish_reason"?, "created_at", "updated_at"}]}

`status` is streaming, complete or error. Text that grows is an array of chunks, folded into `text` when
it is done: what is shown is always `text` and the chunks behind each other (`shown`).

Law: pure handlers; ids and times come with the action. A reply that has ended never changes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from statestream.change import Action
from statestream.errors import Refused
from statestream.slices import Slice

NAME: Final = "chat"

chat_slice = Slice(NAME, initial={"messages": []}, keyed=True, internal=True)


@chat_slice.action
def created(state: Any) -> None:
    """A chat was made, with no messages yet."""


@chat_slice.action
def asked(state: Any, action: Action, *, question: str, text: str, reply: str, run: str, model: str) -> None:
    """Somebody asked: their message, and the placeholder of the reply that `run` makes. Refused while one is made."""
    if any(message["status"] == "streaming" for message in state["messages"]):
        raise Refused("busy", "This chat is being answered already; wait for the reply to end.")
    times = {"created_at": action.at, "updated_at": action.at}
    state["messages"].append(
        {"id": question, "role": "user", "status": "complete", "parts": [{"type": "text", "text": text}], **times}
    )
    state["messages"].append(
        {
            "id": reply,
            "role": "assistant",
            "status": "streaming",
            "parts": [{"type": "text", "text": "", "chunks": []}],
            "run": run,
            "model": model,
            **times,
        }
    )


@chat_slice.action
def grew(state: Any, *, reply: str, index: int, text: str) -> None:
    """The reply got longer by its chunk number `index`, counted from 0: saying it twice changes nothing."""
    chunks = _streaming(state, reply)["parts"][-1]["chunks"]
    if index >= len(chunks):
        chunks.append(text)


@chat_slice.action
def ended(
    state: Any,
    action: Action,
    *,
    reply: str,
    status: Literal["complete", "error"],
    finish_reason: str | None = None,
    error: dict[str, str] | None = None,
) -> None:
    """The reply is over; its text so far stays."""
    message = _streaming(state, reply)
    for part in message["parts"]:
        if "chunks" in part:
            part["text"] = shown(part)
            del part["chunks"]
    message["status"] = status
    message["updated_at"] = action.at
    if finish_reason is not None:
        message["finish_reason"] = finish_reason
    if error is not None:
        message["error"] = error


def _streaming(state: Any, reply: str) -> Any:
    message = find(state, reply)
    if message is None or message["status"] != "streaming":
        raise Refused("ended", "This reply has ended.")
    return message


def find(state: Any, message_id: str) -> Any:
    """The message with that id, or None. Looks at the newest first."""
    messages = state["messages"]
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["id"] == message_id:
            return messages[index]
    return None


def shown(part: Mapping[str, Any]) -> str:
    """The text of a part as a reader sees it."""
    return str(part["text"]) + "".join(part.get("chunks", ()))


def text_of(message: Mapping[str, Any]) -> str:
    return "".join(shown(part) for part in message["parts"] if part["type"] == "text")
