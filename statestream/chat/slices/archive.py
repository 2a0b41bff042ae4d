"""The slice `chat_archive`: the messages that a chat no longer holds live, in pages.

    chat_archive/<chat>:<page>  {"messages": [PAGE of them, in the order of creation]}

Pages are counted from 0, oldest first. One request adds a page to the archive and takes its messages out of the chat,
or does neither.

Invariants: a page is written once and never changes. Only the functions below read it; no stream needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, takewhile
from typing import Any, Final

from statestream.chat.slices import conversation
from statestream.core.change import Action
from statestream.core.errors import NotFound
from statestream.core.slices import Slice
from statestream.store.view import StoreView

NAME: Final = "chat_archive"
PAGE: Final = 50
KEY_ROOM: Final = 16
"""The characters of an instance's key that the page number takes; the key of a chat must leave room for them."""

archive_slice = Slice(NAME, initial={"messages": []}, keyed=True, internal=True)


@archive_slice.action
def archived(state: Any, *, messages: list[dict[str, Any]]) -> None:
    """These messages have left the chat."""
    if not state["messages"]:
        state["messages"] = messages


def archiving(view: StoreView, key: str, keep: int) -> tuple[Sequence[Action], Mapping[str, int]]:
    """The actions that archive the chat's oldest page, and the versions that they are based on.

    There are none unless the chat holds a page more than `keep` messages.
    """
    name = conversation.name_of(key)
    chat = view.get(name)
    if chat is None or len(chat.value["messages"]) < keep + PAGE:
        return (), {}
    page = chat.value["messages"][:PAGE]
    if any(message["id"] == chat.value["leaf"] for message in page):
        return (), {}  # the chat shows a branch that ends in this page: it stays until another reply makes a new leaf
    actions = (
        archived(_page_key(key, len(_pages(view, key))), messages=page),
        conversation.trimmed(key, up_to=page[-1]["id"]),
    )
    return actions, {name: chat.version}


def older(view: StoreView, key: str, *, before: str, limit: int) -> list[Any]:
    """Up to `limit` messages that were created before that one, oldest first, live or archived. Raises NotFound."""
    found: list[Any] = []
    seen = False
    chat = view.get(conversation.name_of(key))
    for messages in ([] if chat is None else chat.value["messages"], *_pages(view, key)[::-1]):
        for message in reversed(messages):
            if seen:
                found.append(message)
                if len(found) == limit:
                    return found[::-1]
            seen = seen or message["id"] == before
    if not seen:
        raise NotFound("`before` is not the id of a message of this chat")
    return found[::-1]


def is_archived(view: StoreView, key: str, message_id: str) -> bool:
    """Whether the archive has a message with that id."""
    return any(message["id"] == message_id for messages in _pages(view, key) for message in messages)


def _pages(view: StoreView, key: str) -> list[list[Any]]:
    pages = (view.get(f"{NAME}/{_page_key(key, page)}") for page in count())
    return [page.value["messages"] for page in takewhile(lambda page: page is not None, pages) if page is not None]


def _page_key(key: str, page: int) -> str:
    return f"{key}:{page}"
