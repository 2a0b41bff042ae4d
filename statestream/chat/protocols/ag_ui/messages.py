"""A chat as AG-UI messages, and the ids of the parts of a reply.

A reply becomes several AG-UI messages: for each step of the model one of the assistant, with its text and its tool
calls, then one for each outcome. Its reasoning is messages of its own, and so are data, sources and files: activities.

    <reply>  <reply>:<step>     the assistant's, of the first step and of later ones
    <reply>:reasoning-<part>    <reply>:call-<part>    <reply>:result-<part>    <reply>:activity-<part>

Invariants: the list equals the one that the protocol's client builds from the events of `run_events`: reasoning is
where it began, an outcome behind the message with its call. Outcomes come in the order of their calls, because the
client keeps the order in which they arrive; an early one waits for those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.chat.messages import Message, Part, State, call_id, full_text, outcome_text, path, text_of

Event = dict[str, Any]
AGMessage = dict[str, Any]

MAX_SNAPSHOT: Final = 8 << 20
"""Bytes of messages in one event: the client rejects events of more than 10 Mi characters."""
COMPLETE_ACTIVITIES: Final = {"@ag-ui/client": {"authoritativeActivityTypes": None}}
"""Metadata by which a client drops all activities that a snapshot does not have."""
STAND_IN: Final = "no-reasoning"
"""The id of the thought without content: a client has it between two snapshots only."""

_MEMBERS: Final = {
    "source": ("url", "title"),
    "file": ("mediaType", "url", "filename"),
    "agent": ("name", "by", "note"),
}
"""The members of parts that are activities."""


class Held(Struct, frozen=True, kw_only=True):
    """The ids of the messages that a client holds, in its order. `activities`: whether those of activities are there.

    A client never posts its activities.
    """

    ids: Sequence[str] = ()
    activities: bool = False

    @classmethod
    def all_of(cls, state: State) -> Held:
        """What a client holds that has received everything."""
        return cls(ids=[each["id"] for message in path(state) for each in messages_of(message)], activities=True)


class _Encoded(Struct, frozen=True, kw_only=True):
    """A message of a snapshot."""

    id: str
    role: str
    data: bytes


def snapshots(state: State, held: Held = Held()) -> list[Event]:  # noqa: B008 - it is frozen
    """The snapshots after which a client that holds these messages has those of the chat, in their order.

    A client leaves the messages of a snapshot that it has where they are, and appends the others. If a message is
    missing before one that it has, it first gets a snapshot of the messages that are in the right places, so that it
    drops the rest. It would keep thoughts and activities that a snapshot without any does not have: it is told that
    activities are complete, and a thought without content stands in for those that follow.
    """
    newest = _newest(state)
    whole = _snapshot(newest)
    right = _in_place(newest, held)
    if right is None:
        return [whole]
    kept = newest[:right]
    first = {**_snapshot(kept), "metadata": COMPLETE_ACTIVITIES}
    thoughts = [message for message in newest if message.role == "reasoning"]
    if thoughts and all(message.role != "reasoning" for message in kept):
        first["messages"].append({"id": STAND_IN, "role": "reasoning", "content": ""})
    return [first, whole]


def _in_place(newest: Sequence[_Encoded], held: Held) -> int | None:
    """How many of the newest messages the client has in their places, if it must drop the rest; None if it need not."""
    seen = [place for place, each in enumerate(newest) if held.activities or each.role != "activity"]
    places = {newest[place].id: place for place in seen}
    known = [places[message_id] for message_id in dict.fromkeys(held.ids) if message_id in places]
    right = next((index for index, place in enumerate(known) if place != seen[index]), len(known))
    if right == len(seen):
        return None
    if right == len(known) and (held.activities or not _may_hide_activity(newest, seen[right])):
        return None
    return seen[right]


def _may_hide_activity(newest: Sequence[_Encoded], missing: int) -> bool:
    """Whether the client may hold an activity that belongs behind the missing message: outcomes come late."""
    if newest[missing].role != "tool":
        return False
    behind = (each.role for each in newest[missing:])
    return "activity" in takewhile(lambda role: role not in ("assistant", "user"), behind)


def _snapshot(messages: Sequence[_Encoded]) -> Event:
    return {"type": "MESSAGES_SNAPSHOT", "messages": [orjson.Fragment(message.data) for message in messages]}


def _newest(state: State) -> list[_Encoded]:
    """The messages that are shown: as many of the newest as one event can hold."""
    kept: list[_Encoded] = []
    size = 0
    for message in reversed(path(state)):
        made = reversed(messages_of(message))
        encoded = [_Encoded(id=each["id"], role=each["role"], data=orjson.dumps(each)) for each in made]
        size += sum(len(each.data) for each in encoded)
        if size > MAX_SNAPSHOT:
            break
        kept += encoded
    return kept[::-1]


def messages_of(message: Message) -> list[AGMessage]:
    """The AG-UI messages of one message of the chat, as far as it has come."""
    if message["role"] == "user":
        return [_question(message)]
    settled = settled_parts(message)
    steps = groupby(enumerate(message["parts"]), key=lambda item: item[1].get("step", 0))
    return [each for step, parts in steps for each in _step(message["id"], step, list(parts), settled)]


def _step(reply: str, step: int, parts: list[tuple[int, Part]], settled: int) -> Iterator[AGMessage]:
    """The messages of one step of the model."""
    assistant: AGMessage = {}
    before: list[AGMessage] = []
    behind: list[AGMessage] = []
    results: list[AGMessage] = []
    for index, part in parts:
        if is_reasoning(part):
            reasoning = {"id": reasoning_id(reply, index), "role": "reasoning", "content": full_text(part)}
            (behind if assistant else before).append(reasoning)
        elif part["type"] == "text":
            assistant["content"] = assistant.get("content", "") + full_text(part)
        elif part["type"] != "tool":
            (behind if assistant else before).append(activity_of(reply, index, part))
        else:
            function = {"name": part["name"], "arguments": full_text(part)}
            call = {"id": call_id(reply, index), "type": "function", "function": function}
            assistant.setdefault("toolCalls", []).append(call)
            if index < settled:
                results.append({"role": "tool", **result_of(reply, index, part)})
    yield from before
    if assistant:
        yield {"id": step_id(reply, step), "role": "assistant", **assistant}
    yield from results
    yield from behind


def is_reasoning(part: Part) -> bool:
    """Whether a part is shown as reasoning, as text of nested runs is."""
    return part["type"] == "reasoning" or (part["type"] == "text" and "of" in part)


def activity_of(reply: str, index: int, part: Part) -> AGMessage:
    """Data, a source, a file or another agent as an activity, whose content is an object."""
    if part["type"] in _MEMBERS:
        kind, content = part["type"], {name: part[name] for name in _MEMBERS[part["type"]] if name in part}
    else:
        kind, data = part["type"], part["data"]
        content = data if isinstance(data, dict) else {"data": data}
    return {"id": f"{reply}:activity-{index}", "role": "activity", "activityType": kind, "content": content}


def settled_parts(message: Message, start: int = 0) -> int:
    """The part from `start` on that is the first call without an outcome: outcomes before it may be sent."""
    parts = message["parts"]
    while start < len(parts):
        if parts[start]["type"] == "tool" and parts[start]["status"] in ("streaming", "waiting", "running"):
            break
        start += 1
    return start


def result_of(reply: str, index: int, part: Part) -> dict[str, str]:
    """The outcome of a call as text: its result, as JSON unless it is a string, or why there is none."""
    ids = {"id": f"{reply}:result-{index}", "toolCallId": call_id(reply, index)}
    return {**ids, "content": outcome_text(part)}


def step_id(reply: str, step: int) -> str:
    return f"{reply}:{step}" if step else reply


def reasoning_id(reply: str, index: int) -> str:
    return f"{reply}:reasoning-{index}"


# a person's message


def _question(message: Message) -> AGMessage:
    parts = [content for part in message["parts"] if (content := _content(part)) is not None]
    plain = all(content["type"] == "text" for content in parts)
    question: AGMessage = {"id": message["id"], "role": "user", "content": text_of(message) if plain else parts}
    if "author" in message:
        question["name"] = message["author"]
    return question


def _content(part: Part) -> dict[str, Any] | None:
    """A part of a person's message; None if the protocol cannot represent it."""
    if part["type"] == "text":
        return {"type": "text", "text": part["text"]}
    if part["type"] != "file":
        return None
    kind, _, rest = part["mediaType"].partition("/")
    head, comma, data = part["url"].partition(";base64,")
    source = {"type": "url", "value": part["url"], "mimeType": part["mediaType"]}
    if comma and head.startswith("data:"):
        source = {"type": "data", "value": data, "mimeType": part["mediaType"]}
    return {"type": kind if rest and kind in ("image", "audio", "video") else "document", "source": source}
