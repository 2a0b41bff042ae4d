"""A reply in the making, in process: no piece is lost or doubled, whatever the journal does, and it always ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream import Store, Unavailable
from statestream.chat import Chat, Conversations, Question, Timeouts
from statestream.chat.messages import text_of
from statestream.chat.models import CallPiece, Finish, Opaque, Piece, Reasoning, ToolSpec, Turn, Usage
from tests.support import eventually
from tests.support.census import reply_tasks
from tests.support.meddled import Meddled
from tests.support.often import often


class Script:
    """A model that says the given pieces; None lets the event loop turn, an exception is raised."""

    name = "script"

    def __init__(self, pieces: Iterable[Any]) -> None:
        self.pieces = pieces

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        for piece in self.pieces:
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                await asyncio.sleep(0)
            else:
                yield piece

    async def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.reply_run.GATHER_SECONDS", 0.0)
    monkeypatch.setattr("statestream.chat.replies.reply_run.RETRY_SECONDS", 0.001)


def reply_of(store: Store, key: str) -> Any:
    return store.get(f"chat/{key}")["messages"][-1]


async def replied(store: Store, key: str) -> Any:
    await eventually(lambda: reply_of(store, key)["status"] != "streaming", every=0.001)
    return reply_of(store, key)


opaque = st.builds(lambda number: Opaque(data=f"data {number}"), st.integers(0, 9))
pieces = st.lists(st.one_of(st.none(), st.text(alphabet="ab é", min_size=1, max_size=3), opaque), max_size=30)
troubles = st.lists(st.sampled_from(["", "", "before", "after"]), max_size=20)


@settings(max_examples=often(50))
@given(said=pieces, trouble=troubles)
def test_every_piece_is_kept_once_whatever_the_journal_does(said: Any, trouble: list[str]) -> None:
    asyncio.run(say(said, trouble))


@asynccontextmanager
async def answering(said: Any, trouble: list[str]) -> AsyncIterator[tuple[Conversations, Store, str]]:
    """A chat whose model says these pieces, on a journal that gives trouble once it has been asked."""
    journal = Meddled()
    battery = Chat(titles=False, model=Script([*said, Finish(reason="stop")]))
    async with Store(battery.slices, journal=journal) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        journal.fail = list(trouble)
        yield chats, store, key


async def say(said: Any, trouble: list[str]) -> None:
    async with answering(said, trouble) as (chats, store, key):
        reply = await replied(store, key)
        await chats.stop_all()
        kept = store.get(f"provider/{key}") or {"replies": {}}
    entries = kept["replies"].get(reply["id"], {"entries": []})["entries"]
    assert [entry["data"] for entry in entries] == [piece.data for piece in said if isinstance(piece, Opaque)]
    whole = "".join(piece for piece in said if isinstance(piece, str))
    assert text_of(reply) == whole
    if whole:
        assert (reply["status"], reply["finish_reason"]) == ("complete", "stop")
        assert all("chunks" not in part for part in reply["parts"])
    else:
        assert reply["error"]["kind"] == "empty"


@settings(max_examples=often(30))
@given(said=pieces, turns=st.integers(0, 40), trouble=troubles)
def test_a_stop_at_any_moment_keeps_what_was_read(said: Any, turns: int, trouble: list[str]) -> None:
    asyncio.run(stop_after(said, turns, trouble))


async def stop_after(said: Any, turns: int, trouble: list[str]) -> None:
    async with answering(said, trouble) as (chats, store, key):
        for _ in range(turns):
            await asyncio.sleep(0)
        await chats.stop_all()
        reply = reply_of(store, key)
    whole = "".join(piece for piece in said if isinstance(piece, str))
    assert whole.startswith(text_of(reply))
    if reply["status"] == "complete":
        assert text_of(reply) == whole
    else:
        assert reply["error"]["kind"] in ("interrupted", *(() if whole else ("empty",)))


async def test_a_question_of_unknown_outcome_blocks_nobody() -> None:
    for how in ("before", "after"):
        journal = Meddled()
        battery = Chat(titles=False, model=Script(["hi", Finish(reason="stop")]))
        async with Store(battery.slices, journal=journal) as store, battery.conversations(store) as chats:
            key = await chats.create()
            journal.fail = [how]
            with pytest.raises(Unavailable):
                await chats.ask(key, Question.text("one"))
            await eventually(lambda chats=chats: not reply_tasks(chats))
            await chats.ask(key, Question.text("two"))
            assert text_of(await replied(store, key)) == "hi"


async def test_a_long_outage_ends_the_reply_and_keeps_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.reply_run.PATIENCE_SECONDS", 0.02)
    journal = Meddled()
    endless = ["word ", *[None] * 200_000, "more", Finish(reason="stop")]
    battery = Chat(titles=False, model=Script(endless))
    async with Store(battery.slices, journal=journal) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        journal.fail = ["before"] * 60
        reply = await replied(store, key)
        assert text_of(reply) == "word "
        assert reply["error"]["kind"] == "interrupted"


@pytest.mark.parametrize("bad", [ValueError("a model's own"), asyncio.CancelledError()])
async def test_a_model_that_raises_ends_the_reply(bad: BaseException) -> None:
    battery = Chat(titles=False, model=Script(["some", None, bad]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        reply = await replied(store, key)
        assert (text_of(reply), reply["status"]) == ("some", "error")


def endless(piece: Any, pause: bool) -> Iterator[Any]:
    while True:
        yield piece
        if pause:
            yield None


ENDLESS: dict[str, Any] = {
    "words": "word ",
    "nothing": "",
    "thoughts": Reasoning(text="hm"),
    "usage": Usage(input=1, output=1),
    "reasons": Finish(reason="stop"),
    "arguments": CallPiece(index=0, id="c", name="weather", arguments='{"a'),
    "opaque data": Opaque(data="abc"),
}


@pytest.mark.parametrize("what", ENDLESS)
@pytest.mark.parametrize("pause", [True, False], ids=["it waits", "it never waits"])
async def test_a_model_without_an_end_is_given_up_and_can_be_stopped(what: str, pause: bool) -> None:
    for stop in (True, False):
        timeouts = Timeouts(total=60 if stop else 0.2)
        battery = Chat(titles=False, model=Script(endless(ENDLESS[what], pause)), timeouts=timeouts)
        async with Store(battery.slices) as store, battery.conversations(store) as chats:
            key = await chats.create()
            await chats.ask(key, Question.text("?"))
            if stop:
                assert await chats.stop(key)
            reply = await replied(store, key)
            assert (reply["status"], reply.get("error", {}).get("kind")) in (
                [("stopped", None)] if stop else [("error", "timeout"), ("error", "too_long")]
            )
        assert len(asyncio.all_tasks()) == 1


async def test_a_title_without_an_end_is_none_and_holds_nobody_up() -> None:
    words = 0

    class Talking(Script):
        async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
            nonlocal words
            while turns[0].role == "system" and words < 100_000:
                words += 1
                yield "word "
            yield "Hello."
            yield Finish(reason="stop")

    battery = Chat(model=Talking([]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        await replied(store, key)
        await eventually(lambda: not reply_tasks(chats))
        assert "title" not in store.get(f"chat/{key}")
        assert 0 < words < 2_000


@pytest.mark.parametrize("what", ["words", "arguments", "parts"])
async def test_a_reply_has_a_limit_and_keeps_what_came_before(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.growth.MAX_SIZE", 5_000)
    said: dict[str, Any] = {
        "words": ["word "] * 2_000,
        "arguments": [CallPiece(index=0, id="c", name="weather"), *[CallPiece(index=0, arguments="12345")] * 2_000],
        "parts": ["w", Reasoning(text="r")] * 100,
    }
    battery = Chat(titles=False, model=Script([*said[what], Finish(reason="stop")]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        reply = await replied(store, key)
        assert reply["error"] == {"kind": "too_long", "message": "The reply is too long."}
        size = sum(len(part.get("text", "") + part.get("arguments", "")) for part in reply["parts"])
        assert (4_800 <= size <= 5_000) if what != "parts" else (45 <= len(reply["parts"]) <= 50)


@pytest.mark.parametrize(
    "bad",
    [
        Usage(input=10**30, output=1),
        Usage(input=1, output="many"),  # type: ignore[arg-type]
        Usage(input=-1, output=float("nan")),  # type: ignore[arg-type]
        CallPiece(index=0),
        7,
        None.__class__,
    ],
)
async def test_what_a_model_should_not_give_ends_the_reply_and_keeps_its_text(bad: Any) -> None:
    battery = Chat(titles=False, model=Script(["some", bad, Finish(reason="stop")]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        reply = await replied(store, key)
        assert (text_of(reply), reply["status"], reply["error"]["kind"]) == ("some", "error", "failed")


async def test_a_model_that_swallows_a_cancellation_is_not_asked_again() -> None:
    closed = asyncio.Event()

    class Deaf(Script):
        async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
            try:
                while True:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        yield "still here"
                    else:
                        yield "word"
            finally:
                closed.set()

    battery = Chat(titles=False, model=Deaf([]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        await asyncio.sleep(0)
        assert await chats.stop(key)
        assert (await replied(store, key))["status"] == "stopped"
        assert closed.is_set()


async def test_an_answer_is_closed_wherever_its_reader_stops() -> None:
    closed: list[str] = []

    class Closing(Script):
        async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
            try:
                async for piece in super().answer(turns, tools, settings):
                    yield piece
            finally:
                await asyncio.sleep(0)
                closed.append("yes")

    battery = Chat(titles=False, model=Closing(["some", CallPiece(index=0), "more"]))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        assert (await replied(store, key))["error"]["message"] == "A tool was called without a name."
        assert closed == ["yes"]


@settings(max_examples=often(30))
@given(turns=st.integers(0, 60), trouble=troubles, seconds=st.sampled_from([0.0, 60.0]))
def test_a_stop_at_any_moment_of_tools_leaves_none_running(turns: int, trouble: list[str], seconds: float) -> None:
    asyncio.run(stop_in_tools(turns, trouble, seconds))


async def stop_in_tools(turns: int, trouble: list[str], seconds: float) -> None:
    """The model calls two tools in each answer, one that waits and one in a thread, then is stopped."""
    running = 0
    said = [CallPiece(index=at, id=f"c{at}", name=name) for at, name in enumerate(("waits", "blocks"))]
    journal = Meddled()
    battery = Chat(
        titles=False, model=Script([None, *said, None, Finish(reason="tool_calls")]), timeouts=Timeouts(tool=60)
    )

    @battery.tool
    async def waits() -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            running -= 1

    @battery.tool
    def blocks() -> str:
        return "done"

    async with Store(battery.slices, journal=journal) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        journal.fail = list(trouble)
        for _ in range(turns):
            await asyncio.sleep(0)
        await chats.stop_all()
        reply = reply_of(store, key)
        assert reply["status"] == "error"
        assert reply["error"]["kind"] in ("interrupted", "too_many_steps")
        assert {part["status"] for part in reply["parts"]} <= {"complete", "error"}
        assert not running
    assert len(asyncio.all_tasks()) == 1


async def test_the_last_twenty_that_say_something_go_to_the_model() -> None:
    seen: list[Any] = []

    class Curious(Script):
        async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
            seen.append(turns)
            if len(seen) % 3:
                yield f"answer {len(seen)}"
            yield Finish(reason="stop")

    battery = Chat(titles=False, model=Curious([]), timeouts=Timeouts(first=5, idle=5, total=5))
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        for n in range(15):
            await chats.ask(key, Question.text(f"question {n}"))
            await replied(store, key)
    said = [text for turn in seen[-1] for text in turn.text.split("\n\n")]
    assert said[:2] == ["question 3", "answer 4"]
    assert said[-4:] == ["answer 13", "question 13", "answer 14", "question 14"]
    assert len(said) == 20
    assert [turn.role for turn in seen[-1]] == ["user", "assistant"] * 8 + ["user"]


async def test_a_call_is_in_the_chat_as_running_before_its_tool_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise, a call that has run could look as if it had not, if the process ended at that moment."""
    monkeypatch.setattr("statestream.chat.replies.reply_run.GATHER_SECONDS", 0.5)

    class Looking(Script):
        async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
            if turns[-1].role == "user":
                yield "Let me see. "
                await eventually(lambda: reply_of(store, key)["parts"], every=0.001)  # what follows is gathered
                yield CallPiece(id="1", name="look", arguments="{}")
            else:
                yield turns[-1].text
            yield Finish(reason="tool_calls" if turns[-1].role == "user" else "stop")

    chat = Chat(model=Looking(()), titles=False)

    @chat.tool
    async def look() -> Any:
        return reply_of(store, key)["parts"]

    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()
        await conversations.ask(key, Question.text("?"))
        seen = (await replied(store, key))["parts"][1]["result"]
        assert [(part["type"], part.get("status")) for part in seen] == [("text", None), ("tool", "running")]
