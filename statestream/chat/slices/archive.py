"""The slice `chat_archive`: the messages that a chat no longer holds live, in pages.

    chat_archive/<chat>:<page>  {"messages": [up to PAGE of them], "numbers": [their places in the order of creation]}

Pages are counted from 0, in the order in which they were written. Messages that are not shown leave the chat first, so
a page can have messages that are newer than live ones; the numbers give their places. One request adds pages to the
archive and removes their messages from the chat, or does neither. If a shown branch continues above the live messages,
its messages are restored; the archive keeps them as well.

Invariants: a page is written once and never changes; it is removed with its chat. The newest `keep` messages of the
shown branch are live, or as many of them as MAX_LIVE allows: a chat that does not fit into one snapshot could no longer
be opened. Only the functions below read the archive; no stream needs it.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, takewhile
from typing import Any, Final

from statestream.chat.messages import Message, State, path
from statestream.chat.slices import conversation
from statestream.core.change import REMOVED, Action, SliceState
from statestream.core.errors import NotFound
from statestream.core.slices import Slice
from statestream.core.values import encode
from statestream.store.view import StoreView

NAME: Final = "chat_archive"
PAGE: Final = 50
MAX_LIVE: Final = 4 << 20
"""Bytes of the live messages, and of a page. The newest exchange is always live."""
EXCHANGE: Final = 2
KEY_ROOM: Final = 16
"""The characters of an instance's key that the page number takes; the key of a chat must leave room for them."""

archive_slice = Slice(NAME, initial={"messages": [], "numbers": []}, keyed=True, internal=True)

Dispatch = tuple[Sequence[Action], Mapping[str, int]]
"""Actions, and the versions that they are based on."""


@archive_slice.action
def archived(state: Any, *, messages: list[dict[str, Any]], numbers: list[int]) -> None:
    """These messages were archived. Their numbers count the chat's messages in the order of creation, from 0."""
    if not state["messages"]:
        state["messages"], state["numbers"] = messages, numbers


@archive_slice.action
def erased(state: Any) -> Any:
    """The chat of this page was deleted."""
    return REMOVED


class _Past:
    """The archive of one chat: its messages by their numbers, and their numbers by their ids."""

    def __init__(self, view: StoreView, key: str) -> None:
        self.messages: dict[int, Message] = {}
        self.pages = 0
        for page in _pages(view, key):
            self.pages += 1
            self.messages.update(zip(page["numbers"], page["messages"], strict=True))
        self.numbers: dict[str, int] = {message["id"]: number for number, message in self.messages.items()}

    def numbered(self, live: Sequence[Message]) -> list[int]:
        """The numbers of the live messages, which are in the order of creation."""
        free = (number for number in count() if number not in self.messages)
        known = (self.numbers.get(message["id"]) for message in live)
        return [next(free) if number is None else number for number in known]

    def everything(self, live: Sequence[Message]) -> dict[int, Message]:
        """All messages of the chat, live or archived, by their numbers."""
        return self.messages | dict(zip(self.numbered(live), live, strict=True))

    def above(self, message: Message, live: Iterable[Message], most: int) -> list[Message]:
        """Up to `most` messages above that one, oldest first, live or archived, up to the first that is neither."""
        known = {each["id"]: each for each in (*self.messages.values(), *live)}
        found: list[Message] = []
        parent = known.get(message.get("parent", ""))
        while parent is not None and len(found) < most:
            found.append(parent)
            parent = known.get(parent.get("parent", ""))
        return found[::-1]


def archiving(view: StoreView, key: str, keep: int) -> Dispatch:
    """The actions that archive what the chat holds beyond `keep` messages, in whole pages, and beyond MAX_LIVE bytes.

    There are none if that is less than a page, and the chat is small enough.
    """
    chat = view.get(conversation.name_of(key))
    if chat is None or (len(chat.value["messages"]) < keep + PAGE and not _too_large(chat)):
        return (), {}
    past, live = _Past(view, key), chat.value["messages"]
    leaving = _leaving(chat.value, keep)
    if not leaving:
        return (), {}
    new = [
        (message, number)
        for message, number in zip(live, past.numbered(live), strict=True)
        if message["id"] in leaving and message["id"] not in past.numbers
    ]
    actions = [
        archived(
            _page_key(key, past.pages + page),
            messages=[dict(message) for message, _ in content],
            numbers=[number for _, number in content],
        )
        for page, content in enumerate(_pages_of(new))
    ]
    trimmed = conversation.trimmed(key, ids=[message["id"] for message in live if message["id"] in leaving])
    return [*actions, trimmed], {conversation.name_of(key): chat.version}


def _too_large(chat: SliceState) -> bool:
    return chat.at_most > MAX_LIVE and len(chat.encoded()) > MAX_LIVE  # in this order: a chat is rarely encoded for it


def _leaving(state: State, keep: int) -> set[str]:
    """The ids of the messages to archive: the oldest that are not shown, then the oldest of the branch that is."""
    shown = {message["id"]: None for message in path(state)}
    hidden = [message["id"] for message in state["messages"] if message["id"] not in shown]
    surplus = max(0, (len(state["messages"]) - keep) // PAGE * PAGE)
    by_count = [*hidden, *list(shown)[: -max(keep, 1)]][:surplus]
    sizes = {message["id"]: len(encode(message)) for message in state["messages"]}
    too_much = sum(sizes.values()) - MAX_LIVE
    by_size: list[str] = []
    for id in [*hidden, *list(shown)[:-EXCHANGE]]:
        if too_much <= 0:
            break
        by_size.append(id)
        too_much -= sizes[id]
    return {*by_count, *by_size}


def _pages_of(messages: Iterable[tuple[Message, int]]) -> Iterator[list[tuple[Message, int]]]:
    """Messages and their numbers, as pages."""
    page: list[tuple[Message, int]] = []
    size = 0
    for message, number in messages:
        size += len(encode(message))
        if page and (len(page) == PAGE or size > MAX_LIVE):
            yield page
            page, size = [], len(encode(message))
        page.append((message, number))
    if page:
        yield page


def restoring(view: StoreView, key: str, message_id: str, keep: int) -> Dispatch:
    """The actions that bring back what is above that live message, so that it is shown as the last of `keep`.

    There are none if `keep` are live, or if there are no more. What is above may be live already, for another branch.
    """
    chat = view.get(conversation.name_of(key))
    shown = [] if chat is None else path({**chat.value, "leaf": message_id})
    if chat is None or not shown or len(shown) >= keep or "parent" not in shown[0]:
        return (), {}
    past, live = _Past(view, key), chat.value["messages"]
    held = {message["id"] for message in live}
    above = [message for message in past.above(shown[0], live, keep - len(shown)) if message["id"] not in held]
    back = _newest(above, MAX_LIVE - len(chat.encoded()))
    if not back:
        return (), {}
    numbers = past.numbered(live)
    places = [bisect(numbers, past.numbers[message["id"]]) + ahead for ahead, message in enumerate(back)]
    actions = [conversation.restored(key, messages=[dict(message) for message in back], places=places)]
    return actions, {conversation.name_of(key): chat.version}


def _newest(messages: Sequence[Message], size: int) -> list[Message]:
    """The newest of these messages that together have at most that many bytes."""
    kept: list[Message] = []
    for message in reversed(messages):
        size -= len(encode(message))
        if size < 0:
            break
        kept.append(message)
    return kept[::-1]


def newest_below(view: StoreView, key: str, message_id: str) -> str:
    """The newest live message at or below that one, whether or not what is between them is archived; else its own id.

    Messages that are not shown leave the chat one by one, so a live message may be below an archived one.
    """
    chat = view.get(conversation.name_of(key))
    live = [] if chat is None else chat.value["messages"]
    held, everything = {message["id"] for message in live}, _Past(view, key).everything(live)
    newest, below = message_id, {message_id}
    for number in sorted(everything):
        message = everything[number]
        if message.get("parent") in below:
            below.add(message["id"])
            newest = message["id"] if message["id"] in held else newest
    return newest


def shown_path(view: StoreView, key: str, least: int) -> list[Message]:
    """The shown messages, oldest first: at least `least` of them, live or archived, if there are that many."""
    chat = view.get(conversation.name_of(key))
    shown = [] if chat is None else path(chat.value)
    if chat is None or not shown or len(shown) >= least or "parent" not in shown[0]:
        return shown
    return _Past(view, key).above(shown[0], chat.value["messages"], least - len(shown)) + shown


def older(view: StoreView, key: str, *, before: str, limit: int) -> list[Any]:
    """Up to `limit` messages that were created before that one, oldest first, live or archived. Raises NotFound."""
    past, chat = _Past(view, key), view.get(conversation.name_of(key))
    live = [] if chat is None else chat.value["messages"]
    everything = past.everything(live)
    at = next((number for number, message in everything.items() if message["id"] == before), None)
    if at is None:
        raise NotFound("`before` is not the id of a message of this chat")
    return [everything[number] for number in range(max(0, at - limit), at)]


def is_archived(view: StoreView, key: str, message_id: str) -> bool:
    """Whether the archive has a message with that id."""
    return any(message["id"] == message_id for page in _pages(view, key) for message in page["messages"])


def _pages(view: StoreView, key: str) -> list[Any]:
    """Raises NotLoaded for all pages at once that are away."""
    return [page.value for page in view.states(f"{NAME}/{page_key}" for page_key in _page_keys(view, key)).values()]


def _page_keys(view: StoreView, key: str) -> Iterator[str]:
    """The keys of the pages that exist."""
    keys = (_page_key(key, page) for page in count())
    return takewhile(lambda page_key: view.version(f"{NAME}/{page_key}") > 0, keys)


def erasing(view: StoreView, key: str) -> list[Action]:
    """The actions that remove all pages of a chat."""
    return [erased(page_key) for page_key in _page_keys(view, key)]


def count_pages(view: StoreView, key: str) -> int:
    return sum(1 for _ in _page_keys(view, key))


def _page_key(key: str, page: int) -> str:
    return f"{key}:{page}"
