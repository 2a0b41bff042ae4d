"""A chat as AG-UI messages, and the ids of what a reply is made of.

A reply is several of their messages: for each answer of the model one of the assistant, with its text and its calls,
then one for each outcome, and its reasoning as messages of their own.

    <reply>  <reply>:<step>     the assistant's, of the first step and of a later one
    <reply>:reasoning-<part>    <reply>:call-<part>    <reply>:result-<part>

Invariants: the list is the one that the events of `run` build in the protocol's client: reasoning stands where it
began, an outcome behind the message that called. Outcomes are told in the order of their calls, because the client
keeps the order in which they come; one that is there early waits for those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

import orjson

from statestream.chat.messages import Message, Part, State, outcome, path, shown, text_of

Event = dict[str, Any]
AGMessage = dict[str, Any]

MAX_SNAPSHOT: Final = 8 << 20
"""Bytes of messages in one frame: the client refuses one of more than 10 Mi characters."""


def snapshots(state: State, held: Sequence[str] = ()) -> list[list[orjson.Fragment]]:
    """What gives a client that holds messages of these ids, in that order, those of the chat in theirs.

    A client that is given a snapshot leaves what it has where it has it, and puts what is new behind. Where somebody
    else has said something before the question that it has just put there, it is first given what stands right, so
    that it drops the rest.
    """
    encoded = _newest(state)
    whole = [orjson.Fragment(said) for said in encoded.values()]
    places = {message_id: place for place, message_id in enumerate(encoded)}
    known = [places[message_id] for message_id in held if message_id in places]
    right = next((place for place, found in enumerate(known) if found != place), len(known))
    return [whole] if right == len(known) else [whole[:right], whole]


def _newest(state: State) -> dict[str, bytes]:
    """The messages that are shown, by their ids: as many of the newest as one frame can hold."""
    kept: list[tuple[str, bytes]] = []
    size = 0
    for message in reversed(path(state)):
        encoded = [(said["id"], orjson.dumps(said)) for said in reversed(messages_of(message))]
        size += sum(len(said) for _, said in encoded)
        if size > MAX_SNAPSHOT:
            break
        kept += encoded
    return dict(reversed(kept))


def messages_of(message: Message) -> list[AGMessage]:
    """One message of the chat as theirs, as far as it has come."""
    if message["role"] == "user":
        return [_question(message)]
    told = settled(message)
    steps = groupby(enumerate(message["parts"]), key=lambda item: item[1].get("step", 0))
    return [said for step, parts in steps for said in _step(message["id"], step, list(parts), told)]


def _step(reply: str, step: int, parts: list[tuple[int, Part]], told: int) -> Iterator[AGMessage]:
    """The messages of one answer of the model."""
    spoken: AGMessage = {}
    before: list[AGMessage] = []
    behind: list[AGMessage] = []
    results: list[AGMessage] = []
    for index, part in parts:
        if part["type"] == "reasoning":
            thought = {"id": reasoning_id(reply, index), "role": "reasoning", "content": shown(part)}
            (behind if spoken else before).append(thought)
        elif part["type"] == "text":
            spoken["content"] = spoken.get("content", "") + shown(part)
        else:
            function = {"name": part["name"], "arguments": shown(part)}
            call = {"id": call_id(reply, index), "type": "function", "function": function}
            spoken.setdefault("toolCalls", []).append(call)
            if index < told:
                results.append({"role": "tool", **result(reply, index, part)})
    yield from before
    if spoken:
        yield {"id": step_id(reply, step), "role": "assistant", **spoken}
    yield from results
    yield from behind


def settled(message: Message, start: int = 0) -> int:
    """Up to which part the outcomes of tools may be told: that of the first call behind `start` that has none yet."""
    parts = message["parts"]
    while start < len(parts):
        if parts[start]["type"] == "tool" and parts[start]["status"] in ("streaming", "running"):
            break
        start += 1
    return start


def result(reply: str, index: int, part: Part) -> dict[str, str]:
    """What became of a call: its result, text as it is and all else as JSON, or why there is none."""
    ids = {"id": f"{reply}:result-{index}", "toolCallId": call_id(reply, index)}
    return {**ids, "content": outcome(part)}


def step_id(reply: str, step: int) -> str:
    return f"{reply}:{step}" if step else reply


def reasoning_id(reply: str, index: int) -> str:
    return f"{reply}:reasoning-{index}"


def call_id(reply: str, index: int) -> str:
    return f"{reply}:call-{index}"


# a person's message


def _question(message: Message) -> AGMessage:
    parts = [content for part in message["parts"] if (content := _content(part)) is not None]
    plain = all(content["type"] == "text" for content in parts)
    said: AGMessage = {"id": message["id"], "role": "user", "content": text_of(message) if plain else parts}
    if "author" in message:
        said["name"] = message["author"]
    return said


def _content(part: Part) -> dict[str, Any] | None:
    """A part that a person posted; None for one that the protocol has no word for."""
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
