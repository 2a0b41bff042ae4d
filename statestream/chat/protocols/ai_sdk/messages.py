"""A chat as the AI SDK's UI messages, as a page passes them to `useChat` when it is loaded.

Invariants: pure. The message of a reply equals what a client has after the whole stream of that reply. Members that a
message does not have are absent, never null.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.messages import WRITTEN, Message, Part, State, call_id, full_text, is_finished, path, run_of
from statestream.core.errors import NotJSON
from statestream.core.values import loads

_METADATA: Final = {
    "created_at": "createdAt",
    "model": "model",
    "usage": "usage",
    "cost": "cost",
    "author": "author",
    "error": "error",
}

SETTLED: Final = {"providerExecuted": True}
"""A member of calls with an outcome. Without it, `lastAssistantMessageIsCompleteWithToolCalls` takes an outcome for one
that the page has made and must send: it would do so again and again if the reply ends there.
"""
OWN: Final = "statestream"
"""The name under which metadata is ours."""


def ui_messages(state: State) -> list[dict[str, Any]]:
    """The messages that are shown."""
    return [ui_message(message) for message in path(state)]


def ui_message(message: Message) -> dict[str, Any]:
    """One message. The parts of a person's message are as they were posted."""
    parts: list[dict[str, Any]] = []
    step = None
    for index, part in enumerate(message["parts"]):
        if message["role"] != "user" and part.get("step", 0) != step:
            step = part.get("step", 0)
            parts.append({"type": "step-start"})
        parts.append(_ui_part(message, index))
    return {"id": message["id"], "role": message["role"], "metadata": metadata_of(message), "parts": parts}


def _ui_part(message: Message, index: int) -> dict[str, Any]:
    part = message["parts"][index]
    if message["role"] == "user":
        return dict(part)
    if part["type"] == "tool":
        return _tool(part, call_id(message["id"], index))
    if part["type"] not in WRITTEN:
        return whole_part(part, index)
    kind, nested = kind_of(message, part)
    id = {"id": str(index)} if kind == "reasoning" else {}
    state = "done" if is_finished(message, index) else "streaming"
    return {"type": kind, **id, **nested, "text": full_text(part), "state": state}


def kind_of(message: Message, part: Part) -> tuple[str, dict[str, Any]]:
    """The type of a part of text or reasoning. In a nested run, both are reasoning, with a member that names it."""
    if "of" not in part:
        return part["type"], {}
    run = run_of(message, part["of"])
    about = {"of": call_id(message["id"], run), "agent": message["parts"][run]["name"]}
    return "reasoning", {"providerMetadata": {"statestream": about}}


def whole_part(part: Part, index: int) -> dict[str, Any]:
    """A part of a reply that does not grow, such as a source or a file. It is the same in a message and as a chunk.

    A chunk has no place for the name of a file but the metadata of a provider.
    """
    if part["type"] == "file":
        name = {"providerMetadata": {OWN: {"filename": part["filename"]}}} if "filename" in part else {}
        return {"type": "file", "mediaType": part["mediaType"], "url": part["url"], **name}
    if part["type"] == "source":
        title = {"title": part["title"]} if "title" in part else {}
        return {"type": "source-url", "sourceId": str(index), "url": part["url"], **title}
    if part["type"] == "agent":
        return {"type": "data-agent", "data": {name: part[name] for name in ("name", "by", "note") if name in part}}
    named = {"id": part["id"]} if "id" in part else {}
    return {"type": part["type"], **named, "data": part["data"]}


def _tool(part: Part, id: str) -> dict[str, Any]:
    readable, given = arguments_of(part)
    ui: dict[str, Any] = {"type": f"tool-{part['name']}", "toolCallId": id, "state": _state_of(part)}
    if "approval" in part:
        ui["approval"] = {
            name: part["approval"][name] for name in ("id", "approved", "reason") if name in part["approval"]
        }
    if readable or part["status"] == "error":
        ui["input"] = given
    if part["status"] in ("complete", "error"):
        ui |= SETTLED
    if part["status"] == "complete":
        ui["output"] = part["result"]
    elif part["status"] == "error":
        ui["errorText"] = part["error"]
    return ui


def _state_of(part: Part) -> str:
    """The state of a tool call. An approved call that has not ended is `approval-responded`."""
    if "approval" in part and part["status"] in ("waiting", "running"):
        return "approval-responded" if "approved" in part["approval"] else "approval-requested"
    states = {
        "streaming": "input-streaming",
        "waiting": "input-available",
        "running": "input-available",
        "complete": "output-available",
        "denied": "output-denied",
    }
    return states.get(part["status"], "output-error")


def arguments_of(part: Part) -> tuple[bool, Any]:
    """Whether a tool's arguments are valid JSON, and their value: their text if they are not."""
    text = full_text(part)
    try:
        return True, loads(text.encode() or b"{}")
    except NotJSON:
        return False, text


def metadata_of(message: Message) -> dict[str, Any]:
    """What is known of a message beside its content, and how a reply ended if it did not end well.

    The front end's own metadata is among it.
    """
    metadata = {name: message[key] for key, name in _METADATA.items() if key in message}
    ended = {"status": message["status"]} if message["status"] in ("stopped", "error") else {}
    return {**message.get("metadata", {}), **metadata, **ended}


def own_metadata(posted: dict[str, Any]) -> dict[str, Any]:
    """The part of a posted message's metadata that is the front end's own."""
    return {name: value for name, value in posted.items() if name not in (*_METADATA.values(), "status")}
