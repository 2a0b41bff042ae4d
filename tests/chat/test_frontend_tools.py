"""Tools that windows run: offered, claimed by one window, answered once, in every protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import Server
from tests.support.ag_ui_client import Client
from tests.support.ag_ui_client import Node as AgentNode
from tests.support.ai_sdk import Page, loaded
from tests.support.approvals import Http, call, decide, serving, waiting
from tests.support.chats import ended
from tests.support.node import Node
from tests.support.provider import asked, script


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with serving(upstream) as running:
        yield running


async def located(http: Http, upstream: str, question: str, *more: Any) -> str:
    """The model wants to know where the person is, and says so when it does."""
    calls = [call("where", "locate", 0, precision="street"), *more]
    await script(http, upstream, f"{question}+", {"say": "There."}, {"finish": "stop"})
    return await script(http, upstream, question, *calls, {"finish": "tool_calls"})


def offer(reply: Any) -> str:
    return str(next(part["offer"]["id"] for part in reply["parts"] if "offer" in part))


async def send(http: Http, server: Server, chat: str, route: str, body: Any) -> tuple[int, Any]:
    async with http.post(f"{server.url}/api/chats/{chat}/{route}", json=body) as response:
        return response.status, await response.json()


async def test_one_window_claims_a_call_and_answers_it_once(server: Server, upstream: str, http: Http) -> None:
    question = await located(http, upstream, "where am I")
    reply = await waiting(http, server, "claimed", question)
    id = offer(reply)
    assert (await send(http, server, "claimed", "claims", {"id": id, "window": "one"}))[0] == 200
    status, problem = await send(http, server, "claimed", "claims", {"id": id, "window": "two"})
    assert (status, problem["reason"]) == (409, "claimed")
    result = {"results": [{"id": id, "result": {"lat": 48.4}}]}
    for window in ({}, {"window": "two"}):
        status, problem = await send(http, server, "claimed", "results", result | window)
        assert (status, problem["reason"]) == (409, "claimed")
    assert (await send(http, server, "claimed", "claims", {"id": id, "window": "one"}))[0] == 200  # for longer
    assert (await send(http, server, "claimed", "results", result | {"window": "one"}))[0] == 200
    done = await ended(http, server, "claimed")
    assert (done["status"], done["parts"][0]["result"], done["parts"][1]["text"]) == (
        "complete",
        {"lat": 48.4},
        "There.",
    )
    request = (await asked(http, upstream, question))[-1]["body"]
    [told] = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    assert json.loads(told) == {"lat": 48.4}
    # the same again changes nothing, also from a window that comes too late
    assert (await send(http, server, "claimed", "results", result))[0] == 200
    assert (await send(http, server, "claimed", "claims", {"id": id, "window": "two"}))[0] == 409


async def test_a_window_says_why_it_has_no_result(server: Server, upstream: str, http: Http) -> None:
    reply = await waiting(http, server, "failed", await located(http, upstream, "where is it"))
    body = {"results": [{"id": offer(reply), "error": "The person does not want to say."}]}
    assert (await send(http, server, "failed", "results", body))[0] == 200
    part = (await ended(http, server, "failed"))["parts"][0]
    assert (part["status"], part["error"]) == ("error", "The person does not want to say.")


async def test_of_many_windows_that_answer_at_once_one_counts(server: Server, upstream: str, http: Http) -> None:
    reply = await waiting(http, server, "many", await located(http, upstream, "where are we"))
    bodies = [{"results": [{"id": offer(reply), "result": number}]} for number in range(8)]
    await asyncio.gather(*(send(http, server, "many", "results", body) for body in bodies))
    done = await ended(http, server, "many")
    assert (done["status"], done["parts"][0]["result"] in range(8)) == ("complete", True)


async def test_a_call_beside_one_that_needs_approval(server: Server, upstream: str, http: Http) -> None:
    question = await located(http, upstream, "where and what", call(91, "order", 1, id=91))
    reply = await waiting(http, server, "beside", question)
    [approval] = [part["approval"]["id"] for part in reply["parts"] if "approval" in part]
    assert (await decide(http, server, "beside", {"id": offer(reply), "approved": True}))[0] == 404
    assert (await send(http, server, "beside", "results", {"results": [{"id": offer(reply), "result": 1}]}))[0] == 200
    assert (await decide(http, server, "beside", {"id": approval, "approved": True}))[0] == 200
    done = await ended(http, server, "beside")
    assert [part.get("result") for part in done["parts"][:2]] == [1, "ordered 91"]


async def test_a_call_is_offered_over_a_restart(upstream: str, http: Http, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = await located(http, upstream, "where after a restart")
    with serving(upstream, JOURNAL=journal) as server:
        reply = await waiting(http, server, "kept", question)
        server.kill()
    with serving(upstream, JOURNAL=journal) as server:
        assert (await send(http, server, "kept", "results", {"results": [{"id": offer(reply), "result": 1}]}))[0] == 200
        assert (await ended(http, server, "kept"))["status"] == "complete"


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("claims", {}, 400),
        ("claims", {"id": "r:0", "window": "w"}, 404),
        ("claims", {"id": "no id", "window": ""}, 400),
        ("results", {"results": []}, 400),
        ("results", {"results": [{"id": "r:0", "result": 1}]}, 404),
        ("results", {"results": [{"id": "a:0"}, {"id": "b:0"}]}, 400),
    ],
)
async def test_bad_bodies_are_refused(
    server: Server, http: Http, upstream: str, route: str, body: Any, status: int
) -> None:
    async with http.post(f"{server.url}/api/chats") as response:
        chat = (await response.json())["id"]
    assert (await send(http, server, chat, route, body))[0] == status


@pytest.fixture(scope="module", params=[("6", "ui"), ("7", "ui"), ("7", "socket")], ids="-".join)
def way(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str, str]]:
    major, transport = request.param
    with Node("ai_sdk.mjs", major) as node:
        yield node, transport, f"{major}-{transport}"


async def test_a_page_of_the_ai_sdk_runs_a_tool(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    page = Page(node, server, f"page-{name}").begin(transport=transport)
    shown = page.ask(await located(http, upstream, f"where by {name}"))
    [tool] = [part for part in shown["messages"][-1]["parts"] if part["type"] == "tool-locate"]
    assert (tool["state"], tool["input"]) == ("input-available", {"precision": "street"})
    node.ask("output", tool="locate", toolCallId=tool["toolCallId"], output={"lat": 48.4})
    shown = page.wait(status="ready", says="There.")
    assert shown["error"] is None
    assert shown["messages"][-1] == (await loaded(http, page))[-1]


async def test_an_agent_of_ag_ui_runs_a_tool(node: AgentNode, server: Server, http: Http, upstream: str) -> None:
    client = await Client(node, server, "ag-where").open()
    seen = await (await client.start(await located(http, upstream, "where in AG-UI"), id="q1")).done()
    [pending] = seen.last["outcome"]["pendingToolCallIds"]
    assert seen.last["outcome"]["type"] == "success"
    answer = {"id": "t1", "role": "tool", "toolCallId": pending, "content": json.dumps({"lat": 48.4})}
    await node.ask("add", name=client.name, message=answer)
    seen = await (await client.start(run="run2")).done()
    assert seen.failure is None
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    assert seen.messages[-1]["content"] == "There."
    assert (await ended(http, server, "ag-where"))["parts"][0]["result"] == {"lat": 48.4}


PICK = {
    "name": "pick_color",
    "description": "Lets the person pick a color.",
    "parameters": {"type": "object", "properties": {"of": {"type": "array", "items": {"type": "string"}}}},
}


async def test_an_agent_of_ag_ui_declares_its_own_tools(
    node: AgentNode, server: Server, http: Http, upstream: str
) -> None:
    question = "which color"
    calls = [call("color", "pick_color", 0, of=["red", "blue"]), call("bad", "pick_color", 1)]
    calls[1]["call"]["arguments"] = "[]"  # no object: no window could run it
    await script(http, upstream, question, *calls, {"finish": "tool_calls"})
    await script(http, upstream, f"{question}+", call("again", "pick_color"), {"finish": "tool_calls"})
    await script(http, upstream, f"{question}++", {"say": "Blue."}, {"finish": "stop"})
    client = await Client(node, server, "ag-declared").open()
    seen = await (await client.start(question, id="q1", tools=[PICK])).done()
    [pending] = seen.last["outcome"]["pendingToolCallIds"]
    for number in (1, 2):  # the tools are known in the second run, too, which declares none
        answer = {"id": f"t{number}", "role": "tool", "toolCallId": pending, "content": "blue"}
        await node.ask("add", name=client.name, message=answer)
        seen = await (await client.start(run=f"more{number}")).done()
        assert seen.last["type"] == "RUN_FINISHED", seen.last
        if number == 1:
            [pending] = seen.last["outcome"]["pendingToolCallIds"]
    assert seen.messages[-1]["content"] == "Blue."
    parts = (await ended(http, server, "ag-declared"))["parts"]
    assert [part["status"] for part in parts[:3]] == ["complete", "error", "complete"]
    for request in await asked(http, upstream, question):
        assert "pick_color" in [tool["function"]["name"] for tool in request["body"]["tools"]]


async def test_tools_that_say_too_much_are_refused(server: Server, http: Http) -> None:
    body = {"threadId": "much", "runId": "r", "messages": [{"id": "q", "role": "user", "content": "Hello?"}]}
    for tools in ([PICK] * 33, [{**PICK, "name": "no name"}], [{**PICK, "parameters": {"title": "x" * 10_000}}]):
        async with http.post(f"{server.url}/ag-ui", json={**body, "tools": tools}) as response:
            assert response.status == 400, await response.text()


async def test_an_interrupt_beside_a_tool_of_the_front_end(
    node: AgentNode, server: Server, http: Http, upstream: str
) -> None:
    question = await located(http, upstream, "order here", call(92, "order", 1, id=92))
    client = await Client(node, server, "ag-both").open()
    seen = await (await client.start(question, id="q1")).done()
    [interrupt] = seen.last["outcome"]["interrupts"]
    calls = {made["id"] for message in seen.messages for made in message.get("toolCalls", ())}
    [where] = calls - {interrupt["toolCallId"]}
    resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}]
    told = {"id": "t1", "role": "tool", "toolCallId": where, "content": "here"}
    await node.ask("add", name=client.name, message=told)
    seen = await (await client.start(run="run2", resume=resume)).done()
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    assert seen.messages[-1]["content"] == "There."


async def test_a_page_does_not_send_its_output_again_if_the_reply_is_stopped_then(
    server: Server, upstream: str, http: Http, way: tuple[Node, str, str]
) -> None:
    node, transport, name = way
    question = f"where until stopped by {name}"
    await script(http, upstream, question, call("where", "locate", 0, precision="street"), {"finish": "tool_calls"})
    await script(http, upstream, f"{question}+", {"wait": "never"})
    page = Page(node, server, f"stopped-{name}").begin(transport=transport)
    shown = page.ask(question)
    [tool] = [part for part in shown["messages"][-1]["parts"] if part["type"] == "tool-locate"]
    node.ask("output", tool="locate", toolCallId=tool["toolCallId"], output={"lat": 48.4})
    page.wait(status="streaming")
    async with http.post(f"{server.url}/api/chats/{page.chat}/stop") as response:
        assert response.status == 200
    page.wait(status="ready")
    await script(http, upstream, f"and now, {name}?", {"say": "Nothing."}, {"finish": "stop"})
    shown = page.ask(f"and now, {name}?")
    assert (shown["status"], shown["error"]) == ("ready", None)
    assert len(shown["posts"]) == (0 if transport == "socket" else 3), "what goes over a socket is not recorded"
