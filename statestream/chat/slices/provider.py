"""The slice `provider`: opaque data that a provider wants back with its answers, such as a signature of a thought.

    provider/<chat>  {"replies": {<reply>: {"provider", "entries": [{"step", "part"?, "data"}]}}}

`data` is opaque, see `chat/models`. An entry belongs to an answer of the model, which is a step of the reply, or to the
tool call that is a part of it. The request that writes the pieces also writes the entry, but with a separate action,
because clients can read the causes of the changes that they see. The entry stays as long as the chat holds the message.

Invariants: the slice is hidden, and no other slice handles its actions, so that no client sees any of it. Applying an
action twice changes nothing. Data is read only for the provider that sent it. Its size counts towards the size of the
reply.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct
from typing_extensions import NotRequired, TypedDict

from statestream.chat.messages import Message
from statestream.chat.slices.conversation import deleted
from statestream.core.change import REMOVED, Action
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "provider"

provider_slice = Slice(NAME, initial={"replies": {}}, keyed=True, internal=True, hidden=True)


class Entry(TypedDict):
    """Opaque data of one answer of the model (`step`), or of the tool call that is part number `part`."""

    step: int
    part: NotRequired[int]
    data: str


@provider_slice.action
def sent(state: Any, *, reply: str, provider: str, first: int, entries: list[Entry]) -> None:
    """The provider sent these entries with the reply. The first of them has the number `first`, counted from 0."""
    kept = state["replies"].setdefault(reply, {"provider": provider, "entries": []})["entries"]
    if first == len(kept):
        kept.extend(entries)


@provider_slice.action
def copied(state: Any, *, reply: str, to: str, parts: list[int]) -> None:
    """The reply `to` begins with these parts of a reply. See `continuations`."""
    known, places = state["replies"].get(reply), {part: place for place, part in enumerate(parts)}
    if known is not None and to not in state["replies"]:
        kept = [_placed(entry, places) for entry in _belonging(known["entries"], places)]
        state["replies"][to] = {"provider": known["provider"], "entries": kept}


def _belonging(entries: Iterable[Entry], parts: Container[int]) -> list[Entry]:
    """The entries that belong to answers, or to these parts."""
    return [entry for entry in entries if "part" not in entry or entry["part"] in parts]


def _placed(entry: Entry, places: Mapping[int, int]) -> Entry:
    return {**entry, "part": places[entry["part"]]} if "part" in entry else entry


@provider_slice.action
def forgotten(state: Any, *, replies: list[str]) -> Any:
    """The chat no longer holds these replies."""
    if state["replies"].keys() <= set(replies):
        return REMOVED
    for reply in replies:
        state["replies"].pop(reply, None)
    return None


@provider_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


class Sent(Struct, frozen=True, kw_only=True):
    """The opaque data of one reply: of its answers by step, and of its tool calls by part."""

    answers: Mapping[int, tuple[str, ...]]
    calls: Mapping[int, tuple[str, ...]]


NOTHING: Final = Sent(answers={}, calls={})


def sent_by(view: StoreView, key: str, provider: str) -> Mapping[str, Sent]:
    """The opaque data of a chat that came from that provider, by reply."""
    state = view.get(f"{NAME}/{key}")
    replies = {} if state is None else state.value["replies"]
    return {id: _sorted(reply["entries"]) for id, reply in replies.items() if reply["provider"] == provider}


def entries_of(view: StoreView, key: str, reply: str) -> int:
    """The number of entries of a reply. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    return 0 if state is None else len(state.value["replies"].get(reply, {"entries": ()})["entries"])


def count_kept(view: StoreView, key: str, reply: str, provider: str | None, parts: Container[int]) -> int:
    """How many entries `copied` copies, if the data is this provider's; otherwise 0. Raises NotLoaded."""
    state = view.get(f"{NAME}/{key}")
    known = None if state is None else state.value["replies"].get(reply)
    return 0 if known is None or known["provider"] != provider else len(_belonging(known["entries"], parts))


def _sorted(entries: Sequence[Entry]) -> Sent:
    answers: dict[int, tuple[str, ...]] = {}
    calls: dict[int, tuple[str, ...]] = {}
    for entry in entries:
        if "part" in entry:
            calls[entry["part"]] = (*calls.get(entry["part"], ()), entry["data"])
        else:
            answers[entry["step"]] = (*answers.get(entry["step"], ()), entry["data"])
    return Sent(answers=answers, calls=calls)


def forgetting(view: StoreView, key: str, needed: Iterable[Message]) -> list[Action]:
    """The action that removes the data of all replies but the needed ones; none if there are no others."""
    state = view.get(f"{NAME}/{key}")
    if state is None:
        return []
    gone = sorted(state.value["replies"].keys() - {message["id"] for message in needed})
    return [forgotten(key, replies=gone)] if gone else []
