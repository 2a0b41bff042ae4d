"""A chat in phases, for one viewer: complete messages, and the phases of a reply.

A waiting reply counts as in progress, because it may get longer.

Invariants: each item of a reply is in exactly one phase. A member without a value is absent, never null. What was sent
is never sent again, unless it is another message. A viewer who resumes from a position receives what follows it, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from statestream.chat.messages import Message, State, asked_maker, find, path, text_of
from statestream.chat.viewing.projection import GrowingText, Item, Look

PhaseItem = dict[str, Any]
Phase = Literal["start", "chunk", "end"]
END: Final = "end"
LOST: Final = "lost"
IN_PROGRESS: Final = ("streaming", "waiting")
_MAX_DIGITS: Final = 9


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
        "metadata": {"position": position, **author, **_about(message), **ending_of(message)},
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
        agent=(asked_maker(message) or "", "assistant"),
        session={"session_id": session_id},
        metadata={"position": position, **_about(message), **ending},
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


def _about(message: Message) -> dict[str, str]:
    """The question of a reply, and the agent that speaks, if another one has handed over to it."""
    if message["role"] != "assistant":
        return {}
    question = {"reply_to": message["parent"]} if "parent" in message else {}
    return question if message["model"] == asked_maker(message) else {**question, "agent": message["model"]}


class PhasesProjection:
    """One viewer of one chat, who may have received it before, up to `position`.

    `_reply` is the reply that is sent in phases, `_sent` how many characters of it were sent. After a resume the first
    `_skip` characters are not sent again.
    """

    over = truncated = False  # a viewer follows the chat as long as the connection lasts

    def __init__(self, session_id: str, position: str | None = None) -> None:
        self._session_id = session_id
        self.position = position
        """The position of the last item that was returned."""
        self._state: State | None = None
        self._leaf: str | None = None
        self._shown: set[str] = set()
        self._reply: Message | None = None
        self._text = GrowingText()
        self._sent = self._skip = 0

    def new(self, look: Look) -> list[Item]:
        """The items that follow those of the last look."""
        state = look.state
        if state is self._state:
            return []
        if self._state is None:
            self._resume(state)
        self._state = state
        items: list[Item] = [] if self._reply is None else [*self._grown(self._reply, find(state, self._reply["id"]))]
        if state.get("leaf") != self._leaf:
            self._leaf = state.get("leaf")
            self._shown &= {message["id"] for message in state["messages"]}
            for message in path(state):
                if message["id"] not in self._shown:
                    items += self._first(message)
        return items

    def _resume(self, state: State) -> None:
        """Continues after the position, if the state knows it."""
        message_id, _, mark = (self.position or "").rpartition(":")
        message = find(state, message_id)
        if message is None or not _is_possible(message, mark):
            self.position = None
            return
        self._shown = {above["id"] for above in path({**state, "leaf": message_id})}
        if mark != END:
            self._reply = message
            self._sent = self._skip = int(mark)

    def _first(self, message: Message) -> Iterator[Item]:
        """A message that this viewer has not received yet."""
        self._shown.add(message["id"])
        if message["status"] not in IN_PROGRESS:
            self.position = f"{message['id']}:{END}"
            yield complete(message, self._session_id, self.position)
            return
        self._reply, self._text, self._sent, self._skip = message, GrowingText(), 0, 0
        yield self._phase(message, "start", 0)
        yield from self._grown(message, message)

    def _grown(self, known: Message, message: Message | None) -> Iterator[Item]:
        """What is new of the reply that is sent in phases."""
        if message is None:  # it was trimmed, or the history is another one
            self._reply = None
            yield self._phase(known, "end", END, error=LOST)
            return
        self._reply = message
        text, self._skip = self._text.new(message)[self._skip :], 0
        if text:
            yield self._chunk(message, text)
        if message["status"] in IN_PROGRESS:
            return
        ending = ending_of(message)
        if reason := content_of(message)[self._sent :]:
            yield self._chunk(message, reason, **ending)
        self._reply = None
        yield self._phase(message, "end", END, **ending)

    def _chunk(self, message: Message, text: str, **ending: Any) -> Item:
        self._sent += len(text)
        return self._phase(message, "chunk", self._sent, text, **ending)

    def _phase(self, message: Message, phase: Phase, mark: int | str, text: str | None = None, **ending: Any) -> Item:
        self.position = f"{message['id']}:{mark}"
        return phase_of(message, self._session_id, self.position, phase, text, **ending)


def _is_possible(message: Message, mark: str) -> bool:
    """Whether a viewer can have received that much of the message."""
    if mark == END:
        return bool(message["status"] not in IN_PROGRESS)
    if message["role"] != "assistant" or not mark.isascii() or not mark.isdigit() or len(mark) > _MAX_DIGITS:
        return False
    return int(mark) <= len(content_of(message))
