"""Changes that the Python client shows before the server has made them: never twice, and never gone in between."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statestream
from statestream import Action, Refused
from statestream.client.overlay import Overlay
from statestream.client.replica import Replica
from statestream.core.change import Result
from statestream.core.errors import Unavailable
from statestream.protocol.sse import Event
from tests.support import BOARD, Server, dispatch, eventually
from tests.support.often import often


def added(board: Any, *, title: str) -> None:
    board["tasks"].append(title)


def joined(room: Any, *, name: str) -> Any:
    return {"members": [*(room["members"] if room else []), name]}


class Model:
    """A server's board, which it may send in single changes or not, and a client that expects changes of it."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.overlay = Overlay(
            self.replica,
            {"board/added": added, "room/joined": joined, "other/joined": joined},
            lambda name: name != "other",
        )
        self.tasks, self.version, self.sent = ["a"], 1, 1
        self.changes: dict[str, int] = {}
        self.apply("state.initial", 1, reason="start", slices={"board": {"tasks": ["a"]}}, versions={"board": 1})

    def apply(self, kind: str, seq: int, **data: Any) -> None:
        full = {"heartbeat": 100, "timestamp": 1, "cause": None, **data}
        event = Event(event=kind, data=orjson.dumps(full).decode(), last_id=f"{seq}.a")
        self.overlay.updated(self.replica.apply(event))

    def add(self, title: str) -> None:
        self.overlay.add(title, [Action(type="board/added", payload={"title": title})])

    def make(self, title: str) -> None:
        """The server makes a change, and sends it."""
        self.commit(title)
        patches = [{"op": "add", "path": "/tasks/-", "value": title}]
        change = {"slice": "board", "from": self.sent, "version": self.version, "patches": patches}
        self.apply("state.update", self.version, **change | {"cause": {"type": "board/added", "id": title}})
        self.sent = self.version

    def commit(self, title: str) -> None:
        self.tasks, self.version = [*self.tasks, title], self.version + 1
        self.changes[title] = self.version

    def catch_up(self) -> None:
        change = {"slice": "board", "from": self.sent, "version": self.version, "value": {"tasks": self.tasks}}
        self.apply("state.catchup", self.version, updates=[change])
        self.sent = self.version

    def answer(self, title: str) -> None:
        changes = (("board", self.changes[title]),)
        self.overlay.answered(title, Result(id=title, position="1.a", duplicate=False, changes=changes))

    @property
    def shown(self) -> str:
        return "".join(self.overlay.state["board"]["tasks"])


def test_what_is_expected_is_on_top_of_what_others_change() -> None:
    model = Model()
    model.add("b")
    model.add("c")
    assert model.shown == "abc"
    model.make("x")
    assert model.shown == "axbc"
    model.make("c")
    assert model.shown == "axcb"
    model.overlay.refused("b")
    assert model.shown == "axc"
    assert model.overlay.state is model.replica.state


def test_an_instance_is_created_and_gone_if_that_is_refused() -> None:
    model = Model()
    model.overlay.add("j", [Action(type="room/joined", payload={"name": "Ada"}, key="1")])
    assert model.overlay.state["room/1"] == {"members": ["Ada"]}
    model.overlay.refused("j")
    assert "room/1" not in model.overlay.state


def test_a_slice_that_the_stream_does_not_follow_does_not_appear() -> None:
    model = Model()
    model.overlay.add("o", [Action(type="other/joined", payload={"name": "Ada"})])
    assert model.overlay.state is model.replica.state


def test_a_function_that_fails_shows_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    model.overlay.add("b", [Action(type="board/added", payload={"text": "b"})])
    assert model.shown == "a"
    assert "expected change of board" in caplog.text


STEPS = st.sampled_from(["make", "commit", "other", "catch up", "answer"])


@settings(max_examples=often(300))
@given(steps=st.lists(st.tuples(STEPS, st.integers(0, 3)), max_size=30))
def test_nothing_is_there_twice_or_gone_in_between_whatever_comes_first(steps: list[tuple[str, int]]) -> None:
    """The server makes changes and answers in any order, single changes are lost in catch-ups, and others write too."""
    model = Model()
    mine: Sequence[str] = "bcde"
    for title in mine:
        model.add(title)
        model.overlay.sent(title)
    waiting, unanswered, others = list(mine), list(mine), iter("uvwxyz")
    for step, number in [*steps, *[("commit", 0)] * 4, *[("answer", 0)] * 4]:
        known = [title for title in unanswered if title in model.changes]
        if step == "make" and waiting:
            model.catch_up()
            model.make(waiting.pop(0))
        elif step == "commit" and waiting:
            model.commit(waiting.pop(0))
        elif step == "other" and (title := next(others, None)) is not None:
            model.commit(title)
        elif step == "answer" and known:
            title = known[number % len(known)]
            unanswered.remove(title)
            model.answer(title)
        elif step == "catch up":
            model.catch_up()
        assert len(set(model.shown)) == len(model.shown), "twice"
        assert set(mine) <= set(model.shown), "gone"
    model.catch_up()
    assert model.shown == "".join(model.tasks)
    assert model.overlay.state is model.replica.state


def task_added(board: Any, *, id: str, title: str) -> None:
    board["tasks"].append({"id": id, "title": title, "done": False})


def refused(board: Any, *, why: str) -> None:
    board["count"] += 1


async def test_a_stream_shows_what_it_dispatches_until_it_is_made_or_refused(
    http: aiohttp.ClientSession,
) -> None:
    reducers = {"board/task_added": task_added, "board/refused": refused}
    with Server.serving(BOARD) as server:
        async with statestream.connect(server.url, slices=["board"], optimistic=reducers) as stream:

            def titles() -> str:
                return "".join(task["title"] for task in stream.state["board"]["tasks"])

            async def add(title: str) -> Result:
                return await stream.dispatch("board/task_added", {"id": title, "title": title})

            adding = [asyncio.create_task(add(title)) for title in "abc"]
            await asyncio.sleep(0)
            assert titles() == "abc"
            results = await asyncio.gather(*adding)
            assert [result.changes[-1][1] for result in results] == sorted(result.changes[-1][1] for result in results)
            await dispatch(http, server.url, "board/task_added", {"id": "x", "title": "x"})
            await eventually(lambda: titles() == "abcx")
            refusing = asyncio.create_task(stream.dispatch("board/refused", {"why": "full"}))
            await asyncio.sleep(0)
            assert stream.state["board"]["count"] == 1
            with pytest.raises(Refused):
                await refusing
            assert stream.state["board"]["count"] == 0


async def test_an_action_that_waits_for_its_turn_is_not_sent_after_the_stream_was_closed(tmp_path: Any) -> None:
    with Server.serving(BOARD, f"sqlite:///{tmp_path / 'board.db'}") as server:
        async with statestream.connect(
            server.url, slices=["board"], optimistic={"board/task_added": task_added}
        ) as stream:
            server.kill()
            adding = [
                asyncio.create_task(stream.dispatch("board/task_added", {"id": title, "title": title}))
                for title in "ab"
            ]
            await asyncio.sleep(0)
        first, second = await asyncio.gather(*adding, return_exceptions=True)
        assert isinstance(first, Unavailable)
        assert isinstance(second, Unavailable)
        assert "nothing was sent" in str(second)


async def test_an_action_waits_for_a_server_that_was_killed(tmp_path: Any) -> None:
    with Server.serving(BOARD, f"sqlite:///{tmp_path / 'board.db'}") as server:
        async with statestream.connect(
            server.url, slices=["board"], optimistic={"board/task_added": task_added}
        ) as stream:
            server.kill()
            adding = asyncio.create_task(stream.dispatch("board/task_added", {"id": "1", "title": "a"}))
            await asyncio.sleep(0)
            assert len(stream.state["board"]["tasks"]) == 1
            server.start()
            result = await adding
            assert not result.duplicate
            await stream.wait_for(lambda _: stream.versions["board"] == result.changes[0][1], timeout=60)
            assert len(stream.state["board"]["tasks"]) == 1
