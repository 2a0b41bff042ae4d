"""What a model is given: the newest messages of the conversation, as turns.

A reply with tool calls becomes several turns: its text and its calls, the outcome of each call, then what followed. The
window counts messages, so it never separates a call from its outcome: providers reject such a conversation.

Invariants: pure. The stored messages are the conversation, whatever a client has posted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from statestream.chat.messages import Message, Part, full_text, outcome_text, text_of
from statestream.chat.models import ToolCall, Turn


def turns_of(messages: Sequence[Message], window: int) -> list[Turn]:
    """The turns of the last `window` messages that have content."""
    kept: list[list[Turn]] = []
    for message in reversed(messages):
        if len(kept) == window:
            break
        if turns := list(_turns(message)):
            kept.append(turns)
    return [turn for turns in reversed(kept) for turn in turns]


def _turns(message: Message) -> Iterator[Turn]:
    """The turns of one message; none if it has no content."""
    if message["role"] == "user":
        files = [part for part in message["parts"] if part["type"] == "file"]
        images = tuple(part["url"] for part in files if _is_image(part))
        others = (f"[file: {part.get('filename') or part['mediaType']}]" for part in files if not _is_image(part))
        text = "\n".join(line for line in (text_of(message), *others) if line)
        if text or images:
            yield Turn(role="user", text=text, images=images)
        return
    for _, parts in groupby(message["parts"], key=lambda part: part.get("step", 0)):
        yield from _step(list(parts))


def _is_image(file: Part) -> bool:
    """Models receive images; of other files they receive the name or the type."""
    return str(file["mediaType"]).startswith("image/")


def _step(parts: Sequence[Part]) -> Iterator[Turn]:
    """The turns of one answer of the model: its text, its calls, and their outcomes."""
    text = "".join(full_text(part) for part in parts if part["type"] == "text")
    tools = [part for part in parts if part["type"] == "tool"]
    calls = tuple(ToolCall(id=tool["call"], name=tool["name"], arguments=full_text(tool)) for tool in tools)
    if text or calls:
        yield Turn(role="assistant", text=text, calls=calls)
    for tool in tools:
        yield Turn(role="tool", text=outcome_text(tool), answers=tool["call"])
