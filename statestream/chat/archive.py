"""The slice `chat_archive`: the messages that a chat does not hold live any more, in pages that never change.

    chat_archive/<chat>:<page>  {"messages": [PAGE of them, in the order of creation]}

Pages are counted from 0, oldest first. One request puts a page here and takes it out of the chat, or does neither.

Invariants: a page is written once and read by `older` only; no stream needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any, Final

from statestream.chat import conversation as chat
from statestream.core.change import Action
from statestream.core.errors import NotFound
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_archive"
PAGE: Final = 50
KEY_ROOM: Final = 16
"""Characters of an instance's key that the page takes: a chat's own key must leave them free."""

archive_slice = Slice(NAME, initial={"messages": []}, keyed=True, internal=True)


@archive_slice.action
def archived(state: Any, *, messages: list[dict[str, Any]]) -> None:
    """These messages left the chat."""
    if not state["messages"]:
        state["messages"] = messages


def due(store: StoreView, key: str, keep: int) -> tuple[Sequence[Action], Mapping[str, int]]:
    """What moves a page out of a chat that holds one more than `keep`, and the versions it goes by; or nothing."""
    name = f"{chat.NAME}/{key}"
    held = store.get(name)
    messages = [] if held is None else held.value["messages"]
    if held is None or len(messages) < keep + PAGE:
        return (), {}
    page = messages[:PAGE]
    if any(message["id"] == held.value["leaf"] for message in page):  # what is shown stays: after another reply then
        return (), {}
    actions = (archived(_key(key, len(_pages(store, key))), messages=page), chat.trimmed(key, up_to=page[-1]["id"]))
    return actions, {name: held.version}


def older(store: StoreView, key: str, *, before: str, limit: int) -> list[Any]:
    """Up to `limit` messages that were made before that one, oldest first, wherever they stand. Raises NotFound."""
    found: list[Any] = []
    seen = False
    for messages in (_value(store, f"{chat.NAME}/{key}")["messages"], *_pages(store, key)[::-1]):
        for message in reversed(messages):
            if seen:
                found.append(message)
                if len(found) == limit:
                    return found[::-1]
            seen = seen or message["id"] == before
    if not seen:
        raise NotFound("expected the id of a message of this chat in `before`")
    return found[::-1]


def holds(store: StoreView, key: str, message_id: str) -> bool:
    """Whether a message of that id has left the chat."""
    return any(message["id"] == message_id for messages in _pages(store, key) for message in messages)


def _pages(store: StoreView, key: str) -> list[list[Any]]:
    pages = (_value(store, f"{NAME}/{_key(key, page)}") for page in count())
    return [page["messages"] for page in takewhile(lambda page: page is not None, pages)]


def _key(key: str, page: int) -> str:
    return f"{key}:{page}"


def _value(store: StoreView, name: str) -> Any:
    held = store.get(name)
    return None if held is None else held.value
