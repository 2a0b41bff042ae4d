"""Graphs of LangGraph in a chat: what is shown of them, and runs that continue from their checkpoints.

What they have in common with agents of other frameworks is in test_adapters.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually, get_state
from tests.support.chats import ended, read_chat, received, ui_question, ui_reply
from tests.support.provider import asked, script

APP = f"{ROOT / 'tests/apps/graphs.py'}:app"
Http = aiohttp.ClientSession
DONE = ({"say": "Done. "}, {"finish": "stop"})


def serving(upstream: str, **env: str) -> Server:
    return Server.serving(APP, env={"CHATTY_UPSTREAM": f"{upstream}/v1", **env})


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with serving(upstream) as running:
        yield running


def calls(name: str, arguments: str = "{}", id: str = "c1") -> tuple[Any, ...]:
    return {"call": {"index": 0, "id": id, "name": name, "arguments": arguments}}, {"finish": "tool_calls"}


async def scripted(http: Http, upstream: str, question: str, *rounds: Any) -> str:
    for number, steps in enumerate(rounds):
        await script(http, upstream, question + "+" * number, *steps)
    return question


async def ask(http: Http, server: Server, chat: str, text: str, agent: str, id: str = "q1") -> Any:
    body = ui_question(chat, text, agent=agent)
    body["message"]["id"] = id
    return await ui_reply(http, server, body)


async def again(http: Http, server: Server, chat: str, text: str) -> Any:
    """Another answer to the question with that text."""
    newest = (await read_chat(http, server, chat))["messages"][-1]["id"]
    body = ui_question(chat, text, trigger="regenerate-message", messageId=newest)
    async with http.post(f"{server.url}/api/chat", json=body) as response:
        assert response.status == 200, await response.text()
        await received(response)
    return await ended(http, server, chat)


async def threads(http: Http, server: Server) -> Any:
    async with http.get(f"{server.url}/threads") as response:
        return await response.json()


async def orders(http: Http, server: Server) -> Any:
    return (await get_state(http, server.url, "slices=desk"))["slices"]["desk"]["orders"]


def shown(reply: Any) -> list[Any]:
    """Each part as its kind and its text, its data, or its tool with the outcome."""
    return [
        (part["name"], part.get("result", part["status"]))
        if part["type"] == "tool"
        else (part["type"], part.get("text", part.get("data")))
        for part in reply["parts"]
    ]


LAMP = ("order", {"ordered": "lamp"})
LAST = [("text", "Done. "), ("data-custom", {"left": 0}), ("text", "Good bye.")]


async def test_the_parts_of_a_graph_are_one_reply(http: Http, server: Server, upstream: str) -> None:
    ordering = {"say": "I order. "}, *calls("order", '{"what": "lamp"}')
    question = await scripted(http, upstream, "A lamp, please.", ordering, DONE)
    reply = await ask(http, server, "parts", question, "clerk")
    assert reply["status"] == "complete", reply
    assert shown(reply) == [("text", "I order. "), LAMP, *LAST]
    question = await scripted(http, upstream, "Which lamp?", DONE)
    assert shown(await ask(http, server, "parts", question, "clerk", id="q2")) == LAST
    [request] = await asked(http, upstream, question)
    roles = [message["role"] for message in request["body"]["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_thoughts_are_shown_and_calls_that_are_hidden_are_not(http: Http, server: Server) -> None:
    reply = await ask(http, server, "thought", "Is it so?", "thinker")
    assert shown(reply) == [("reasoning", "Hm. "), ("text", "Yes.")]


async def test_a_graph_without_an_end_is_given_up(http: Http, server: Server, upstream: str) -> None:
    rounds = [calls("order", '{"what": "lamp"}', f"c{number}") for number in range(5)]
    question = await scripted(http, upstream, "More and more lamps.", *rounds)
    reply = await ask(http, server, "endless", question, "hasty")
    assert reply["error"]["kind"] == "too_many_steps"


async def test_a_tool_that_raises_ends_the_reply(http: Http, server: Server, upstream: str) -> None:
    question = await scripted(http, upstream, "Break it.", calls("broken"))
    reply = await ask(http, server, "broken", question, "clerk")
    assert reply["error"] == {"kind": "failed", "message": "The agent stopped with an error."}


async def test_a_graph_that_waits_for_people_says_so(http: Http, server: Server) -> None:
    reply = await ask(http, server, "waiting", "Do it.", "asking")
    assert reply["error"]["kind"] == "input_required"
    assert (await again(http, server, "waiting", "Do it."))["error"]["kind"] == "input_required"


async def until_waiting(http: Http, server: Server, chat: str) -> None:
    """Until the graph is in the tool that waits."""

    async def waiting() -> bool:
        messages = (await read_chat(http, server, chat))["messages"]
        return bool(messages) and any(part.get("name") == "wait" for part in messages[-1]["parts"])

    await eventually(waiting)


ROUNDS = ({"say": "I order. "}, *calls("order", '{"what": "lamp"}')), calls("wait", id="c2"), DONE


@pytest.mark.slow
async def test_a_run_that_was_interrupted_continues_from_its_checkpoints(
    http: Http, upstream: str, tmp_path: Path
) -> None:
    question = await scripted(http, upstream, "A lamp, whatever happens.", *ROUNDS)
    files = {"JOURNAL": f"sqlite:///{tmp_path}/graphs.db", "CHECKPOINTS": f"{tmp_path}/checkpoints.db"}
    server = serving(upstream, **files)
    with server:
        body = ui_question("killed", question, agent="careful")
        async with http.post(f"{server.url}/api/chat", json=body):
            await until_waiting(http, server, "killed")
            server.kill()
    with server:
        interrupted = await ended(http, server, "killed")
        assert interrupted["error"]["kind"] == "interrupted"
        assert await threads(http, server) == ["killed/q1"]
        await dispatch(http, server.url, "desk/opened")
        reply = await again(http, server, "killed", question)
        assert reply["status"] == "complete", reply
        assert shown(reply) == [("text", "I order. "), LAMP, ("wait", "open"), *LAST]
        assert await orders(http, server) == ["lamp"]
        last = (await asked(http, upstream, question))[-1]["body"]["messages"]
        assert [message["role"] for message in last] == ["user", "assistant", "tool", "assistant", "tool"]
        assert await threads(http, server) == []


@pytest.mark.slow
async def test_another_answer_to_a_question_begins_anew(http: Http, upstream: str) -> None:
    question = await scripted(http, upstream, "A lamp, or not.", *ROUNDS)
    with serving(upstream) as server:
        async with http.post(f"{server.url}/api/chat", json=ui_question("stopped", question, agent="careful")):
            await until_waiting(http, server, "stopped")
            async with http.post(f"{server.url}/api/chats/stopped/stop") as stopped:
                assert stopped.status == 200
        reply = await ended(http, server, "stopped")
        assert reply["status"] == "stopped"
        assert await threads(http, server) == ["stopped/q1"]
        await dispatch(http, server.url, "desk/opened")
        reply = await again(http, server, "stopped", question)
        assert shown(reply) == [("text", "I order. "), LAMP, ("wait", "open"), *LAST]
        assert await orders(http, server) == ["lamp", "lamp"]
        assert await threads(http, server) == []
