"""What a model is given: the newest messages of the conversation, as turns.

A reply that called tools is several turns: what it said and called, the outcome of each call, what it said then. The
window counts messages, so it never stands between a call and its outcome: providers refuse such a conversation.

Invariants: pure. The store's messages are the conversation, whatever a client has posted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from statestream.chat.messages import Message, Part, outcome, shown, text_of
from statestream.chat.models import ToolCall, Turn


def turns_of(messages: Sequence[Message], window: int) -> list[Turn]:
    """The turns of the last `window` messages that say something."""
    kept: list[list[Turn]] = []
    for message in reversed(messages):
        if len(kept) == window:
            break
        if turns := list(_of(message)):
            kept.append(turns)
    return [turn for turns in reversed(kept) for turn in turns]


def _of(message: Message) -> Iterator[Turn]:
    """The turns of one message; none of one that says nothing."""
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
    """A model is shown images; of any other file it is told that there is one."""
    return str(file["mediaType"]).startswith("image/")


def _step(parts: Sequence[Part]) -> Iterator[Turn]:
    """One answer of the model: its text, its calls, and their outcomes."""
    text = "".join(shown(part) for part in parts if part["type"] == "text")
    tools = [part for part in parts if part["type"] == "tool"]
    calls = tuple(ToolCall(id=tool["call"], name=tool["name"], arguments=shown(tool)) for tool in tools)
    if text or calls:
        yield Turn(role="assistant", text=text, calls=calls)
    for tool in tools:
        yield Turn(role="tool", text=outcome(tool), answers=tool["call"])
