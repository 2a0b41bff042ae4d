"""A chat in phases, as WebSocket clients know it: complete messages, and replies that begin, grow and end.

    {"type": "message", "id", "content", "sender": "user" | "ai", "timestamp", "session_id", "metadata"}
    {"type": "message_stream", "id", "chunk"?, "sender": "ai", "timestamp", "agentId", "agentName", "agentType",
     "session_id", "stream_start", "stream_chunk", "stream_end", "metadata"}

What is whole when it is first seen comes complete, what is being made comes in phases. The protocol knows text only:
reasoning and tools are left out, and why a reply failed is said by a last chunk. `metadata.position` is
`<message>:<characters>`, or `<message>:end`; it covers so much of that message, and all above it.

Invariants: a position is made of the state and of nothing else, so whoever comes back with one goes on behind it, also
at another process. One that the state does not know begins from the start. No member is null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from statestream.chat.messages import Message, State, find, path, text_of
from statestream.chat.projections.text import TextProjection

Frame = dict[str, Any]
Phase = Literal["start", "chunk", "end"]

END: Final = "end"
LOST: Final = "lost"
_DIGITS: Final = 9


class PhasesProjection:
    """One viewer of one chat, who may have seen it before, up to `position`."""

    def __init__(self, session_id: str, position: str | None = None) -> None:
        self._session_id = session_id
        self.position = position
        """That of the last frame which was given."""
        self._state: State | None = None
        self._leaf: str | None = None
        self._shown: set[str] = set()
        self._reply: Message | None = None
        self._text = TextProjection()
        self._sent = self._skip = 0

    def new(self, state: State) -> list[Frame]:
        """The frames behind what was given before."""
        if state is self._state:
            return []
        if self._state is None:
            self._resume(state)
        self._state = state
        frames = [] if self._reply is None else list(self._grown(self._reply, find(state, self._reply["id"])))
        if state.get("leaf") != self._leaf:
            self._leaf = state.get("leaf")
            self._shown &= {message["id"] for message in state["messages"]}
            for message in path(state):
                if message["id"] not in self._shown:
                    frames += self._first(message)
        return frames

    def _resume(self, state: State) -> None:
        """Takes the place of who had seen the chat up to `position`, if the state knows that."""
        message_id, _, mark = (self.position or "").rpartition(":")
        message = find(state, message_id)
        if message is None or not _fits(message, mark):
            self.position = None
            return
        self._shown = {above["id"] for above in path({**state, "leaf": message_id})}
        if mark != END:
            self._reply = message
            self._sent = self._skip = int(mark)

    def _first(self, message: Message) -> Iterator[Frame]:
        """A message that this viewer has not seen."""
        self._shown.add(message["id"])
        if message["status"] != "streaming":
            yield self._complete(message)
            return
        self._reply, self._text, self._sent, self._skip = message, TextProjection(), 0, 0
        yield self._phase(message, "start", 0)
        yield from self._grown(message, message)

    def _grown(self, known: Message, message: Message | None) -> Iterator[Frame]:
        """What is new of the reply that has begun."""
        if message is None:  # it was trimmed, or the history is another one
            self._reply = None
            yield self._phase(known, "end", END, error=LOST)
            return
        self._reply = message
        text, self._skip = self._text.new(message)[self._skip :], 0
        if text:
            yield self._chunk(message, text)
        if message["status"] == "streaming":
            return
        how = _how(message)
        if why := said(message)[self._sent :]:
            yield self._chunk(message, why, **how)
        self._reply = None
        yield self._phase(message, "end", END, **how)

    def _complete(self, message: Message) -> Frame:
        self.position = f"{message['id']}:{END}"
        author = {"author": message["author"]} if "author" in message else {}
        return {
            "type": "message",
            "id": message["id"],
            "content": said(message),
            "sender": "user" if message["role"] == "user" else "ai",
            "timestamp": message["created_at"],
            "session_id": self._session_id,
            "metadata": {"position": self.position, **author, **_reply_to(message), **_how(message)},
        }

    def _chunk(self, message: Message, text: str, **how: Any) -> Frame:
        self._sent += len(text)
        return self._phase(message, "chunk", self._sent, text, **how)

    def _phase(self, message: Message, phase: Phase, mark: int | str, text: str | None = None, **how: Any) -> Frame:
        self.position = f"{message['id']}:{mark}"
        return _frame(
            phase,
            text,
            id=message["id"],
            at=message["updated_at" if phase == "end" else "created_at"],
            agent=(message["model"], "assistant"),
            session={"session_id": self._session_id},
            metadata={"position": self.position, **_reply_to(message), **how},
        )


def said(message: Message) -> str:
    """What a viewer ends up with: the text, and of a reply that failed the sentence that says why."""
    text = text_of(message)
    if message["status"] != "error":
        return text
    return f"{text}\n\n{message['error']['message']}" if text else str(message["error"]["message"])


def refusal(id: str, sentence: str, kind: str, *, at: int, session_id: str | None, **more: str) -> list[Frame]:
    """The three phases that say why a question is not answered. `more`: what else stands in `metadata`."""
    session = {} if session_id is None else {"session_id": session_id}
    phases: tuple[tuple[Phase, str | None], ...] = (("start", None), ("chunk", sentence), ("end", None))
    return [
        _frame(phase, text, id=id, at=at, agent=("system", "system"), session=session, metadata={**more, "error": kind})
        for phase, text in phases
    ]


def _frame(
    phase: Phase,
    text: str | None,
    *,
    id: str,
    at: int,
    agent: tuple[str, str],
    session: dict[str, str],
    metadata: dict[str, Any],
) -> Frame:
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


def _fits(message: Message, mark: str) -> bool:
    """Whether that much of the message can have been seen."""
    if mark == END:
        return bool(message["status"] != "streaming")
    if message["role"] != "assistant" or not mark.isascii() or not mark.isdigit() or len(mark) > _DIGITS:
        return False
    return int(mark) <= len(said(message))


def _reply_to(message: Message) -> dict[str, str]:
    return {"reply_to": message["parent"]} if message["role"] == "assistant" and "parent" in message else {}


def _how(message: Message) -> dict[str, Any]:
    """How a reply ended, where it did not end well."""
    if message["status"] == "error":
        return {"error": message["error"]["kind"]}
    return {"stopped": True} if message["status"] == "stopped" else {}
