"""The slice `chats`: the chats of each person, for sidebars.

    chats/<user>  {"chats": {id: {"created_at", "updated_at", "status": "idle" | "streaming" | "waiting", "title"?}}}

A chat is `waiting` while a reply in it waits.

The list of a chat's owner follows from those actions of the chat that name the owner. Those of its participants are
updated in the same request, by actions that `updating` returns.

Invariants: pure handlers. A list has the newest chats only; one that has dropped out of it stays out. The participants
whom `updating` reads may be outdated when the request takes effect, so callers repeat it with `correcting`.
"""

from __future__ import annotations

from typing import Any, Final

from statestream.chat.members import participants_of
from statestream.chat.message_types import ChatList
from statestream.chat.messages import unfinished
from statestream.chat.slices import approvals, continuations, conversation
from statestream.chat.slices.approvals import RunPayload
from statestream.chat.slices.conversation import Listed, name_of
from statestream.core.change import Action, now_ms
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chats"
IDLE: Final = "idle"
STREAMING: Final = "streaming"
WAITING: Final = "waiting"
MAX_LISTED: Final = 500

chats_slice = Slice(NAME, initial={"chats": {}}, type=ChatList, keyed=True, internal=True)


def _owner(action: Action) -> str | None:
    return action.payload.get("user")


def _person(action: Action) -> str:
    return str(action.payload["person"])


@chats_slice.on(conversation.created, key=_owner)
def _created(state: Any, action: Action) -> None:
    _add(state, action, {"created_at": action.at, "updated_at": action.at, "status": IDLE})


@chats_slice.on(conversation.asked, key=_owner)
@chats_slice.on(conversation.regenerated, key=_owner)
@chats_slice.on(continuations.continued, key=_owner)
def _asked(state: Any, action: Action) -> None:
    _update(state, str(action.key), updated_at=action.at, status=STREAMING)


@chats_slice.on(conversation.ended, key=_owner)
def _ended(state: Any, action: Action) -> None:
    _update(state, str(action.key), updated_at=action.at, status=IDLE)


@chats_slice.on(approvals.paused, key=_owner)
def _paused(state: Any, action: Action) -> None:
    _update(state, str(action.key), updated_at=action.at, status=WAITING)


@chats_slice.on(approvals.decided, key=_owner)
def _decided(state: Any, action: Action, *, run: RunPayload | None = None) -> None:
    if run is not None:
        _update(state, str(action.key), updated_at=action.at, status=STREAMING)


@chats_slice.on(conversation.titled, key=_owner)
def _titled(state: Any, action: Action, *, title: str) -> None:
    _update(state, str(action.key), updated_at=action.at, title=title)


@chats_slice.on(conversation.invited, key=_person)
def _invited(state: Any, action: Action, *, entry: Listed) -> None:
    _add(state, action, entry)


@chats_slice.on(conversation.removed, key=_person)
@chats_slice.on(conversation.deleted, key=_owner)
def _removed(state: Any, action: Action) -> None:
    state["chats"].pop(action.key, None)


@chats_slice.action
def updated(state: Any, action: Action, *, chat: str, status: str | None = None, title: str | None = None) -> None:
    """Something happened in a chat of which the person is a participant."""
    more = conversation.optional(status=status, title=title)
    _update(state, chat, updated_at=action.at, **more)


@chats_slice.action
def unlisted(state: Any, *, chat: str) -> None:
    """A chat of which the person was a participant was deleted."""
    state["chats"].pop(chat, None)


def _add(state: Any, action: Action, entry: Listed) -> None:
    chats = state["chats"]
    if action.key not in chats:
        chats[action.key] = entry
    if len(chats) > MAX_LISTED:
        del chats[min(chats.keys() - {action.key}, key=lambda key: chats[key]["updated_at"])]


def _update(state: Any, chat: str, **fields: Any) -> None:
    """Does not add a chat: one that has dropped out of the list stays out."""
    if chat in state["chats"]:
        state["chats"][chat].update(fields)


def updating(view: StoreView, key: str, *, status: str | None = None, title: str | None = None) -> list[Action]:
    """The actions that update a chat in the lists of its participants."""
    chat = view.get(name_of(key))
    people = () if chat is None else participants_of(chat.value)
    return [updated(person, chat=key, **conversation.optional(status=status, title=title)) for person in people]


def correcting(view: StoreView, key: str) -> list[tuple[Action, dict[str, int]]]:
    """The same for those participants whose lists are wrong, because they were invited at the moment of an update.

    Each action comes with the version that it is based on.
    """
    chat = view.get(name_of(key))
    if chat is None:
        return []
    right = conversation.optional(status=_status_of(chat.value), title=chat.value.get("title"))
    corrections = []
    view.states(f"{NAME}/{person}" for person in participants_of(chat.value))  # raises NotLoaded for all at once
    for person in participants_of(chat.value):
        name = f"{NAME}/{person}"
        known, entry = view.get(name), listed_chats(view, person).get(key)
        if known is not None and entry is not None and not right.items() <= entry.items():
            corrections.append((updated(person, chat=key, **right), {name: known.version}))
    return corrections


def listed_chats(view: StoreView, person: str) -> dict[str, Any]:
    """The chats in the list of a person."""
    state = view.get(f"{NAME}/{person}")
    return {} if state is None else dict(state.value["chats"])


def _status_of(state: Any) -> str:
    reply = unfinished(state)
    return IDLE if reply is None else str(reply["status"])


def entry_of(view: StoreView, key: str) -> Listed:
    """What the list of a person gets who is invited to a chat: what the list of its owner has, if it is there."""
    chat = view.get(name_of(key))
    value = conversation.chat_slice.initial if chat is None else chat.value
    known = listed_chats(view, value.get("user", "")).get(key)
    now = now_ms()
    dates = {"created_at": now, "updated_at": now} if known is None else known
    entry: Listed = {
        "created_at": dates["created_at"],
        "updated_at": dates["updated_at"],
        "status": _status_of(value),
    }
    if "title" in value:
        entry["title"] = value["title"]
    return entry
