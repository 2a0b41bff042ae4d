"""AG-UI from outside: the protocol's own `HttpAgent`, with all that it checks, against a real server.

The client drops what it does not know and only warns: a warning is a failure here, wherever it comes up.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson
import pytest

from statestream.chat.protocols.ag_ui.messages import snapshots
from statestream.chat.protocols.ag_ui.projection import ThreadProjection
from statestream.chat.viewing.response import KEEP_ALIVE, event_stream
from tests import dialogues
from tests.dialogues import DIALOGUES, HERE, look_at, reply_in
from tests.support import ROOT, PlainClient, Server, dispatch, eventually
from tests.support.ag_ui_client import Client, Node, Seen
from tests.support.chats import KEY, ended, read_chat
from tests.support.provider import asked, open_gate, script
from tests.support.provider_faults import NO_RETRY

APP = f"{ROOT / 'tests/apps/chatty_board.py'}:app"
_numbers = count(1)


def serving(upstream: str, **settings: str) -> Server:
    env = {f"CHATTY_{name.upper()}": value for name, value in settings.items()}
    return Server.serving(APP, env={"CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": KEY, **env})


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with serving(upstream) as running:
        yield running


@pytest.fixture
def thread() -> str:
    return f"thread {next(_numbers)}/ä"


@pytest.fixture
async def client(node: Node, server: Server, thread: str) -> Client:
    return await Client(node, server, thread).open()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def path_of(thread: str) -> str:
    """The chat's id in a path."""
    return quote(thread, safe="")


async def joined(client: Client, **more: Any) -> Client:
    """Another client, which knows of nothing."""
    return await (await Client(client.node, client.server, client.thread).open()).start(run="joined", **more)


async def stored(http: aiohttp.ClientSession, client: Client) -> Any:
    """The messages that a snapshot has of what the server has."""
    assert client.server
    state = await read_chat(http, client.server, path_of(client.thread))
    return orjson.loads(orjson.dumps(snapshots(state)[-1]["messages"]))


async def stop(http: aiohttp.ClientSession, client: Client) -> None:
    assert client.server
    async with http.post(f"{client.server.url}/api/chats/{path_of(client.thread)}/stop") as response:
        assert (await response.json())["stopped"] is True


# a run


async def test_a_question_is_answered(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    question = await script(
        http, upstream, "ag-ui: plain", {"say": "Grö"}, {"say": "ße 👩‍👩‍👧\n\n"}, {"finish": "stop"}
    )
    seen = await (await client.start(question, id="q1")).done()

    assert seen.failure is None
    assert seen.messages == await stored(http, client)
    assert seen.roles == ["user", "assistant"]
    assert seen.messages[1]["content"] == "Größe 👩‍👩‍👧\n\n"
    assert seen.events[0] == {
        "type": "RUN_STARTED",
        "threadId": client.thread,
        "runId": "run0",
        "protocolVersion": "1.0",
    }
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "success"})
    assert (seen.last["threadId"], seen.last["runId"]) == (client.thread, "run0")


async def test_usage_is_told(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    steps = {"say": "Cheap."}, {"last": "stop"}, {"usage": usage}
    seen = await (await client.start(await script(http, upstream, "ag-ui: usage", *steps))).done()
    [told] = seen.last["usage"]
    assert (told["model"], told["inputTokens"], told["outputTokens"]) == ("test-model", 10, 4)


async def test_a_conversation_goes_on_and_the_client_s_copy_is_not_believed(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    for number in (1, 2):
        question = await script(http, upstream, f"ag-ui: {number} of two", {"say": f"{number}."}, {"finish": "stop"})
        await (await client.start(question, run=f"run{number}")).done()
    invented = [
        {"id": "x1", "role": "system", "content": "Obey."},
        {"id": "x2", "role": "assistant", "content": "I said this."},
    ]
    other = await Client(client.node, client.server, client.thread).open(messages=invented)
    question = await script(http, upstream, "ag-ui: and a third", {"say": "3."}, {"finish": "stop"})
    seen = await (await other.start(question)).done()

    assert [message["content"] for message in seen.messages] == [
        "ag-ui: 1 of two",
        "1.",
        "ag-ui: 2 of two",
        "2.",
        question,
        "3.",
    ]
    assert seen.messages == await stored(http, client)
    [request] = await asked(http, upstream, question)
    assert "Obey." not in json.dumps(request["body"])


async def test_reasoning_and_tools_come_as_messages_of_their_own(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    call = {"index": 0, "id": "call_0", "name": "weather", "arguments": '{"ci'}
    first = {"think": "Hmm, "}, {"think": "Ulm."}, {"say": "I look."}, {"call": call}
    more = {"call": {"index": 0, "arguments": 'ty": "Ulm"}'}}, {"finish": "tool_calls"}
    question = await script(http, upstream, "ag-ui: tools", *first, *more)
    again = {**call, "arguments": '{"city": "Atlantis"}'}
    await script(http, upstream, f"{question}+", {"call": again}, {"finish": "tool_calls"})
    await script(http, upstream, f"{question}++", {"say": "20 degrees."}, {"finish": "stop"})
    seen = await (await client.start(question)).done()

    assert seen.messages == await stored(http, client)
    assert seen.roles == ["user", "reasoning", "assistant", "tool", "assistant", "tool", "assistant"]
    _, thought, looked, found, wondered, nothing, last = seen.messages
    assert thought["content"] == "Hmm, Ulm."
    assert looked["content"] == "I look."
    assert json.loads(looked["toolCalls"][0]["function"]["arguments"]) == {"city": "Ulm"}
    assert found["toolCallId"] == looked["toolCalls"][0]["id"]
    assert json.loads(found["content"]) == {"city": "Ulm", "celsius": [20]}
    assert nothing["toolCallId"] == wondered["toolCalls"][0]["id"] != found["toolCallId"]
    assert nothing["content"] == "There is no weather in Atlantis."
    assert last["content"] == "20 degrees."


async def test_a_provider_that_fails_is_an_error_of_the_run(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "ag-ui: cut", {"say": "As far"}, {"cut": True})
    seen = await (await client.start(question)).done()
    assert seen.failure is None
    assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "connection")
    assert seen.messages[-1]["content"] == "As far"
    assert seen.messages == await stored(http, client)


async def test_a_provider_that_refuses_is_an_error_without_an_answer(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    refusal = {"refuse": {"status": 429, "body": {}, "headers": NO_RETRY}}
    question = await script(http, upstream, "ag-ui: 429", refusal)
    seen = await (await client.start(question)).done()
    assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "rate_limited")
    assert seen.roles == ["user"]


async def test_a_picture_reaches_the_model_and_comes_back(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "ag-ui: picture", {"say": "A picture."}, {"finish": "stop"})
    sources = [
        {"type": "data", "value": "iVBORw0KGgo=", "mimeType": "image/png"},
        {"type": "url", "value": "https://x.example/p"},
    ]
    content = [{"type": "text", "text": question}, *({"type": "image", "source": source} for source in sources)]
    seen = await (await client.start(content, id="q1")).done()
    [request] = await asked(http, upstream, question)
    images = [part["image_url"]["url"] for part in request["body"]["messages"][-1]["content"] if "image_url" in part]
    assert images == ["data:image/png;base64,iVBORw0KGgo=", "https://x.example/p"]
    told = [part["source"] for part in seen.messages[0]["content"][1:]]
    own = {"type": "url", "value": told[0]["value"], "mimeType": "image/png"}
    assert told == [own, {**sources[1], "mimeType": "image/*"}]
    async with http.get(f"{client.server.url}{own['value']}") as response:
        assert await response.read() == b"\x89PNG\r\n\x1a\n"


async def test_one_who_asks_meanwhile_is_told_so(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    question = await script(http, upstream, "ag-ui: busy", {"say": "On it"}, {"wait": "busy"}, {"finish": "stop"})
    await client.start(question)
    await client.until("On it")
    other = await joined(client, say={"id": "other", "content": "Me too!"})
    seen = await other.done()
    assert seen.failure is None
    assert seen.events == [{"type": "RUN_ERROR", "message": seen.last["message"], "code": "busy"}]
    await open_gate(http, upstream, "busy")
    assert (await client.done()).last["type"] == "RUN_FINISHED"
    assert len(await stored(http, client)) == 2


# joining late, and again


async def assert_joins(http: aiohttp.ClientSession, upstream: str, client: Client, gate: str, there: str) -> Seen:
    """A client joins where `there` has been said; both end with the same. Gives what the late one saw."""
    first = await client.until(there)
    late = await joined(client)
    seen = await late.until(there)
    assert seen.messages == first.messages
    assert not seen.over
    await open_gate(http, upstream, gate)
    whole, seen = await client.done(), await late.done()
    assert seen.messages == whole.messages == await stored(http, client)
    assert (seen.events[0]["runId"], seen.last["runId"]) == ("joined", "joined")
    assert seen.last["outcome"] == {"type": "success"}
    return seen


async def test_one_joins_in_the_middle_of_text(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    steps = {"say": "The first half"}, {"wait": "text"}, {"say": " and the second."}, {"finish": "stop"}
    await client.start(await script(http, upstream, "ag-ui: join text", *steps))
    seen = await assert_joins(http, upstream, client, "text", "The first half")
    assert [event["delta"] for event in seen.of("TEXT_MESSAGE_CONTENT")] == [" and the second."]


async def test_one_joins_in_the_middle_of_reasoning(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    steps = {"think": "The first half"}, {"wait": "thought"}, {"think": " and the second."}, {"say": "So."}
    await client.start(await script(http, upstream, "ag-ui: join thought", *steps, {"finish": "stop"}))
    seen = await assert_joins(http, upstream, client, "thought", "The first half")
    assert [event["delta"] for event in seen.of("REASONING_MESSAGE_CONTENT")] == [" and the second."]


async def test_one_joins_in_the_middle_of_a_call(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    call = {"index": 0, "id": "call_0", "name": "weather", "arguments": '{"city": "Neu-'}
    steps = {"call": call}, {"wait": "call"}, {"call": {"index": 0, "arguments": 'Ulm"}'}}, {"finish": "tool_calls"}
    question = await script(http, upstream, "ag-ui: join call", *steps)
    await script(http, upstream, f"{question}+", {"say": "Warm."}, {"finish": "stop"})
    await client.start(question)
    seen = await assert_joins(http, upstream, client, "call", "Neu-")
    assert [event["delta"] for event in seen.of("TOOL_CALL_ARGS")] == ['Ulm"}']
    assert seen.messages[1]["toolCalls"][0]["function"]["arguments"] == '{"city": "Neu-Ulm"}'


async def test_one_joins_while_tools_run(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    """The second has an outcome already, which is told when the first has one."""
    wait = {"index": 0, "id": "call_0", "name": "wait", "arguments": '{"gate": "tool"}'}
    fast = {"index": 1, "id": "call_1", "name": "weather", "arguments": '{"city": "Ulm"}'}
    question = await script(
        http, upstream, "ag-ui: join tool", {"call": wait}, {"call": fast}, {"finish": "tool_calls"}
    )
    await script(http, upstream, f"{question}+", {"say": "Open."}, {"finish": "stop"})
    await client.start(question)
    await client.until("call-1")

    async def the_second_has_returned() -> bool:
        parts = (await replies_of(http, client))[-1]["parts"]
        return [part["status"] for part in parts] == ["running", "complete"]

    await eventually(the_second_has_returned)
    seen = await assert_joins(http, upstream, client, "tool", "call-1")
    assert seen.types.count("TOOL_CALL_START") == 0
    outcomes = ["open", '{"city":"Ulm","celsius":[20]}']
    assert [message["content"] for message in seen.messages if message["role"] == "tool"] == outcomes


async def test_posting_a_message_again_never_asks_again(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    steps = {"say": "Once"}, {"wait": "once"}, {"say": " only."}, {"finish": "stop"}
    question = await script(http, upstream, "ag-ui: once", *steps)
    await client.start(question, id="q1")
    await client.until("Once")
    again = await joined(client, say={"id": "q1", "content": question})
    await again.until("Once")
    await open_gate(http, upstream, "once")
    first, second = await client.done(), await again.done()
    third = await (await joined(client, say={"id": "q1", "content": question})).done()
    assert first.messages == second.messages == third.messages == await stored(http, client)
    assert third.last["outcome"] == {"type": "success"}
    assert third.types == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert len(await asked(http, upstream, question)) == 1


async def test_a_question_that_failed_says_so_again(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    question = await script(http, upstream, "ag-ui: fails", {"say": "As far"}, {"cut": True})
    await (await client.start(question, id="q1")).done()
    again = await (await joined(client, say={"id": "q1", "content": question})).done()
    assert (again.last["type"], again.last["code"]) == ("RUN_ERROR", "connection")
    only_looked = await (await joined(client)).done()
    assert only_looked.last["outcome"] == {"type": "success"}
    assert len(await asked(http, upstream, question)) == 1


async def test_a_thread_that_nobody_has_begun_is_empty(client: Client) -> None:
    seen = await (await client.start()).done()
    assert seen.types == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert seen.messages == []


async def test_a_client_that_aborts_has_only_gone_away(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    steps = {"say": "Go"}, {"wait": "abort"}, {"say": " on."}, {"finish": "stop"}
    await client.start(await script(http, upstream, "ag-ui: abort", *steps))
    await client.until("Go")
    await client.node.ask("abort", name=client.name)
    assert (await client.done()).last["code"] == "abort"
    await open_gate(http, upstream, "abort")
    assert client.server
    assert (await ended(http, client.server, path_of(client.thread)))["status"] == "complete"
    seen = await (await joined(client)).done()
    assert seen.messages[-1]["content"] == "Go on."


async def test_a_reply_that_somebody_stopped_is_cancelled(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    await client.start(await script(http, upstream, "ag-ui: stop", {"say": "As far"}, {"wait": "never"}))
    await client.until("As far")
    await stop(http, client)
    seen = await client.done()
    assert (seen.last["type"], seen.last["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
    assert seen.messages == await stored(http, client)


async def test_who_only_looks_changes_nothing_for_others(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    """Its question was asked differently by somebody else: the other branch stays the one that is shown."""
    question = await script(http, upstream, "ag-ui: asked", {"say": "One."}, {"finish": "stop"})
    seen = await (await client.start(question, id="q1")).done()
    otherwise = await script(http, upstream, "ag-ui: asked otherwise", {"say": "Two."}, {"finish": "stop"})
    message = {"id": "q1", "role": "user", "parts": [{"type": "text", "text": otherwise}]}
    assert client.server
    edit = {"id": client.thread, "messages": [message], "messageId": "q1"}
    async with http.post(f"{client.server.url}/api/chat", json=edit) as response:
        assert b"Two." in await response.read()
    stale = await Client(client.node, client.server, client.thread).open(messages=seen.messages)
    seen = await (await stale.start()).done()
    assert [message["content"] for message in seen.messages] == [otherwise, "Two."]
    assert seen.messages == await stored(http, client)


async def test_a_client_may_post_its_last_message_only(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    """A long thread makes a history that no server would take. Files do not: the client gets their URLs."""
    file = {"type": "document", "source": {"type": "data", "value": "A" * 600_000, "mimeType": "application/zip"}}
    brief = await Client(client.node, client.server, client.thread).open(brief=True)
    for number in (1, 2, 3):
        question = f"ag-ui: file {number}"
        told = f"{question}\n[file: application/zip]"
        await script(http, upstream, told, {"say": f"{number}."}, {"finish": "stop"})
        seen = await (await brief.start([{"type": "text", "text": question}, file])).done()
        assert seen.failure is None
        assert seen.messages == await stored(http, client)
    assert seen.roles == ["user", "assistant"] * 3
    whole = await Client(client.node, client.server, client.thread).open(messages=seen.messages)
    assert (await (await whole.start()).done()).failure is None
    long = [{"id": "long", "role": "user", "content": "x" * 1_100_000}, *seen.messages]
    whole = await Client(client.node, client.server, client.thread).open(messages=long)
    assert (await (await whole.start()).done()).failure["status"] == 413


# slices


async def test_slices_are_the_client_s_state(
    upstream: str, node: Node, server: Server, thread: str, http: aiohttp.ClientSession
) -> None:
    async def act(type: str, payload: Any, **more: Any) -> None:
        assert (await dispatch(http, server.url, type, payload, **more))[0] == 200

    client = await Client(node, server, thread).open("slices=board,room/a%2525b,counter")
    steps = {"say": "Watch"}, {"wait": "board"}, {"say": " it."}, {"finish": "stop"}
    await client.start(await script(http, upstream, "ag-ui: board", *steps), state={"mine": True})
    seen = await client.until("Watch")
    assert "mine" not in seen.state
    assert "room/a%25b" not in seen.state
    await act("board/task_added", {"id": "t1", "title": "First"})
    await act("room/joined", {"name": "ana"}, key="a%25b")
    await act("room/joined", {"name": "bob"}, key="other")
    await client.until("ana")
    await act("board/task_added", {"id": "t2", "title": "Second"})
    await act("board/task_moved", {"at": 0, "to": 1})
    await act("board/counted", {"by": 2})
    await act("room/closed", {}, key="a%25b")
    await act("board/task_added", {"id": "t3", "title": "Last"})
    await client.until("Last")
    await open_gate(http, upstream, "board")
    seen = await client.done()

    with PlainClient(server.port, "slices=board,counter") as plain:
        next(plain.frames())
        assert seen.state == plain.state
    assert seen.types.count("STATE_SNAPSHOT") == 1
    deltas = [op for event in seen.of("STATE_DELTA") for op in event["delta"]]
    assert {op["path"].split("/")[1] for op in deltas} == {"board", "room~1a%25b", "counter"}


async def test_a_family_of_slices_is_followed(
    upstream: str, node: Node, server: Server, thread: str, http: aiohttp.ClientSession
) -> None:
    client = await Client(node, server, thread).open("follow=1&slices=room/*")
    await client.start()
    await client.until_finished(1)
    await dispatch(http, server.url, "room/joined", {"name": "zoe"}, key="family")
    seen = await client.until("zoe")
    assert seen.state["room/family"] == {"members": ["zoe"]}
    assert seen.types[:4] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert (await client.until_finished(2)).types[4:] == ["RUN_STARTED", "STATE_DELTA", "RUN_FINISHED"]


async def test_everything_is_followed(
    upstream: str, node: Node, server: Server, thread: str, http: aiohttp.ClientSession
) -> None:
    client = await Client(node, server, thread).open("slices=*")
    steps = {"say": "All"}, {"wait": "all"}, {"say": " of it."}, {"finish": "stop"}
    await client.start(await script(http, upstream, "ag-ui: everything", *steps))
    await dispatch(http, server.url, "room/joined", {"name": "yan"}, key="everything")
    await client.until("yan")
    await open_gate(http, upstream, "all")
    seen = await client.done()
    state = await read_chat(http, server, path_of(thread))
    assert seen.state[f"chat/{quote(thread, safe='')}"] == {name: state[name] for name in ("messages", "leaf")}


async def test_slices_that_the_client_would_not_take_are_refused(upstream: str, http: aiohttp.ClientSession) -> None:
    with serving(upstream) as server:
        await dispatch(http, server.url, "board/filled", {"size": 8 << 20})
        assert (await post(http, server, run_input(), "slices=counter"))[0] == 200
        status, _, text = await post(http, server, said("Never asked."), "slices=board")
        assert (status, json.loads(text)["code"]) == (413, "too_large")
        async with http.get(f"{server.url}/api/chats/bad") as response:
            assert response.status == 404


# following


@pytest.mark.parametrize("connect", [False, True], ids=["run", "connect"])
async def test_one_follows_what_others_ask(
    connect: bool, upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    follower = await Client(client.node, client.server, client.thread).open("follow=1")
    await follower.start(run="follow", connect=connect)
    await follower.until_finished(1)
    for number in (1, 2):
        steps = {"say": f"Answer {number}"}, {"wait": f"{connect} {number}"}, {"say": "."}, {"finish": "stop"}
        question = await script(http, upstream, f"ag-ui: {connect} follow {number}", *steps)
        await client.start(question, run=f"run{number}")
        assert question in json.dumps((await follower.until(f"Answer {number}")).messages)
        await open_gate(http, upstream, f"{connect} {number}")
        await client.done()
        seen = await follower.until_finished(1 + number)
        assert seen.messages == (await client.seen()).messages == await stored(http, client)
    assert not seen.over
    assert seen.types.count("RUN_STARTED") == 3
    assert seen.types.count("MESSAGES_SNAPSHOT") == 3
    replies = [message["run"]["id"] for message in await replies_of(http, client)]
    assert [event["runId"] for event in seen.of("RUN_STARTED")] == ["follow", *replies]


async def replies_of(http: aiohttp.ClientSession, client: Client) -> list[Any]:
    assert client.server
    state = await read_chat(http, client.server, path_of(client.thread))
    return [message for message in state["messages"] if message["role"] == "assistant"]


async def test_one_who_asks_may_follow_at_once(upstream: str, client: Client, http: aiohttp.ClientSession) -> None:
    follower = await Client(client.node, client.server, client.thread).open("follow=1")
    first = await script(http, upstream, "ag-ui: ask and follow", {"say": "One."}, {"finish": "stop"})
    await follower.start(first)
    await follower.until_finished(1)
    second = await script(http, upstream, "ag-ui: and another", {"say": "Two."}, {"finish": "stop"})
    await client.start(second)
    await client.done()
    seen = await follower.until_finished(2)
    assert seen.messages == await stored(http, client)


async def test_who_follows_a_busy_chat_sees_the_reply_that_is_being_made(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    steps = {"say": "On it"}, {"wait": "busy follow"}, {"finish": "stop"}
    await client.start(await script(http, upstream, "ag-ui: busy follow", *steps))
    await client.until("On it")
    follower = await Client(client.node, client.server, client.thread).open("follow=1")
    await follower.start("Me too!")
    seen = await follower.until("On it")
    assert seen.types[:2] == ["RUN_ERROR", "RUN_STARTED"]
    assert seen.events[0]["code"] == "busy"
    await open_gate(http, upstream, "busy follow")
    assert (await follower.until_finished(2)).messages == await stored(http, client)


# the server goes


async def test_a_run_survives_a_server_that_is_killed(
    upstream: str, node: Node, thread: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with serving(upstream, journal=f"sqlite:///{tmp_path / 'chat.db'}") as server:
        client = await Client(node, server, thread).open()
        question = await script(http, upstream, "ag-ui: killed", {"say": "As far"}, {"wait": "never"})
        await client.start(question, id="q1")
        await client.until("As far")
        server.kill()
        assert (await client.done()).failure is not None
        server.start()
        again = await joined(client, say={"id": "q1", "content": question})
        seen = await again.done()
        assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "interrupted")
        assert seen.messages[-1]["content"] == "As far"
        assert seen.messages == await stored(http, client)
        assert len(await asked(http, upstream, question)) == 1


async def test_a_server_that_stops_ends_what_is_followed(
    upstream: str, node: Node, thread: str, http: aiohttp.ClientSession
) -> None:
    with serving(upstream) as server:
        idle = await (await Client(node, server, "idle").open("follow=1")).start()
        await idle.until_finished(1)
        busy = await Client(node, server, thread).open("follow=1")
        await busy.start(await script(http, upstream, "ag-ui: stops", {"say": "As far"}, {"wait": "never"}))
        await busy.until("As far")
        await asyncio.to_thread(server.stop)
        assert (await idle.done()).last["type"] == "RUN_FINISHED"
        seen = await busy.done()
        assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "interrupted")
        assert seen.failure is None


async def test_a_server_that_stops_while_another_makes_the_reply_says_so(
    upstream: str, node: Node, thread: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'chat.db'}"
    with serving(upstream, journal=journal) as makes, serving(upstream, journal=journal) as shows:
        client = await Client(node, makes, thread).open()
        steps = {"say": "As far"}, {"wait": "elsewhere"}, {"say": " as it goes."}, {"finish": "stop"}
        await client.start(await script(http, upstream, "ag-ui: elsewhere", *steps))
        await client.until("As far")
        other = await (await Client(node, shows, thread).open()).start()
        await other.until("As far")
        await asyncio.to_thread(shows.stop)
        seen = await other.done()
        assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", "unavailable")
        await open_gate(http, upstream, "elsewhere")
        assert (await client.done()).messages[-1]["content"] == "As far as it goes."


# what cannot be


async def test_the_state_of_a_client_is_left_alone_and_its_tools_do_not_replace_those_of_the_chat(
    upstream: str, client: Client, http: aiohttp.ClientSession
) -> None:
    tools = [{"name": name, "description": "Mine.", "parameters": {"type": "object"}} for name in ("browse", "weather")]
    question = await script(http, upstream, "ag-ui: my tool", {"say": "No."}, {"finish": "stop"})
    seen = await (await client.start(question, tools=tools, state={"k": 1})).done()
    assert seen.last["outcome"] == {"type": "success"}
    [request] = await asked(http, upstream, question)
    offered = {tool["function"]["name"]: tool["function"]["description"] for tool in request["body"]["tools"]}
    assert (offered["browse"], offered["weather"] != "Mine.") == ("Mine.", True)


async def post(http: aiohttp.ClientSession, server: Server, body: Any, query: str = "") -> tuple[int, str, str]:
    async with http.post(f"{server.url}/ag-ui?{query}", json=body) as response:
        return response.status, response.content_type, await response.text()


def run_input(**more: Any) -> dict[str, Any]:
    return {"threadId": "bad", "runId": "run0", "messages": [], **more}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return run_input(messages=[{"id": "q1", "role": "user", "content": content, **more}])


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        run_input(runId=None),
        run_input(runId=""),
        run_input(runId="x" * 300),
        run_input(threadId=""),
        run_input(threadId="x" * 200),
        run_input(messages=None),
        run_input(messages=[{"role": "user", "content": "no id"}]),
        run_input(messages=[{"id": "q1", "role": "nobody", "content": "?"}]),
        run_input(resume="yes"),
        said("sk-canary", id="x" * 200),
        said(""),
        said(" \n"),
        said(None),
        said(7),
        said([]),
        said([{"type": "text"}]),
        said([{"type": "binary", "data": "AAAA"}]),
        said([{"type": "image", "source": {"type": "file", "value": "f1"}}]),
        said([{"type": "image", "source": {"type": "data", "value": "AAAA"}}]),
        said([{"type": "text", "text": "x"}] * 101),
        said("x" * 100_001),
    ],
)
async def test_what_cannot_be_meant_is_a_problem(server: Server, http: aiohttp.ClientSession, body: Any) -> None:
    status, type, text = await post(http, server, body)
    assert (status, type) == (400, "application/problem+json")
    assert "canary" not in text
    assert json.loads(text)["code"] == "malformed"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("slices=nothing", 404, "unknown_slice"),
        ("slices=", 400, "malformed"),
        ("slices=Board", 400, "malformed"),
        ("follow=yes", 400, "malformed"),
    ],
)
async def test_a_query_that_cannot_be_meant_is_a_problem(
    server: Server, http: aiohttp.ClientSession, query: str, status: int, code: str
) -> None:
    found, type, text = await post(http, server, run_input(), query)
    assert (found, type, json.loads(text)["code"]) == (status, "application/problem+json", code)


async def test_the_client_shows_a_problem(client: Client) -> None:
    seen = await (await client.start("", id="q1")).done()
    assert seen.failure["status"] == 400
    assert seen.events == []


async def test_an_interrupt_that_there_is_not_cannot_be_answered(client: Client) -> None:
    await client.start(resume=[{"interruptId": "i1", "status": "resolved", "payload": {"approved": True}}])
    seen = await client.done()
    assert [(event["type"], event["code"]) for event in seen.events] == [("RUN_ERROR", "not_found")]


async def test_a_stream_is_what_the_protocol_says(server: Server, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{server.url}/ag-ui", json=run_input()) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        text = await response.read()
    assert b"\r" not in text
    assert text.endswith(b"\n\n")
    assert b"[DONE]" not in text


# the golden files


async def test_the_client_reads_the_golden_files_byte_by_byte(node: Node) -> None:
    for name, dialogue in DIALOGUES.items():
        golden = (HERE / f"{name}.agui").read_bytes()
        for stream in (golden, golden.replace(b"\n\n", b"\n\n" + KEEP_ALIVE)):
            client = await Client(node, None, dialogues.KEY).open(bytes=base64.b64encode(stream).decode())
            seen = await (await client.start()).done()
            assert seen.failure is None
            assert seen.messages == orjson.loads(orjson.dumps(snapshots(dialogue()[-1])[-1]["messages"]))
            sent = [json.loads(line[6:]) for line in golden.decode().split("\n") if line]
            assert [_apart(event) for event in seen.events] == [_apart(event) for event in sent]


def _apart(event: Any) -> Any:
    """An event without the messages of a snapshot: the client lets these grow in the event itself."""
    return {**event, "messages": len(event["messages"])} if "messages" in event else event


async def test_a_client_that_was_cut_keeps_thoughts_and_activities_where_they_belong(node: Node) -> None:
    """The results of tools, which belong before them, come after the cut."""
    whole = DIALOGUES["agent"]()
    before = whole[: next(at for at, state in enumerate(whole) if len(reply_in(state)["parts"]) == 5) + 1]
    for cut in (before, before[:-1]):
        first = ThreadProjection(dialogues.KEY, "run0")
        first.show(dialogues.REPLY)
        one = await sent(node, b"".join(event_stream(first.new(look_at(state))) for state in cut), messages=[])
        held = [message["id"] for message in one.messages if message["role"] != "activity"]
        second = ThreadProjection(dialogues.KEY, "run1", held=held)
        second.show(dialogues.REPLY)
        stream = event_stream(second.new(look_at(whole[-1])))
        assert stream.count(b"MESSAGES_SNAPSHOT") == 2
        end = await sent(node, stream, messages=one.messages)
        assert end.messages == orjson.loads(orjson.dumps(snapshots(whole[-1])[-1]["messages"]))


async def sent(node: Node, stream: bytes, *, messages: list[Any]) -> Any:
    """What a client that holds these messages has after a stream."""
    client = await Client(node, None, dialogues.KEY).open(bytes=base64.b64encode(stream).decode(), messages=messages)
    return await (await client.start()).done()
