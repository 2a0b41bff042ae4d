"""Questions that are asked during a reply, in a chat that queues them: seen by all, asked once, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream import Refused, Store
from statestream.chat import Chat, Concurrency, Decision, Question
from statestream.chat.models import CallPiece, Finish, Piece, Turn
from statestream.chat.models.demo import DemoModel
from tests.support import Server, eventually
from tests.support.ag_ui import events_of
from tests.support.chats import INTERRUPTED, chatty, invite, new_chat, read_chat, read_until, received, text_of
from tests.support.provider import asked, open_gate, script

Http = aiohttp.ClientSession
END: tuple[Any, ...] = ({"finish": "stop"},)


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream, auth="yes", while_busy="queue") as running:
        yield running


def named(name: str) -> Http:
    return Http(headers={"Authorization": f"Bearer {name}"})


def ui(chat: str, id: str, text: str, **more: Any) -> dict[str, Any]:
    return {"id": chat, "message": {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}, **more}


def ag_ui(chat: str, id: str, text: str) -> dict[str, Any]:
    more: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
    return {"threadId": chat, "runId": "r", "messages": [{"id": id, "role": "user", "content": text}], **more}


async def queue(http: Http, server: Server, chat: str) -> list[str]:
    return [each["id"] for each in (await read_chat(http, server, chat)).get("queued", [])]


async def ask_ui(http: Http, server: Server, chat: str, id: str, text: str) -> str:
    async with http.post(f"{server.url}/api/chat", json=ui(chat, id, text)) as response:
        assert response.status == 200, await response.text()
        return (await received(response)).text


async def status(http: Http, server: Server, chat: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with http.request(method, f"{server.url}/api/chats/{chat}{path}", json=body) as response:
        return response.status, await response.json()


async def in_queue(http: Http, server: Server, chat: str, *ids: str) -> None:
    async def so() -> bool:
        return await queue(http, server, chat) == list(ids)

    await eventually(so)


async def idle(http: Http, server: Server, chat: str) -> Any:
    """The chat once everything in it has been answered."""

    async def over() -> Any:
        found = await read_chat(http, server, chat)
        last = found["messages"][-1]
        return found if "queued" not in found and last["status"] not in ("streaming", "waiting") else None

    return await eventually(over)


async def test_questions_of_all_protocols_wait_and_are_answered_in_their_order(server: Server, upstream: str) -> None:
    async with named("ann") as ann, named("bob") as bob:
        chat = await new_chat(ann, server)
        await invite(ann, server, chat, "bob")
        long = await script(ann, upstream, "Queue: long?", {"say": "Well, "}, {"wait": "queue"}, *END)
        texts = [await script(ann, upstream, f"Queue: {n}?", {"say": f"Answer {n}."}, *END) for n in range(5)]
        first = await ann.post(f"{server.url}/api/chat", json=ui(chat, "q", long))
        await read_until(first, "Well")

        by_ui = asyncio.create_task(ask_ui(bob, server, chat, "q0", texts[0]))
        await in_queue(ann, server, chat, "q0")
        again = asyncio.create_task(ask_ui(bob, server, chat, "q0", texts[0]))
        by_ag_ui = await ann.post(f"{server.url}/ag-ui", json=ag_ui(chat, "q1", texts[1]))
        body = {"messages": [{"role": "user", "id": "q2", "content": texts[2]}]}
        by_text = await ann.post(f"{server.url}/api/chats/{chat}/stream", json=body)
        removed = await bob.post(f"{server.url}/ag-ui", json=ag_ui(chat, "q3", texts[3]))
        async with bob.ws_connect(f"{server.url}/ws?session_id={chat}") as socket:
            await socket.send_json({"type": "message", "content": texts[4], "session_id": chat, "id": "q4"})
            await in_queue(ann, server, chat, "q0", "q1", "q2", "q3", "q4")
            authors = [each["author"] for each in (await read_chat(ann, server, chat))["queued"]]
            assert authors == ["bob", "ann", "ann", "bob", "bob"]

            assert await status(ann, server, chat, "DELETE", "/queue/q3") == (
                403,
                await problem("forbidden", ann, server, chat, "q3"),
            )
            assert (await status(bob, server, chat, "DELETE", "/queue/q3"))[0] == 200
            assert (await status(bob, server, chat, "DELETE", "/queue/q3"))[0] == 404
            assert events_of(await removed.read())[-1]["code"] == "removed"
            for path, wanted in (("/branch", {"message": "q"}), ("/continue", {"message": "q"})):
                code, refusal = await status(ann, server, chat, "POST", path, wanted)
                assert (code, refusal.get("reason")) in ((409, "busy"), (409, "unknown_message")), path

            await open_gate(ann, upstream, "queue")
            assert "Answer 0." in await by_ui
            assert "Answer 0." in await again
            assert "Answer 2." in await by_text.text()
            answered = [event.get("delta") for event in events_of(await by_ag_ui.read())]
            assert "Answer 1." in answered
            told = [await socket.receive_json() for _ in range(3)]
            while not any(item.get("chunk") == "Answer 4." for item in told):
                told.append(await socket.receive_json())
        messages = (await idle(ann, server, chat))["messages"]
        assert [text_of(message) for message in messages[2:]] == [
            *(text for n in (0, 1, 2, 4) for text in (texts[n], f"Answer {n}.")),
        ]
        assert [len(await asked(ann, upstream, text)) for text in texts] == [1, 1, 1, 0, 1]
        first.close()


async def problem(code: str, http: Http, server: Server, chat: str, question: str) -> Any:
    """The problem that is answered to somebody else than the author."""
    found = (await status(http, server, chat, "DELETE", f"/queue/{question}"))[1]
    assert found["code"] == code
    return found


async def test_a_stop_ends_the_reply_and_the_next_question_is_asked(server: Server, upstream: str) -> None:
    async with named("ann") as ann:
        chat = await new_chat(ann, server)
        long = await script(ann, upstream, "Stopped?", {"say": "Well, "}, {"wait": "never"}, *END)
        short = await script(ann, upstream, "After a stop?", {"say": "Yes."}, *END)
        first = await ann.post(f"{server.url}/api/chat", json=ui(chat, "q1", long))
        await read_until(first, "Well")
        second = asyncio.create_task(ask_ui(ann, server, chat, "q2", short))
        await in_queue(ann, server, chat, "q2")
        assert (await status(ann, server, chat, "POST", "/stop", {}))[1]["stopped"]
        assert "Yes." in await second
        statuses = [message["status"] for message in (await idle(ann, server, chat))["messages"]]
        assert statuses == ["complete", "stopped", "complete", "complete"]
        first.close()


async def test_the_queue_is_short_and_who_has_left_is_not_heard(server: Server, upstream: str) -> None:
    async with named("ann") as ann, named("bob") as bob:
        chat = await new_chat(ann, server)
        await invite(ann, server, chat, "bob")
        long = await script(ann, upstream, "Full?", {"say": "Well, "}, {"wait": "full"}, *END)
        short = await script(ann, upstream, "Next?", {"say": "Yes."}, *END)
        of_bob = await script(ann, upstream, "Bob's?", {"say": "No."}, *END)
        first = await ann.post(f"{server.url}/api/chat", json=ui(chat, "q", long))
        await read_until(first, "Well")
        responses = [await bob.post(f"{server.url}/api/chat", json=ui(chat, "b", of_bob))]
        ids = [f"q{n}" for n in range(9)]
        responses += [await ann.post(f"{server.url}/api/chat", json=ui(chat, id, short)) for id in ids]
        async with ann.post(f"{server.url}/api/chat", json=ui(chat, "q9", short)) as refused:
            assert refused.status == 409
        assert (await status(ann, server, chat, "DELETE", "/participants/bob"))[0] == 200
        await open_gate(ann, upstream, "full")
        messages = (await idle(ann, server, chat))["messages"]
        assert [message["id"] for message in messages if message["role"] == "user"] == ["q", *ids]
        assert await asked(ann, upstream, of_bob) == []
        for response in (first, *responses):
            response.close()


async def test_a_queued_question_is_asked_once_although_its_server_is_killed(upstream: str, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    settings: dict[str, Any] = {"auth": "yes", "while_busy": "queue", "journal": journal}
    async with named("ann") as ann:
        long = await script(ann, upstream, "Killed?", {"say": "Well, "}, {"wait": "killed"}, *END)
        short = await script(ann, upstream, "Survived?", {"say": "Yes."}, *END)
        with chatty(upstream, **settings) as other:
            killed = chatty(upstream, **settings).start()
            chat = await new_chat(ann, killed)
            first = await ann.post(f"{killed.url}/api/chat", json=ui(chat, "q1", long))
            await read_until(first, "Well")
            second = await ann.post(f"{killed.url}/api/chat", json=ui(chat, "q2", short))
            await in_queue(ann, other, chat, "q2")
            killed.kill()
            assert "Yes." in await ask_ui(ann, other, chat, "q2", short)
            messages = (await idle(ann, other, chat))["messages"]
            assert [message["id"] for message in messages if message["role"] == "user"] == ["q1", "q2"]
            assert messages[1]["error"] == {"kind": "interrupted", "message": INTERRUPTED}
            assert text_of(messages[3]) == "Yes."
            assert len(await asked(ann, upstream, short)) == 1
            first.close()
            second.close()


async def test_two_servers_ask_each_question_once(upstream: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"while_busy": "queue", "journal": f"sqlite:///{tmp_path / 'journal.db'}"}
    async with Http() as http:
        steps = [{"say": "Yes."}, *END]
        texts = [await script(http, upstream, f"Two servers: {n}?", *steps) for n in range(8)]
        with chatty(upstream, **settings) as one, chatty(upstream, **settings) as two:
            chat = await new_chat(http, one)
            asking = [ask_ui(http, (one, two)[n % 2], chat, f"q{n}", text) for n, text in enumerate(texts)]
            answers = await asyncio.gather(*asking)
            assert all("Yes." in answer for answer in answers)
            messages = (await idle(http, one, chat))["messages"]
            assert len(messages) == 16
            assert [len(await asked(http, upstream, text)) for text in texts] == [1] * 8


async def test_a_program_waits_for_its_question_or_learns_that_it_was_removed() -> None:
    assistant = Chat(model=DemoModel(), titles=False, while_busy="queue")
    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:
        key = await conversations.create()
        await conversations.ask(key, Question.text("One?"))
        second = asyncio.create_task(conversations.ask(key, Question(parts=Question.text("Two?").parts, id="two")))
        third = asyncio.create_task(conversations.ask(key, Question(parts=Question.text("Three?").parts, id="three")))
        await eventually(lambda: len((store.get(f"chat/{key}") or {}).get("queued", ())) == 2, every=0.001)
        await conversations.questions.remove(key, "three")
        with pytest.raises(Refused) as removed:
            await third
        assert removed.value.reason == "removed"
        assert await second == (await store.read(f"chat/{key}"))["messages"][3]["id"]
        json.dumps(await store.read(f"chat/{key}"))
    with pytest.raises(ValueError, match="while_busy"):
        Chat(while_busy="wait")  # type: ignore[arg-type]  # that is what is tried


class Buying:
    """A model that buys what it is asked for. It waits for the gate, if it is asked to."""

    name = "buying"

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def answer(self, turns: Sequence[Turn], tools: Any, settings: Any) -> AsyncIterator[Piece]:
        if turns[-1].text.endswith("Buy."):
            yield CallPiece(id="1", name="buy", arguments="{}")
            yield Finish(reason="tool_calls")
            return
        if turns[-1].text.endswith("Wait."):
            yield "I wait. "
            await self.gate.wait()
        yield "Done."
        yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_waits_for_an_approval_keeps_the_queue_waiting_and_continues_in_its_turn() -> None:
    model = Buying()
    assistant = Chat(model=model, titles=False, while_busy="queue", concurrency=Concurrency(total=1))

    @assistant.tool(approval=True)
    async def buy() -> str:
        return "a book"

    async with Store(assistant.slices) as store, assistant.conversations(store) as conversations:

        def last(key: str) -> Any:
            return store.get(f"chat/{key}")["messages"][-1]

        one, two = await conversations.create(), await conversations.create()
        await conversations.ask(one, Question.text("Buy."))
        await eventually(lambda: last(one)["status"] == "waiting", every=0.001)
        question = asyncio.create_task(conversations.ask(one, Question(parts=Question.text("And?").parts, id="and")))
        await eventually(lambda: "queued" in store.get(f"chat/{one}"), every=0.001)

        await conversations.ask(two, Question.text("Wait."))  # the reply that waits has no place
        await eventually(lambda: last(two)["parts"], every=0.001)
        approval = last(one)["parts"][0]["approval"]["id"]
        await conversations.calls.settle(one, decisions=[Decision(id=approval, approved=True)])
        await eventually(lambda: last(one)["run"].get("queued"), every=0.001)
        assert (last(one)["status"], last(one)["run"]["status"]) == ("streaming", "Waiting for its turn")
        assert [run["state"] for run in await conversations.unfinished()] == ["queued", "running"]
        assert not question.done()

        model.gate.set()
        second = await question
        await eventually(lambda: last(one)["id"] == second and last(one)["status"] == "complete", every=0.001)
        assert [message["status"] for message in store.get(f"chat/{one}")["messages"]] == ["complete"] * 4
        assert "queued" not in store.get(f"chat/{one}")
