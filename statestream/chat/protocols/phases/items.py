"""The items of the three phases: complete messages, and the phases of a reply.

Invariants: each item of a reply is in exactly one phase. A member without a value is absent, never null.
"""

from __future__ import annotations

from typing import Any, Literal

from statestream.chat.messages import Message, text_of

PhaseItem = dict[str, Any]
Phase = Literal["start", "chunk", "end"]


def complete(message: Message, session_id: str, position: str) -> PhaseItem:
    """A message that has ended, as one item."""
    author = {"author": message["author"]} if "author" in message else {}
    return {
        "type": "message",
        "id": message["id"],
        "content": content_of(message),
        "sender": "user" if message["role"] == "user" else "ai",
        "timestamp": message["created_at"],
        "session_id": session_id,
        "metadata": {"position": position, **author, **_reply_to(message), **ending_of(message)},
    }


def phase_of(
    message: Message, session_id: str, position: str, phase: Phase, text: str | None = None, **ending: Any
) -> PhaseItem:
    """One phase of a reply. `ending` describes how it ended, see `ending_of`."""
    return _item(
        phase,
        text,
        id=message["id"],
        at=message["updated_at" if phase == "end" else "created_at"],
        agent=(message["model"], "assistant"),
        session={"session_id": session_id},
        metadata={"position": position, **_reply_to(message), **ending},
    )


def refusal(id: str, sentence: str, kind: str, *, at: int, session_id: str | None, **more: str) -> list[PhaseItem]:
    """The three phases that say why a request is refused. `more` is added to `metadata`."""
    session = {} if session_id is None else {"session_id": session_id}
    phases: tuple[tuple[Phase, str | None], ...] = (("start", None), ("chunk", sentence), ("end", None))
    return [
        _item(phase, text, id=id, at=at, agent=("system", "system"), session=session, metadata={**more, "error": kind})
        for phase, text in phases
    ]


def _item(
    phase: Phase,
    text: str | None,
    *,
    id: str,
    at: int,
    agent: tuple[str, str],
    session: dict[str, str],
    metadata: dict[str, Any],
) -> PhaseItem:
    name, kind = agent
    return {
        "type": "message_stream",
        "id": id,
        **({} if text is None else {"chunk": text}),
        "sender": "ai",
        "timestamp": at,
        "agentId": name,
        "agentName": name,
        "agentType": kind,
        **session,
        "stream_start": phase == "start",
        "stream_chunk": phase == "chunk",
        "stream_end": phase == "end",
        "metadata": {**metadata, "streaming": phase != "end"},
    }


def content_of(message: Message) -> str:
    """The text that a viewer ends up with: that of the message, followed by the reason if the reply failed."""
    text = text_of(message)
    if message["status"] != "error":
        return text
    return f"{text}\n\n{message['error']['message']}" if text else str(message["error"]["message"])


def ending_of(message: Message) -> dict[str, Any]:
    """How a reply ended, if it did not end well."""
    if message["status"] == "error":
        return {"error": message["error"]["kind"]}
    return {"stopped": True} if message["status"] == "stopped" else {}


def _reply_to(message: Message) -> dict[str, str]:
    return {"reply_to": message["parent"]} if message["role"] == "assistant" and "parent" in message else {}
