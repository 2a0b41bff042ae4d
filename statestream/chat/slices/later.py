"""Questions that are asked later: those that wait in the queue of their chat, and those that are due at a certain time.

    chat/<key>        {..., "queued"?: [{"id", "parts", "author"?, "metadata"?, "created_at"}]}
    chat_later/<key>  {"questions": {<id>: {"asker"?, "agent"?, "brought"?, "at"?, "question"?}}}

Everybody in a chat sees its queue. What nobody may see is in the hidden slice: the identity of the person who asks,
because the question is asked with their rights, the agent that they chose, and what the question brings. A question
that is scheduled is hidden as a whole until it is asked; `at` is the Unix time in ms.

Invariants: pure handlers. Both slices have the queued questions; the same requests write both. A question is taken from
here by the request that asks it, which is refused if it is not here any more: so it is asked at most once, on whatever
node. The questions of a queue are asked in its order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from statestream.chat.messages import find, queued, unfinished
from statestream.chat.provisions import Provisions
from statestream.chat.slices import waits
from statestream.chat.slices.conversation import (
    KNOWN,
    QuestionPayload,
    chat_slice,
    check_leaf,
    check_member,
    deleted,
    name_of,
)
from statestream.core.change import REMOVED, Action
from statestream.core.errors import Refused
from statestream.core.principal import Identity
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_later"
MAX_QUEUED: Final = 10
"""The questions in the queue of a chat."""
MAX_SCHEDULED: Final = 100
"""The questions that are scheduled in a chat."""
IDLE: Final = "idle"
"""The code of the refusal if a question is to be queued, although it could be asked now."""
GONE: Final = "gone"
"""The code of the refusal if a question is not here any more: it was asked or removed."""
NOT_AUTHOR: Final = "not_author"
TAKEN: Final = "This id belongs to another question that is waiting in this chat; use a new one."

later_slice = Slice(NAME, initial={"questions": {}}, keyed=True, internal=True, hidden=True)


# the queue, which everybody sees


@chat_slice.action
def enqueued(state: Any, action: Action, *, question: QuestionPayload, leaf: str | None = None) -> None:
    """Somebody asked a question while a reply was unfinished: it is asked when that has ended."""
    check_member(state, action)
    check_leaf(state, leaf)
    waiting = queued(state)
    if find(state, question["id"]) is not None or any(each["id"] == question["id"] for each in waiting):
        raise Refused(KNOWN, "This was asked before.")
    if unfinished(state) is None and not waiting:
        raise Refused(IDLE, "No reply is in progress.")
    if len(waiting) >= MAX_QUEUED:
        raise Refused(
            "busy", f"{MAX_QUEUED} questions are already waiting in this chat; wait until one of them is asked."
        )
    state["queued"] = [*waiting, {**question, "created_at": action.at}]


@chat_slice.action
def dequeued(state: Any, action: Action, *, question: str) -> None:
    """A question was removed from the queue: by its author, or because it cannot be asked."""
    check_member(state, action)
    known = next((each for each in queued(state) if each["id"] == question), None)
    if known is None:
        raise Refused(GONE, "There is no such question in the queue.")
    if action.actor is not None and known.get("author") != action.actor:
        raise Refused(NOT_AUTHOR, "Only the person who asked a question can remove it.")
    left = [each for each in queued(state) if each["id"] != question]
    if left:
        state["queued"] = left
    else:
        del state["queued"]


# what is hidden


@later_slice.action
def kept(
    state: Any,
    *,
    id: str,
    asker: dict[str, Any] | None = None,
    agent: str | None = None,
    brought: dict[str, Any] | None = None,
    at: int | None = None,
    question: QuestionPayload | None = None,
) -> None:
    """A question is queued or, with `at` and `question`, scheduled. Scheduling it again replaces it.

    Refused if a question with this id is here that came in the other way: it may be somebody else's.
    """
    more = {"asker": asker, "agent": agent, "brought": brought, "at": at, "question": question}
    if id in state["questions"] and ("at" in state["questions"][id]) != (at is not None):
        raise Refused("id_taken", TAKEN)
    if at is not None and sum("at" in each for key, each in state["questions"].items() if key != id) >= MAX_SCHEDULED:
        raise Refused("full", f"A chat can have at most {MAX_SCHEDULED} scheduled questions.")
    state["questions"][id] = {name: value for name, value in more.items() if value is not None}


@later_slice.action
def taken(state: Any, *, id: str) -> Any:
    """The question is asked now, or was cancelled."""
    if id not in state["questions"]:
        raise Refused(GONE, "This question was already asked or removed.")
    return _without(state, id)


@later_slice.on(dequeued)
def _dequeued(state: Any, *, question: str) -> Any:
    return _without(state, question)


@later_slice.on(deleted)
def _deleted(state: Any) -> Any:
    return REMOVED


def _without(state: Any, id: str) -> Any:
    state["questions"].pop(id, None)
    return None if state["questions"] else REMOVED


class Later(Struct, frozen=True, kw_only=True):
    """A question that is to be asked later, as it is kept. `at` is None for a queued one."""

    question: QuestionPayload
    asker: Identity | None
    agent: str | None
    brought: Provisions
    at: int | None


def due(view: StoreView, key: str, now: int) -> Later | None:
    """The question of a chat that is to be asked next, if it may be asked now. Raises NotLoaded."""
    chat = view.get(name_of(key))
    waiting = [] if chat is None else queued(chat.value)
    if waiting:
        payload = {name: value for name, value in waiting[0].items() if name != "created_at"}
        return _later(payload, _questions(view, key).get(waiting[0]["id"], {}))
    return next((each for each in scheduled(view, key) if each.at is not None and each.at <= now), None)


def scheduled(view: StoreView, key: str) -> list[Later]:
    """The scheduled questions of a chat, the next one first. Raises NotLoaded."""
    found = [each for each in _questions(view, key).values() if "at" in each]
    found.sort(key=lambda each: (each["at"], each["question"]["id"]))
    return [_later(each["question"], each) for each in found]


def earliest(value: Mapping[str, Any]) -> int:
    """The Unix time in ms from which on a question of this value may be asked. Queued ones may be asked any time."""
    times: list[int] = [each.get("at", 0) for each in value["questions"].values()]
    return min(times)


def _questions(view: StoreView, key: str) -> Mapping[str, Any]:
    state = view.get(f"{NAME}/{key}")
    found: Mapping[str, Any] = {} if state is None else state.value["questions"]
    return found


def _later(question: Any, hidden: Mapping[str, Any]) -> Later:
    return Later(
        question=question,
        asker=waits.identity_of(hidden.get("asker")),
        agent=hidden.get("agent"),
        brought=Provisions.of(hidden.get("brought", {})),
        at=hidden.get("at"),
    )
