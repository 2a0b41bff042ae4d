"""Approvals in the protocols' own clients: the AI SDK's `Chat`, both majors, and AG-UI's `HttpAgent`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import Server
from tests.support.ag_ui import events_of
from tests.support.ag_ui_client import Client
from tests.support.ag_ui_client import Node as AgentNode
from tests.support.ai_sdk import Page, loaded, said
from tests.support.approvals import Http, approvals, call, decide, orders, serving, waiting
from tests.support.chats import ended, read_chat
from tests.support.node import Node
from tests.support.provider import script

WAYS = [("6", "ui"), ("6", "last"), ("7", "ui"), ("7", "last"), ("7", "socket")]


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with serving(upstream) as running:
        yield running


@pytest.fixture(scope="module", params=WAYS, ids="-".join)
def way(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str, str]]:
    major, transport = request.param
    with Node("ai_sdk.mjs", major) as node:
        yield node, transport, f"{major}-{transport}"


def states(page: Any) -> list[str]:
    return [part["state"] for part in page["messages"][-1]["parts"] if part["type"].startswith("tool-")]


def decide_on(page: Page, call: int, *, approved: bool, reason: str | None = None) -> None:
    """The person clicks on one of two buttons."""
    tools = [part for part in page.node.ask("look")["messages"][-1]["parts"] if part["type"].startswith("tool-")]
    why = {} if reason is None else {"reason": reason}
    page.node.ask("decide", id=tools[call]["approval"]["id"], approved=approved, **why)


async def test_a_page_of_the_ai_sdk_approves_and_denies(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    question = await orders(http, upstream, f"order by {name}", 1, 2, then="One of two.")
    page = Page(node, server, f"ai-{name}").begin(transport=transport)
    shown = page.ask(question)
    assert (shown["status"], states(shown)) == ("ready", ["approval-requested", "approval-requested"])
    decide_on(page, 0, approved=True)
    decide_on(page, 1, approved=False, reason="Too dear.")
    shown = page.wait(status="ready", says="One of two.")
    assert states(shown) == ["output-available", "output-denied"]
    assert shown["error"] is None
    # it is the message that everybody is given who loads the page now
    assert shown["messages"][-1] == (await loaded(http, page))[-1]
    assert said(shown["messages"]) == [question, "I order. One of two."]


async def test_a_page_learns_of_arguments_that_another_window_has_edited(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    question = await orders(http, upstream, f"order edited by {name}", 1, 2, then="Both.")
    page = Page(node, server, f"edited-{name}").begin(transport=transport)
    page.ask(question)
    first = approvals(await ended(http, server, page.chat))[0]
    edited = {"id": first, "approved": True, "arguments": {"id": 99}}
    assert (await decide(http, server, page.chat, edited))[0] == 200
    for number in (0, 1):
        decide_on(page, number, approved=True)
    shown = page.wait(status="ready", says="Both.")
    tools = [part for part in shown["messages"][-1]["parts"] if part["type"].startswith("tool-")]
    assert [(tool["input"], tool["output"]) for tool in tools] == [({"id": 99}, "ordered 99"), ({"id": 2}, "ordered 2")]


async def test_a_page_that_is_loaded_later_decides(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    chat = f"later-{name}"
    await waiting(http, server, chat, await orders(http, upstream, f"order later by {name}", 3))
    page = Page(node, server, chat)
    page.begin(await loaded(http, page), transport=transport)
    decide_on(page, 0, approved=True)
    shown = page.wait(status="ready", says="Done.")
    assert states(shown) == ["output-available"]
    assert shown["messages"] == await loaded(http, page)


async def test_who_decides_otherwise_than_somebody_before_is_told(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    chat = f"second-{name}"
    reply = await waiting(http, server, chat, await orders(http, upstream, f"order second by {name}", 4))
    page = Page(node, server, chat)
    page.begin(await loaded(http, page), transport=transport)
    await decide(http, server, chat, {"id": approvals(reply)[0], "approved": False})
    await ended(http, server, chat)
    decide_on(page, 0, approved=True)
    page.wait(status="error")
    assert page.settled()["error"] == "Somebody has decided this already."


# AG-UI


async def interrupted(
    node: AgentNode, server: Server, http: Http, upstream: str, thread: str, *ids: int
) -> tuple[Client, Any]:
    question = await orders(http, upstream, f"order in {thread}", *ids)
    client = await Client(node, server, thread).open()
    seen = await (await client.start(question, id="q1")).done()
    assert seen.failure is None
    assert seen.last["type"] == "RUN_FINISHED"
    return client, seen


def run_input(thread: str) -> dict[str, Any]:
    return {"threadId": thread, "runId": "raw", "messages": [], "tools": [], "context": [], "state": {}}


def resumed(interrupts: list[Any], *payloads: Any) -> list[Any]:
    return [
        {"interruptId": interrupt["id"], "status": "cancelled" if payload is None else "resolved"}
        | ({} if payload is None else {"payload": payload})
        for interrupt, payload in zip(interrupts, payloads, strict=True)
    ]


async def test_an_interrupt_of_ag_ui_is_answered_with_other_arguments(
    node: AgentNode, server: Server, http: Http, upstream: str
) -> None:
    client, seen = await interrupted(node, server, http, upstream, "ag-edit", 1, 2)
    interrupts = seen.last["outcome"]["interrupts"]
    assert [interrupt["reason"] for interrupt in interrupts] == ["tool_call", "tool_call"]
    calls = {each["id"] for message in seen.messages for each in message.get("toolCalls", ())}
    assert {interrupt["toolCallId"] for interrupt in interrupts} == calls
    await client.start(
        run="run2", resume=resumed(interrupts, {"approved": True, "editedArgs": {"id": 10}}, {"approved": False})
    )
    seen = await client.done()
    assert seen.failure is None
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    results = [message["content"] for message in seen.messages if message["role"] == "tool"]
    assert results == ["ordered 10", "A person has denied this call."]
    assert seen.messages[-1]["content"] == "Done."


async def test_who_follows_with_ag_ui_sees_what_others_approve(
    node: AgentNode, server: Server, http: Http, upstream: str
) -> None:
    client, seen = await interrupted(node, server, http, upstream, "ag-follow", 3)
    follower = await (await Client(node, server, "ag-follow").open("follow=1")).start(run="joined", connect=True)
    assert (await follower.until_finished(1)).last["outcome"]["type"] == "interrupt"
    await client.start(run="run2", resume=resumed(seen.last["outcome"]["interrupts"], {"approved": True}))
    await client.done()
    seen = await follower.until_finished(2)
    assert seen.last["outcome"] == {"type": "success"}
    assert [message["content"] for message in seen.messages if message["role"] == "tool"] == ["ordered 3"]
    assert seen.messages[-1]["content"] == "Done."


async def test_what_is_not_allowed_is_an_error_of_the_run(
    node: AgentNode, server: Server, http: Http, upstream: str
) -> None:
    client, seen = await interrupted(node, server, http, upstream, "ag-rules", 4, 5)
    interrupts = seen.last["outcome"]["interrupts"]
    other = await Client(node, server, "ag-rules").open()
    seen = await (await other.start("Something else?", id="q2")).done()
    assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "waiting")
    partial = {**run_input("ag-rules"), "resume": resumed(interrupts[:1], {"approved": True})}
    async with http.post(f"{server.url}/ag-ui", json=partial) as response:  # the client would not send it
        [refused] = events_of(await response.read())
    assert (refused["type"], refused["code"]) == ("RUN_ERROR", "incomplete")
    await client.start(run="run3", resume=resumed(interrupts, None, None))
    seen = await client.done()
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    tools = [part["status"] for part in (await read_chat(http, server, "ag-rules"))["messages"][-1]["parts"][1:3]]
    assert tools == ["denied", "denied"]
    # an answer that comes again changes nothing
    await client.start(run="run4", resume=resumed(interrupts, None, None))
    seen = await client.done()
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})


# the text of three phases


async def test_the_text_of_phases_goes_on_after_the_wait(server: Server, http: Http, upstream: str) -> None:
    reply = await waiting(http, server, "phases", await orders(http, upstream, "order in phases", 6))
    async with http.ws_connect(f"{server.url}/ws?session_id=phases") as socket:
        text = ""
        while text != "I order. ":
            text += json.loads(await socket.receive_str()).get("chunk", "")
        await decide(http, server, "phases", {"id": approvals(reply)[0], "approved": True})
        last: Any = {}
        while not last.get("stream_end"):
            last = json.loads(await socket.receive_str())
            text += last.get("chunk", "")
    assert (text, last["id"]) == ("I order. Done.", reply["id"])


async def test_plain_text_ends_where_the_reply_waits(server: Server, http: Http, upstream: str) -> None:
    await script(http, upstream, "hello you", {"say": "Hello."}, {"finish": "stop"})
    async with http.post(f"{server.url}/api/chats") as response:
        chat = (await response.json())["id"]
    await script(http, upstream, "order in text", {"say": "I order. "}, call(7, id=7), {"finish": "tool_calls"})
    body = {"messages": [{"role": "user", "content": "order in text"}]}
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=body) as response:
        assert await response.text() == "I order. "
