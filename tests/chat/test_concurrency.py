"""How many replies a process makes at once, and what becomes of those that are too many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream import Store
from statestream.chat import Chat, Concurrency, Question
from statestream.chat.models.demo import DemoModel
from statestream.chat.replies.run_queue import Place, RunQueue
from statestream.core.errors import RateLimited, Unavailable
from statestream.journal.contract import Appended, Batch
from statestream.journal.memory import MemoryJournal
from tests.support import Server, eventually
from tests.support.ag_ui import events_of
from tests.support.chats import chatty, ended, read_chat, ui_question
from tests.support.provider import asked, open_gate, script

Http = aiohttp.ClientSession


# the queue


def names(places: list[Place]) -> list[str | None]:
    return [place.person for place in places if place.works and not place.given_back]


def test_people_take_turns_however_many_replies_one_of_them_asks_for() -> None:
    queue = RunQueue(Concurrency(total=1))
    places = [queue.enter("m", person, "chat") for person in ("ann", "ann", "ann", "ann", "bob", "cyd", "bob")]
    order = []
    while working := [place for place in places if place.works and not place.given_back]:
        [place] = working
        order.append(place.person)
        place.give_back()
    assert order == ["ann", "ann", "bob", "cyd", "ann", "bob", "ann"]
    assert (queue.working, queue.queued) == (0, 0)


def test_who_waits_for_a_model_or_has_enough_does_not_keep_others_waiting() -> None:
    queue = RunQueue(Concurrency(total=3, per_model=1, per_person=2))
    first, same_model = queue.enter("m", "ann", "1"), queue.enter("m", "ann", "2")
    second, too_many = queue.enter("n", "ann", "3"), queue.enter("o", "ann", "4")
    other = queue.enter("p", "bob", "5")
    assert [place.works for place in (first, same_model, second, too_many, other)] == [True, False, True, False, True]
    first.give_back()
    assert (same_model.works, too_many.works) == (True, False)


def test_a_full_queue_refuses_and_one_person_cannot_fill_it() -> None:
    queue = RunQueue(Concurrency(total=1, queue=8))
    for person in ("ann", "ann", "ann", "bob", "bob", "cyd", "cyd"):
        queue.enter("m", person, "chat")
    with pytest.raises(RateLimited):
        queue.enter("m", "bob", "chat")
    for chat in ("1", "2"):
        queue.enter("m", None, chat)
    with pytest.raises(Unavailable) as full:
        queue.enter("m", "dan", "chat")
    assert full.value.retry_after == 5.0
    assert not queue.enter("m", "dan", "chat", refusable=False).works


@given(
    st.lists(st.tuples(st.sampled_from("mn"), st.sampled_from(["ann", "bob", None]), st.integers(0, 9)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 2),
)
def test_no_limit_is_exceeded_nobody_waits_without_need_and_all_come_to_their_turn(
    steps: list[tuple[str, str | None, int]], total: int, each: int
) -> None:
    queue, places = RunQueue(Concurrency(total=total, per_model=each, per_person=each)), list[Place]()

    def check() -> None:
        open_ = [place for place in places if not place.given_back]
        working = [place for place in open_ if place.works]
        assert (queue.working, queue.queued) == (len(working), len(open_) - len(working))
        assert len(working) <= total
        for place in open_:
            of_maker = sum(other.maker == place.maker for other in working)
            of_person = sum(other.person == place.person for other in working if place.person is not None)
            assert of_maker <= each
            assert of_person <= each
            assert place.works or len(working) == total or of_maker == each or of_person == each

    for maker, person, at in steps:
        places.append(queue.enter(maker, person, f"chat-{at}"))
        if at < len(places) and at % 2:
            places[at].give_back()
        check()
    while working := [place for place in places if place.works and not place.given_back]:
        working[0].give_back()
        check()
    assert all(place.given_back for place in places)


async def test_a_turn_that_comes_while_the_reply_is_saved_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Place] = []
    enter = RunQueue.enter

    def noted(queue: RunQueue, *args: Any, **more: Any) -> Place:
        places.append(enter(queue, *args, **more))
        return places[-1]

    class Journal(MemoryJournal):
        async def append(self, batch: Batch) -> list[Appended]:
            if any(change.cause.type == "chat/queued" for entry in batch.entries for change in entry.changes):
                places[0].give_back()
            return await super().append(batch)

    monkeypatch.setattr(RunQueue, "enter", noted)
    chat = Chat(model=DemoModel(), titles=False, concurrency=Concurrency(total=1))
    async with Store(chat.slices, journal=Journal()) as store, chat.conversations(store) as conversations:
        causes: list[str] = []
        store.on_change(lambda change: causes.append(change.cause.type))
        for _ in range(2):
            key = await conversations.create()
            await conversations.ask(key, Question.text("One?"))
        await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["parts"], every=0.001)
        assert (causes.count("chat/queued"), causes.count("chat/began")) == (1, 1)


# a server


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream, auth="yes", concurrency='{"total": 1, "queue": 2}', first=2) as running:
        yield running


def named(name: str) -> Http:
    return Http(headers={"Authorization": f"Bearer {name}"})


async def begin(http: Http, server: Server, chat: str, text: str) -> aiohttp.ClientResponse:
    return await http.post(f"{server.url}/api/chat", json=ui_question(chat, text))


async def reply_of(http: Http, server: Server, chat: str) -> Any:
    return (await read_chat(http, server, chat))["messages"][-1]


async def test_replies_wait_for_their_turn_in_the_chat_and_what_is_too_much_is_refused(
    server: Server, upstream: str
) -> None:
    async with named("ann") as ann, named("bob") as bob, named("cyd") as cyd, named("olga:operator") as olga:
        steps: tuple[Any, ...] = ({"say": "Yes."}, {"finish": "stop"})
        slow = await script(ann, upstream, "Slow?", {"say": "Well, "}, {"wait": "turn"}, *steps)
        quick = await script(ann, upstream, "Quick?", *steps)
        first = await begin(ann, server, "first", slow)
        waiting = await begin(ann, server, "second", quick)
        stopped = await begin(bob, server, "third", quick)
        run = (await reply_of(ann, server, "second"))["run"]
        assert (run["queued"], run["status"]) == (True, "Waiting for its turn")
        async with olga.get(f"{server.url}/api/runs") as response:
            runs = (await response.json())["runs"]
        assert [(run["chat"], run["state"]) for run in runs] == [
            ("first", "running"),
            ("second", "queued"),
            ("third", "queued"),
        ]
        assert await server.metric(ann, "replies_running") == 1
        assert await server.metric(ann, "replies_queued") == 2

        too_much = await begin(ann, server, "fourth", quick)
        assert (too_much.status, too_much.headers["Retry-After"]) == (429, "5")
        full = await begin(cyd, server, "fifth", quick)
        assert (full.status, full.headers["Retry-After"]) == (503, "5")
        assert "Try again in a moment" in await full.text()
        message = {"id": "q", "role": "user", "content": quick}
        run_input = {"threadId": "fifth", "runId": "r", "messages": [message], "tools": [], "context": [], "state": {}}
        async with cyd.post(f"{server.url}/ag-ui", json={**run_input, "forwardedProps": {}}) as response:
            assert events_of(await response.read())[-1]["code"] == "unavailable"
        async with cyd.ws_connect(f"{server.url}/ws?session_id=fifth") as socket:
            await socket.send_json({"type": "message", "content": quick, "session_id": "fifth"})
            assert (await socket.receive_json())["metadata"]["error"] == "unavailable"
        assert await server.metric(ann, 'limited_total{limit="concurrency"}') == 4
        async with cyd.get(f"{server.url}/api/chats/fifth") as response:
            assert response.status == 404

        async with bob.post(f"{server.url}/api/chats/third/stop") as response:
            assert (await response.json())["stopped"]
        assert (await ended(bob, server, "third"))["status"] == "stopped"
        assert '"abort"' in await stopped.text()
        assert await asked(ann, upstream, quick) == []

        await open_gate(ann, upstream, "turn")
        assert "Yes." in await waiting.text()
        reply = await ended(ann, server, "second")
        assert reply["status"] == "complete"
        assert reply["run"]["queued_ms"] > 0
        assert "queued" not in reply["run"]
        assert (await ended(ann, server, "first"))["status"] == "complete"
        first.close()


async def test_the_timeouts_of_a_reply_count_from_its_turn(server: Server, upstream: str) -> None:
    async with named("ann") as ann:
        held = {"drip": {"text": "x", "times": 30, "every": 0.1}}
        long = await script(ann, upstream, "Three seconds?", held, {"finish": "stop"})
        short = await script(ann, upstream, "And now?", {"say": "Now."}, {"finish": "stop"})
        responses = [await begin(ann, server, f"long-{at}", text) for at, text in enumerate((long, short))]
        reply = await ended(ann, server, "long-1")
        assert reply["status"] == "complete"
        assert reply["run"]["queued_ms"] > 2_000
        for response in responses:
            response.close()


async def test_what_a_viewer_is_told_of_the_status_ends_with_the_wait(server: Server, upstream: str) -> None:
    async with named("ann") as ann:
        steps: tuple[Any, ...] = ({"say": "Yes."}, {"finish": "stop"})
        slow = await script(ann, upstream, "Held?", {"say": "Well, "}, {"wait": "held"}, *steps)
        quick = await script(ann, upstream, "Free?", {"wait": "free"}, *steps)
        first, second = [await begin(ann, server, f"told-{at}", text) for at, text in enumerate((slow, quick))]
        await eventually(lambda: _is_queued(ann, server, "told-1"))
        await open_gate(ann, upstream, "held")
        await eventually(lambda: _works(ann, server, "told-1"))
        await open_gate(ann, upstream, "free")
        lines = [line.removeprefix("data: ") for line in (await second.text()).splitlines() if '"data-status"' in line]
        told = [json.loads(line)["data"]["text"] for line in lines]
        assert told == ["Waiting for its turn", ""]
        first.close()


async def _is_queued(http: Http, server: Server, chat: str) -> bool:
    return bool((await reply_of(http, server, chat))["run"].get("queued"))


async def _works(http: Http, server: Server, chat: str) -> bool:
    return not await _is_queued(http, server, chat)


def test_what_is_no_limit_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="total"):
        Concurrency(total=0)


def test_a_turn_can_be_awaited() -> None:
    async def wait() -> None:
        queue = RunQueue(Concurrency(total=1))
        first, second = queue.enter("m", None, "1"), queue.enter("m", None, "2")
        turn = asyncio.create_task(second.turn())
        await asyncio.sleep(0)
        assert not turn.done()
        first.give_back()
        first.give_back()
        await turn

    asyncio.run(wait())
