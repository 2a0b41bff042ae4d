"""The live messages of a chat and the turns for the model, after any history of questions, replies, edits and branches.

The tests keep a tree of their own, which knows nothing of archives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statestream import Refused, Store
from statestream.chat import Chat, Conversations, Question
from statestream.chat.models import Finish, Piece, ToolSpec, Turn
from statestream.chat.protocols.ai_sdk.messages import ui_messages
from statestream.chat.slices import archive
from statestream.core.values import encode
from tests.support.census import reply_tasks
from tests.support.clock import timeless
from tests.support.often import often

KEY, PAGE, WINDOW = "c", 5, 6
NEWEST = 600
"""Bytes of an exchange, and of what a chat is beside its messages."""


class Echo:
    """A model that repeats the question, and keeps what it was sent last."""

    name = "echo"

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        self.sent = [turn.text for turn in turns]
        yield f"To {turns[-1].text}"
        yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


class Tree:
    """The chat as it must be: each message with its parent and its text, in the order of creation."""

    def __init__(self) -> None:
        self.parents: dict[str, str | None] = {}
        self.texts: dict[str, str] = {}
        self.leaf: str | None = None

    def add(self, message: str, parent: str | None, text: str) -> None:
        self.parents[message], self.texts[message], self.leaf = parent, text, message

    def path(self, leaf: str | None) -> list[str]:
        found = []
        while leaf is not None:
            found.append(leaf)
            leaf = self.parents[leaf]
        return found[::-1]

    def newest_below(self, top: str, among: set[str]) -> str:
        return next(each for each in reversed(self.parents) if each in among and top in self.path(each))


class History:
    """A chat, what is done to it, and what is checked after each step."""

    def __init__(self, chats: Conversations, store: Store, model: Echo, keep: int) -> None:
        self.chats, self.store, self.model, self.keep = chats, store, model, keep
        self.tree = Tree()
        self.questions: list[str] = []

    @property
    def live(self) -> list[str]:
        state = self.store.get(f"chat/{KEY}")
        return [] if state is None else [message["id"] for message in state["messages"]]

    async def do(self, what: str, number: int) -> None:
        asked = self.questions[number % len(self.questions)] if self.questions else None
        messages = list(self.tree.parents)
        if what == "ask" or asked is None:
            await self.ask(parent=self.tree.leaf)
        elif what == "edit":
            await self.ask(parent=self.tree.parents[asked], edits=asked)
        elif what == "regenerate":
            live = asked in self.live
            reply = await self.tried(self.chats.regenerate(KEY, asked), may=live)
            if reply is not None:
                await self.answered(reply, asked)
        else:
            chosen = messages[number % len(messages)]
            if await self.branch(chosen, may_fail=chosen not in self.live):
                self.tree.leaf = self.tree.newest_below(chosen, set(self.live))
        await self.check()

    async def branch(self, message: str, *, may_fail: bool) -> bool:
        """An archived message can be shown if what is below it is live, and it is restored."""
        try:
            await self.chats.branch(KEY, message)
        except Refused as refused:
            if may_fail and "no longer in this chat" in str(refused):
                return False
            raise
        return True

    async def tried(self, work: Any, *, may: bool) -> Any:
        """Only archived messages are refused."""
        if may:
            return await work
        with pytest.raises(Refused, match="no longer in this chat"):
            await work
        return None

    async def ask(self, parent: str | None, edits: str | None = None) -> None:
        id = f"q{len(self.questions)}"
        question = Question(parts=[{"type": "text", "text": id}], id=id, edits=edits)
        live = edits is None or edits in self.live
        reply = await self.tried(self.chats.ask(KEY, question, create=True), may=live)
        if reply is not None:
            self.questions.append(id)
            self.tree.add(id, parent, id)
            await self.answered(reply, id)

    async def answered(self, reply: str, question: str) -> None:
        self.tree.add(reply, question, f"To {self.tree.texts[question]}")
        while reply_tasks(self.chats):
            await asyncio.sleep(0.01)
        given = [self.tree.texts[each] for each in self.tree.path(question)]
        assert self.model.sent == given[len(given) - len(self.model.sent) :], "the model was sent something else"
        assert len(self.model.sent) >= min(WINDOW - 1, len(given)), "the model was sent too little"

    async def check(self) -> None:
        state, true = self.store.get(f"chat/{KEY}"), self.tree.path(self.tree.leaf)
        shown = [message["id"] for message in ui_messages(state)]
        assert state["leaf"] == self.tree.leaf
        assert shown == true[len(true) - len(shown) :]
        assert len(shown) >= self.least(true), "an ancestor of the leaf has left the chat"
        assert len(self.live) <= 2 or self.bytes <= archive.MAX_LIVE + NEWEST, "the chat is too large to be opened"
        assert len(self.live) < max(self.keep, 1) + PAGE
        assert self.live == [each for each in self.tree.parents if each in set(self.live)], "not in order of creation"

    @property
    def bytes(self) -> int:
        return len(encode(self.store.get(f"chat/{KEY}")))

    def least(self, path: Sequence[str]) -> int:
        """The number of messages of the branch that must be live: `keep`, or fewer if the chat would be too large."""
        small = self.bytes < archive.MAX_LIVE - NEWEST
        return min(max(self.keep, 1) if archive.MAX_LIVE > 1 << 20 or small else 1, len(path))

    async def check_past(self) -> None:
        """Everything that was ever said, page by page."""
        created = list(self.tree.parents)
        for limit in (1, 3, 100):
            found = [created[-1]]
            while page := await self.chats.older(KEY, before=found[0], limit=limit):
                assert len(page) <= limit
                found = [message["id"] for message in page] + found
                assert len(found) <= len(created)
            assert found == created


async def live_through(steps: Sequence[tuple[str, int]], keep: int) -> History:
    model = Echo()
    chat = Chat(model=model, keep=keep, window=WINDOW, titles=False)
    async with Store(chat.slices) as store, chat.conversations(store) as chats:
        history = History(chats, store, model, keep)
        for what, number in steps:
            await history.do(what, number)
        if steps:
            await history.check_past()
        return history


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PAGE", PAGE)


STEPS = st.tuples(st.sampled_from(["ask", "ask", "regenerate", "edit", "branch"]), st.integers(0, 60))
EXCHANGES = [("ask", 0)] * 3
AGAIN = [("regenerate", 32), ("regenerate", 1)]
A_GAP = [
    *[("ask", 0), ("regenerate", 3), *[("ask", 0)] * 3, ("branch", 12), ("branch", 27), ("regenerate", 37), ("ask", 0)],
    *[("edit", 30), *[("ask", 0)] * 3, ("regenerate", 45), ("ask", 0), ("edit", 52), ("branch", 23)],
    *[("regenerate", 58), ("regenerate", 29), ("branch", 22), ("branch", 14)],
]
"""At its end, what is between a chosen message and the newest one below it is archived."""


@settings(max_examples=often(12), deadline=None)
@given(steps=st.lists(STEPS, max_size=30), size=st.integers(500, 3_000))
@example(steps=[*[("ask", 0)] * 5, ("regenerate", 0), ("ask", 0), ("ask", 0)], size=2_550)
@example(steps=A_GAP, size=2_487)
def test_a_chat_stays_small_enough_to_be_opened(steps: list[tuple[str, int]], size: int) -> None:
    with mock.patch.object(archive, "MAX_LIVE", size):
        timeless(live_through(steps, keep=30))


@settings(max_examples=often(12), deadline=None)
@given(steps=st.lists(STEPS, max_size=40), keep=st.integers(1, 9))
@example(steps=[*EXCHANGES, *[("regenerate", 2)] * 60], keep=3)
@example(steps=[("ask", 0)] * 12 + [("edit", 9), ("edit", 9), ("branch", 20), ("ask", 0)], keep=4)
@example(steps=[("ask", 0)] * 8 + [("edit", 6)] + [("ask", 0)] * 8 + [("branch", 14), ("branch", 12)], keep=6)
@example(steps=[*EXCHANGES, ("edit", 0), ("branch", 0), ("ask", 0), *AGAIN, ("branch", 34)], keep=4)
@example(steps=[("ask", 0)] * 4 + [("edit", 0), ("branch", 34)], keep=4)
def test_what_is_shown_stays_and_the_model_is_sent_it(steps: list[tuple[str, int]], keep: int) -> None:
    timeless(live_through(steps, keep))


def test_an_answer_that_is_made_again_and_again_takes_nothing_from_the_conversation() -> None:
    async def again() -> None:
        history = await live_through([*EXCHANGES, *[("regenerate", 2)] * 100, ("ask", 0)], keep=10)
        path = history.tree.path(history.tree.leaf)
        assert history.model.sent[-4:] == ["To q1", "q2", "To q2", "q3"]
        assert len(path) == 8
        assert set(path) <= set(history.live)

    timeless(again())


def test_a_branch_that_has_left_in_part_is_shown_again_with_what_was_above_it() -> None:
    async def back() -> None:
        first = [("ask", 0)] * 6
        history = await live_through([*first, ("edit", 0), *[("ask", 0)] * 4], keep=10)
        assert "q4" not in history.live
        assert "q5" in history.live
        messages = list(history.tree.parents)
        again = await live_through([*first, ("edit", 0), *[("ask", 0)] * 4, ("branch", messages.index("q5"))], keep=10)
        path = again.tree.path(again.tree.leaf)
        assert path[-2] == "q5"
        assert path[-10:] == [each for each in again.live if each in path]

    timeless(back())
