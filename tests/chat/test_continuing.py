"""Replies that were cut off, and continue: what people see, what the model is sent, and what the journal holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from statestream.chat.models import CONTINUE
from statestream.chat.slices import continuations, conversation
from statestream.core.change import Action
from statestream.core.draft import produce
from statestream.core.errors import Refused
from statestream.core.values import encode
from tests.support import Server, eventually
from tests.support.ai_sdk import Page
from tests.support.chats import ended, read_chat, read_until, received, text_of, ui_question, ui_reply
from tests.support.node import Node
from tests.support.provider import asked, script

Http = aiohttp.ClientSession


async def stop_at(http: Http, server: Server, chat: str, question: str, said: str, **more: Any) -> Any:
    """Asks, and stops the reply once it has said this."""
    async with http.post(f"{server.url}/api/chat", json=ui_question(chat, question, **more)) as response:
        await read_until(response, said)
        async with http.post(f"{server.url}/api/chats/{chat}/stop") as stopped:
            assert stopped.status == 200
    return await ended(http, server, chat)


async def carry_on(http: Http, server: Server, chat: str, message: str, **more: Any) -> tuple[int, Any]:
    body = {"message": message, **more}
    async with http.post(f"{server.url}/api/chats/{chat}/continue", json=body) as response:
        return response.status, await response.json()


async def continued(http: Http, server: Server, chat: str, message: str) -> Any:
    """The reply that continues that one, once it has ended."""
    status, answer = await carry_on(http, server, chat, message)
    assert status == 200, answer
    made = await ended(http, server, chat)
    assert (made["id"], made["continues"]) == (answer["reply"], message)
    return made


async def test_a_stopped_reply_continues_where_it_was_stopped(patient: Server, upstream: str, http: Http) -> None:
    question = await script(http, upstream, "Tell me a story.", {"say": "Once up"}, {"wait": "never"})
    await script(http, upstream, CONTINUE, {"say": "on a "}, {"say": "time."}, {"finish": "stop"})
    first = await stop_at(http, patient, "story", question, "Once up")
    made = await continued(http, patient, "story", first["id"])
    assert (made["status"], made["parent"], made["parts"]) == (
        "complete",
        first["parent"],
        [{"type": "text", "text": "Once upon a time."}],
    )
    assert (await read_chat(http, patient, "story"))["messages"][1] == first
    sent = (await asked(http, upstream, CONTINUE))[-1]["body"]["messages"]
    assert [(message["role"], message["content"]) for message in sent] == [
        ("user", question),
        ("assistant", "Once up"),
        ("user", CONTINUE),
    ]
    again = ui_question("story", await script(http, upstream, "And then?", {"say": "The end."}, {"finish": "stop"}))
    again["message"]["id"] = "q2"
    await ui_reply(http, patient, again)
    sent = (await asked(http, upstream, "And then?"))[-1]["body"]["messages"]
    assert [message["content"] for message in sent] == [question, "Once upon a time.", "And then?"]


async def test_only_a_reply_that_was_cut_off_continues(patient: Server, upstream: str, http: Http) -> None:
    whole = await script(http, upstream, "whole", {"say": "All."}, {"finish": "stop"})
    reply = await ui_reply(http, patient, ui_question("whole", whole))
    status, problem = await carry_on(http, patient, "whole", reply["id"])
    assert (status, problem["reason"]) == (409, "not_continuable")
    assert (await carry_on(http, patient, "whole", "q1"))[1]["reason"] == "unknown_message"
    assert (await carry_on(http, patient, "nowhere", reply["id"]))[0] == 404
    assert (await carry_on(http, patient, "whole", reply["id"], leaf="q1"))[1]["reason"] == "stale"


@pytest.mark.parametrize("end", [{"finish": "length"}, {"cut": True}])
async def test_a_reply_that_was_too_long_or_lost_its_connection_continues(
    patient: Server, upstream: str, http: Http, end: Any
) -> None:
    chat = f"cut {next(iter(end))}".replace(" ", "-")
    question = await script(http, upstream, chat, {"say": "One, "}, end)
    first = await ui_reply(http, patient, ui_question(chat, question))
    await script(http, upstream, CONTINUE, {"think": "Go on."}, {"say": "two."}, {"finish": "length"})
    second = await continued(http, patient, chat, first["id"])
    assert [(part["type"], part["text"]) for part in second["parts"]] == [
        ("text", "One, "),
        ("reasoning", "Go on."),
        ("text", "two."),
    ]
    await script(http, upstream, CONTINUE, {"say": " Three."}, {"finish": "stop"})
    third = await continued(http, patient, chat, second["id"])
    assert text_of(third).endswith("two. Three.")
    assert (await asked(http, upstream, CONTINUE))[-1]["body"]["messages"][1]["content"] == "One, two."


async def test_a_reply_that_continues_is_asked_for_once(patient: Server, upstream: str, http: Http) -> None:
    question = await script(http, upstream, "once", {"say": "One"}, {"wait": "never"})
    first = await stop_at(http, patient, "once", question, "One")
    await script(http, upstream, CONTINUE, {"say": ", two"}, {"wait": "never"})
    answers = [await carry_on(http, patient, "once", first["id"]) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len((await read_chat(http, patient, "once"))["messages"]) == 3

    async def both() -> Any:
        return text_of((await read_chat(http, patient, "once"))["messages"][-1]) == "One, two"

    await eventually(both)
    async with http.post(f"{patient.url}/api/chats/once/stop") as stopped:
        assert stopped.status == 200


async def test_a_tool_that_was_running_stays_and_one_that_was_not_run_does_not(
    patient: Server, upstream: str, http: Http
) -> None:
    call = {"call": {"index": 0, "id": "c1", "name": "wait", "arguments": '{"gate": "never"}'}}
    half = {"call": {"index": 0, "id": "c2", "name": "wait", "arguments": '{"ga'}}
    question = await script(http, upstream, "tools", {"say": "I wait. "}, call, {"finish": "tool_calls"})
    first = await stop_at(http, patient, "tools", question, "tool-input-available")
    await script(http, upstream, f"{question}+", {"say": "I give "}, half, {"wait": "never"})
    status, answer = await carry_on(http, patient, "tools", first["id"])
    assert status == 200, answer

    async def begun() -> Any:
        return len((await read_chat(http, patient, "tools"))["messages"][-1]["parts"]) == 4

    await eventually(begun)
    async with http.post(f"{patient.url}/api/chats/tools/stop") as stopped:
        assert stopped.status == 200
    second = await ended(http, patient, "tools")
    assert [part.get("error") for part in second["parts"]] == [
        None,
        "The reply ended before this was done.",
        None,
        "The tool was not run.",
    ]
    await script(http, upstream, CONTINUE, {"say": "up."}, {"finish": "stop"})
    third = await continued(http, patient, "tools", second["id"])
    assert [part["type"] for part in third["parts"]] == ["text", "tool", "text"]
    assert third["parts"][2] == {"type": "text", "text": "I give up.", "step": 1}


@pytest.fixture(scope="module")
def page_process() -> Iterator[Node]:
    with Node("ai_sdk.mjs", "7") as node:
        yield node


async def test_a_page_of_the_ai_sdk_lets_a_reply_continue(
    page_process: Node, patient: Server, upstream: str, http: Http
) -> None:
    page = Page(page_process, patient, "ui").begin()
    question = await script(http, upstream, "ui?", {"say": "Half an ans"}, {"finish": "length"})
    page.ask(question)
    first = (await ended(http, patient, "ui"))["id"]
    await script(http, upstream, CONTINUE, {"say": "wer."}, {"finish": "stop"})
    page.regenerate(messageId=first, body={"continue": True})
    shown = page.settled()["messages"][1:]
    assert [part["text"] for part in shown[-1]["parts"] if part["type"] == "text"] == ["Half an answer."]
    assert (len(shown), shown[-1]["id"] != first) == (1, True)
    async with http.get(f"{patient.url}/api/chat/ui") as response:
        assert (await response.json())["messages"][1:] == shown
    page.stop()


async def test_an_agent_is_told_what_it_continues(ann: Http, team: Server) -> None:
    first = await stop_at(ann, team, "agent", "count", "2 ", agent="counter")
    made = await continued(ann, team, "agent", first["id"])
    assert text_of(made) == "1 2 3 4 (after ‘1 2 ’, stopped; user assistant user)"
    assert made["model"] == "counter"


async def test_a_question_is_answered_to_the_end_by_whoever_reads_it_as_text(
    patient: Server, upstream: str, http: Http
) -> None:
    question = await script(http, upstream, "plain?", {"say": "It is "}, {"finish": "length"})
    first = await ui_reply(http, patient, ui_question("plain", question))
    await script(http, upstream, CONTINUE, {"say": "so."}, {"finish": "stop"})
    body = {"trigger": "regenerate-message", "messageId": first["id"], "continue": True}
    async with http.post(f"{patient.url}/api/chats/plain/stream", json=body) as response:
        assert (await received(response)).text == "It is so."


def test_the_copied_text_is_in_the_journal_once() -> None:
    text = "x" * 50_000
    parts = [{"type": "text", "text": text}]
    cut_off = {"id": "r1", "role": "assistant", "status": "stopped", "parts": parts, "parent": "q1", "model": "one"}
    state = {"messages": [{"id": "q1", "role": "user", "status": "complete", "parts": []}, cut_off], "leaf": "r1"}
    place: conversation.ReplyPayload = {"id": "r2", "run": "1", "node": "n", "model": "one"}
    action = continuations.continued("c", message="r1", reply=place)
    then, ops = produce(state, lambda draft: run(draft, action))
    assert len(encode(ops)) + len(encode(action.payload)) < len(text) + 1_000
    assert then["messages"][2]["parts"] == [{"type": "text", "text": text, "chunks": []}]
    assert then["messages"][1] == cut_off


def run(state: Any, action: Action) -> None:
    [handler] = [each for each in conversation.chat_slice.handlers if each.action_type == action.type]
    arguments: dict[str, Any] = {**action.payload, "action": Action(type=action.type, key="c", at=1)}
    handler.function(state, **arguments)


def test_a_call_of_another_model_gets_an_id_that_every_provider_accepts() -> None:
    tool = {"type": "tool", "call": "functions.look:0", "name": "look", "arguments": "{}", "status": "complete"}
    never = {**tool, "call": "2", "status": "error", "error": "The tool was not run."}
    offered = {**tool, "call": "3", "offer": {"id": "r1:2"}}
    message = {"id": "r1", "parts": [tool, never, offered]}
    first, second = continuations.copied(message, "r2", renamed=True).values()
    assert (len(first["call"]), second["offer"]["id"]) == (9, "r2:1")
    assert continuations.copied(message, "r2")[0] is tool


@pytest.mark.parametrize("parts", [[], [{"type": "tool", "error": "The tool was not run."}]])
def test_a_reply_without_content_does_not_continue(parts: Any) -> None:
    message = {"id": "r1", "role": "assistant", "status": "stopped", "parent": "q1", "parts": parts}
    with pytest.raises(Refused, match="no content yet"):
        continuations.check_continuable(message)
