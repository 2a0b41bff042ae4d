"""Agents, through a real server: what they may do, how their replies look, and how they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from statestream.chat import Chat
from tests.support import ROOT, Server, eventually
from tests.support.chats import ended, read_chat, read_until, received, ui_reply
from tests.support.chats import ui_question as question

APP = f"{ROOT / 'tests/apps/agency.py'}:app"
Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving(APP) as running:
        yield running


def named(token: str) -> Http:
    return Http(headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(force_close=True))


@pytest.fixture
async def ann() -> AsyncIterator[Http]:
    async with named("ann") as http:
        yield http


async def ask(http: Http, server: Server, chat: str, text: str, **more: Any) -> Any:
    return await ui_reply(http, server, question(chat, text, **more))


def written(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


async def value(http: Http, server: Server, name: str) -> Any:
    async with http.get(f"{server.url}/state", params={"slices": name}) as response:
        return (await response.json())["slices"][name]


async def test_an_agent_shows_its_tools_its_data_and_its_sources(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "shown", "my orders")
    assert reply["status"] == "complete"
    assert (reply["model"], reply["usage"]) == ("clerk", {"input": 3, "output": 4, "reasoning": 0, "cached": 0})
    assert reply["parts"] == [
        {"type": "reasoning", "text": "Which ones?"},
        {
            "type": "tool",
            "call": "1",
            "name": "orders",
            "arguments": '{"about":"my orders"}',
            "status": "complete",
            "result": ["a book"],
        },
        {"type": "source", "url": "https://example.org/orders", "title": "Your orders", "step": 1},
        {"type": "data-orders", "data": {"count": 1}, "step": 1},
        {"type": "text", "text": "ann has 1 order after 1 messages.", "step": 1},
    ]
    assert "status" not in reply["run"]
    assert "ann" in (await value(ann, server, "orders"))["asked"]


async def test_an_agent_may_do_what_the_person_may_who_asks(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "spied", "tell me", agent="spy")
    assert written(reply) == "There are no secrets. I may not change it."
    async with named("bob:boss") as bob:
        reply = await ask(bob, server, "told", "tell me", agent="spy")
        assert written(reply) == "It says: nobody may know. I changed it."


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("bug", "failed", "The agent stopped with an error."),
        ("nonsense", "failed", "The agent stopped with an error."),
        ("bad data", "failed", "The agent stopped with an error."),
        ("bad source", "failed", "The agent stopped with an error."),
        ("not JSON", "failed", "The agent stopped with an error."),
        ("unknown call", "failed", "The agent gave a result for a tool call that is not running."),
        ("restless", "too_long", "The reply is too long."),
        ("refuse", "out_of_stock", "The book is out of stock."),
        ("fail", "overloaded", "The model is too busy."),
    ],
)
async def test_what_goes_wrong_is_the_end_of_the_reply_and_what_was_said_stays(
    ann: Http, server: Server, text: str, kind: str, sentence: str
) -> None:
    reply = await ask(ann, server, f"wrong {text}", text, agent="troubled")
    assert reply["error"] == {"kind": kind, "message": sentence}
    assert written(reply) == "As far as "


async def test_what_the_tools_of_an_agent_return_is_within_a_limit(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "endless", "endless", agent="troubled")
    assert reply["error"]["kind"] == "too_long"
    assert len(reply["parts"]) < 300


async def test_an_agent_that_says_nothing_has_failed(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "silent", "silence", agent="troubled")
    assert reply["error"] == {"kind": "empty", "message": "The agent said nothing."}


async def test_a_result_that_is_not_json_is_the_outcome_of_the_tool_only(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "bad result", "bad result", agent="troubled")
    assert reply["status"] == "complete"
    assert reply["parts"][1]["error"].startswith("The result of the tool is not JSON")


async def test_an_agent_can_say_why_it_ends(ann: Http, server: Server) -> None:
    assert (await ask(ann, server, "short", "short", agent="troubled"))["finish_reason"] == "length"


async def test_the_details_of_a_failure_are_in_the_log_only(ann: Http) -> None:
    with Server.serving(APP) as server:
        async with ann.post(f"{server.url}/api/chat", json=question("log", "bug", agent="troubled")) as response:
            assert "canary" not in await response.text()
        assert "RuntimeError: canary" in server.stop()


async def test_a_question_for_an_agent_that_does_not_exist_is_refused(ann: Http, server: Server) -> None:
    async with ann.post(f"{server.url}/api/chat", json=question("none", "hello", agent="clark")) as response:
        assert response.status == 409
        assert await response.text() == "There is no agent clark here; did you mean clerk?"


async def test_another_answer_comes_from_the_same_agent(ann: Http, server: Server) -> None:
    first = await ask(ann, server, "again", "tell me", agent="spy")
    body = question("again", "tell me", trigger="regenerate-message", messageId=first["id"])
    async with ann.post(f"{server.url}/api/chat", json=body) as response:
        assert response.status == 200, await response.text()
        await received(response)
    second = await ended(ann, server, "again")
    assert second["id"] != first["id"]
    assert second["model"] == "spy"


async def test_an_agent_is_stopped_where_it_waits_and_can_clean_up(ann: Http, server: Server) -> None:
    async with ann.post(f"{server.url}/api/chat", json=question("stopped", "wait", agent="patient")):

        async def status() -> Any:
            return (await read_chat(ann, server, "stopped"))["messages"][-1]["run"].get("status")

        assert await eventually(status) == "Waiting"
        async with ann.post(f"{server.url}/api/chat/stopped/stop") as response:
            assert response.status == 200
    reply = await ended(ann, server, "stopped")
    assert reply["status"] == "stopped"
    assert written(reply).startswith("I wait")

    async def cleaned_up() -> Any:
        return (await value(ann, server, "trace"))["left"]

    assert await eventually(cleaned_up) == 1


async def test_the_title_does_not_run_the_agent_again(ann: Http) -> None:
    with Server.serving(APP) as server:
        question = "Which of my orders are still open, and where are they now? I have waited for weeks."
        await ask(ann, server, "titled", question)

        async def title() -> Any:
            return (await read_chat(ann, server, "titled")).get("title")

        assert await eventually(title) == "Which of my orders are still open, and where are they now? I have waited for"
        assert (await value(ann, server, "trace"))["runs"] == 1


async def test_the_applications_own_code_can_ask(ann: Http, server: Server) -> None:
    async with ann.post(f"{server.url}/nightly/ann") as response:
        assert response.status == 200
    reply = await ended(ann, server, "nightly-ann")
    assert written(reply) == "ann has 1 order after 1 messages."
    assert "nightly-ann" in (await value(ann, server, "chats/ann"))["chats"]


async def test_the_other_protocols_choose_an_agent_too(ann: Http, server: Server) -> None:
    run = {"threadId": "ag", "runId": "r", "messages": [{"id": "q1", "role": "user", "content": "tell me"}]}
    async with ann.post(f"{server.url}/ag-ui", json={**run, "forwardedProps": {"agent": "spy"}}) as response:
        await received(response)
    assert (await ended(ann, server, "ag"))["model"] == "spy"
    async with ann.ws_connect(f"{server.url}/ws") as socket:
        await socket.send_json({"type": "message", "content": "tell me", "session_id": "ws", "agent": "spy"})
        async for message in socket:
            if message.json().get("stream_end"):
                break
    assert (await ended(ann, server, "ws"))["model"] == "spy"


async def test_what_an_agent_has_stored_survives_a_kill(ann: Http, tmp_path: Path) -> None:
    server = Server.serving(APP, env={"JOURNAL": f"sqlite:///{tmp_path}/agents.db"})
    with server:
        asking = question("bought", "buy it", agent="buyer")
        async with ann.post(f"{server.url}/api/chat", json=asking) as response:
            await read_until(response, "I placed it")
            server.kill()
    with server:
        interrupted = await ended(ann, server, "bought")
        assert interrupted["error"]["kind"] == "interrupted"
        body = question("bought", "buy it", trigger="regenerate-message", messageId=interrupted["id"])
        async with ann.post(f"{server.url}/api/chat", json=body) as response:
            await received(response)
        assert written(await ended(ann, server, "bought")) == "Order 7 is placed."
        assert interrupted["parts"][0]["text"] == "I placed it, and have ['order', 'other']."


async def test_what_an_agent_has_stored_is_gone_when_its_reply_is_complete(ann: Http, server: Server) -> None:
    first = await ask(ann, server, "stored", "again", agent="buyer")
    body = question("stored", "again", trigger="regenerate-message", messageId=first["id"])
    async with ann.post(f"{server.url}/api/chat", json=body) as response:
        await received(response)
    assert written(await ended(ann, server, "stored")) == "I have {}."


async def test_an_interrupted_question_keeps_what_is_stored_whatever_is_asked_meanwhile(
    ann: Http, tmp_path: Path
) -> None:
    server = Server.serving(APP, env={"JOURNAL": f"sqlite:///{tmp_path}/agents.db"})
    with server:
        async with ann.post(f"{server.url}/api/chat", json=question("kept", "buy it", agent="buyer")) as response:
            await read_until(response, "I placed it")
            async with ann.get(f"{server.url}/state", params={"slices": "agent_storage/kept"}) as hidden:
                assert hidden.status == 404
            server.kill()
    with server:
        interrupted = await ended(ann, server, "kept")
        another = question("kept", "my orders")
        another["message"]["id"] = "q2"
        async with ann.post(f"{server.url}/api/chat", json=another) as response:
            await received(response)
        assert (await ended(ann, server, "kept"))["status"] == "complete"
        shown = {"message": interrupted["id"]}
        async with ann.post(f"{server.url}/api/chats/kept/branch", json=shown) as response:
            assert response.status == 200, await response.text()
        leaf = (await read_chat(ann, server, "kept"))["leaf"]
        body = question("kept", "buy it", trigger="regenerate-message", messageId=interrupted["id"], leaf=leaf)
        async with ann.post(f"{server.url}/api/chat", json=body) as response:
            assert response.status == 200, await response.text()
            await received(response)
        assert written(await ended(ann, server, "kept")) == "Order 7 is placed."


async def test_what_an_agent_stores_is_within_a_limit(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "much", "too much", agent="buyer")
    assert reply["error"]["kind"] == "storage_full"


@pytest.mark.parametrize("text", ["stay", "and talk"])
async def test_an_agent_that_does_not_end_is_left_to_itself(ann: Http, server: Server, text: str) -> None:
    chat = f"stubborn {text}"
    async with ann.post(f"{server.url}/api/chat", json=question(chat, text, agent="stubborn")) as response:
        await read_until(response, "I stay")
        async with ann.post(f"{server.url}/api/chats/{quote(chat)}/stop") as stopped:
            assert stopped.status == 200
    reply = await ended(ann, server, chat)
    assert reply["status"] == "stopped"
    assert written(reply).startswith("I stay. ")


async def test_an_agent_that_does_not_end_does_not_hold_up_the_end_of_the_server(ann: Http) -> None:
    with Server.serving(APP) as server:
        body = question("stubborn", "stay", agent="stubborn")
        async with ann.post(f"{server.url}/api/chat", json=body) as response:
            await read_until(response, "I stay")
            assert "nothing waits for it" in server.stop()


@pytest.mark.parametrize("text", ["exit", "timeout of its own", "cancelled elsewhere"])
async def test_what_would_end_a_task_or_the_process_is_an_error_of_the_reply(
    ann: Http, server: Server, text: str
) -> None:
    reply = await ask(ann, server, f"ends {text}", text, agent="stubborn")
    assert reply["error"]["kind"] == "failed"
    assert (await ask(ann, server, f"after {text}", "my orders"))["status"] == "complete"


async def test_an_agent_passes_on_a_model_and_runs_its_tools(ann: Http, server: Server) -> None:
    reply = await ask(ann, server, "relay", "go", agent="relay")
    assert reply["status"] == "complete", reply
    tools = [part for part in reply["parts"] if part["type"] == "tool"]
    assert [(tool["name"], tool["result"]) for tool in tools] == [("first", 1), ("second", 2)]
    assert written(reply) == "Done."
    cut = await ask(ann, server, "relay cut", "cut", agent="relay")
    assert cut["error"]["kind"] == "truncated"
    twice = await ask(ann, server, "relay twice", "twice", agent="relay")
    assert twice["error"]["message"] == "The agent gave a result for a tool call that is not running."


async def takes_one(task: Any) -> AsyncIterator[str]:
    yield ""


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (lambda task, context: None, "expected an async generator"),
        (takes_one, r"expected takes_one to take \(task, context\), got \(task: "),
        (7, "expected an async generator"),
    ],
)
def test_what_cannot_be_an_agent_is_refused_at_once(agent: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Chat().agent(agent)


def test_each_agent_has_a_name_of_its_own() -> None:
    async def twice(task: Any, context: Any) -> AsyncIterator[str]:
        yield ""

    chat = Chat()
    chat.agent(twice)
    with pytest.raises(ValueError, match="named twice already"):
        chat.agent(twice)
    with pytest.raises(TypeError, match="without parentheses"):
        chat.agent()
