"""The AI SDK over a WebSocket: `WebSocketChatTransport` of its major 7, and what no client of its would send."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.chat.protocols.ai_sdk.messages import ui_message
from tests.dialogues import DIALOGUES, HERE, reply_in
from tests.support import Server, eventually
from tests.support.ai_sdk import Page, as_in_seven, loaded, said, without_approvals
from tests.support.chats import chatty, ended, read_chat
from tests.support.node import Node
from tests.support.provider import asked, open_gate, script

DONE = {"finish": "stop"}
Http = aiohttp.ClientSession
Pages = Callable[..., Page]


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream) as running:
        yield running


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with Node("ai_sdk.mjs", "7") as one, Node("ai_sdk.mjs", "7") as two:
        yield [one, two]


@pytest.fixture
def pages(nodes: list[Node], server: Server, request: pytest.FixtureRequest) -> Pages:
    free = list(nodes)

    def open_page(*, server: Server = server, messages: Any = ()) -> Page:
        return Page(free.pop(), server, request.node.name).begin(messages, transport="socket")

    return open_page


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def test_a_question_is_answered_and_another_page_joins_in_the_middle(
    pages: Pages, upstream: str, http: Http
) -> None:
    one, two = pages(), pages()
    steps = [{"think": "Hm. "}, {"say": "A "}, {"wait": one.chat}, {"say": "größer 👩‍👩‍👧."}, DONE]
    one.send(await script(http, upstream, one.chat, *steps))
    one.wait(says="A ")
    two.begin(await loaded(http, two), transport="socket").resume()
    two.wait(says="A ", status="streaming")
    await open_gate(http, upstream, one.chat)
    seen = [page.settled() for page in (one, two)]
    for page in seen:
        assert (page["status"], page["error"]) == ("ready", None)
        assert page["messages"][-1] == (await loaded(http, one))[-1]
        assert said(page["messages"]) == [one.chat, "Hm. A größer 👩‍👩‍👧."]
    two.resume()
    assert two.settled()["messages"] == seen[1]["messages"]  # nothing is being made: no-active


async def test_a_page_that_stops_stops_the_reply(pages: Pages, upstream: str, http: Http) -> None:
    page = pages()
    page.send(await script(http, upstream, page.chat, {"say": "So far"}, {"wait": "never"}))
    page.wait(says="So far")
    page.stop()
    gone = page.settled()
    assert (gone["status"], said(gone["messages"])[-1]) == ("ready", "So far")

    async def stopped() -> bool:
        return bool((await loaded(http, page))[-1]["metadata"].get("status") == "stopped")

    await eventually(stopped)
    assert said(await loaded(http, page))[-1] == "So far"


async def test_one_page_regenerates_and_edits(pages: Pages, upstream: str, http: Http) -> None:
    page = pages()
    for question in (page.chat, "Otherwise."):
        await script(http, upstream, question, {"say": f"To {question}"}, DONE)
    first = page.ask(page.chat)["messages"]
    page.regenerate()
    again = page.settled()["messages"]
    assert (said(again), again[1]["id"] == first[1]["id"]) == (said(first), False)
    page.send("Otherwise.", messageId=first[0]["id"])
    assert said(page.settled()["messages"]) == ["Otherwise.", "To Otherwise."]
    assert len((await read_chat(http, page.server, page.chat))["messages"]) == 5


async def test_a_page_that_has_not_seen_the_newest_exchange_takes_it_from_nobody(
    pages: Pages, upstream: str, http: Http
) -> None:
    one, two = pages(), pages()
    for question in (one.chat, f"{one.chat} more"):
        await script(http, upstream, question, {"say": f"To {question}"}, DONE)
    first = one.ask(one.chat)["messages"]
    two.begin(first, transport="socket")
    shown = one.ask(f"{one.chat} more")["messages"]
    two.regenerate()
    assert "Load it again" in two.settled()["error"]
    two.begin(shown, transport="socket").regenerate(messageId=first[1]["id"], body={"leaf": first[1]["id"]})
    assert "Load it again" in two.settled()["error"]
    assert said(await loaded(http, one)) == said(shown)
    two.begin(shown, transport="socket").regenerate(messageId=first[1]["id"], body={"leaf": shown[3]["id"]})
    assert said(two.settled()["messages"]) == said(await loaded(http, one)) == said(first)


async def test_what_is_refused_or_fails_is_an_error_of_its_request(pages: Pages, upstream: str, http: Http) -> None:
    one, two = pages(), pages()
    await script(http, upstream, one.chat, {"say": "A "}, {"wait": f"busy {one.chat}"}, {"chunk": {"error": "x"}})
    one.send(one.chat)
    one.wait(says="A ")
    refused = two.ask("Me too.")
    assert (refused["status"], "in progress" in refused["error"]) == ("error", True)
    await open_gate(http, upstream, f"busy {one.chat}")
    failed = one.settled()
    assert (failed["status"], said(failed["messages"])[-1]) == ("error", "A ")
    assert failed["error"] == (await loaded(http, one))[-1]["metadata"]["error"]["message"]


async def test_a_killed_server_ends_nothing_for_good(pages: Pages, upstream: str, http: Http, tmp_path: Path) -> None:
    with chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}") as server:
        page = pages(server=server)
        question = await script(http, upstream, page.chat, {"say": "As far"}, {"wait": "never"})
        page.send(question)
        page.wait(says="As far")
        await asyncio.to_thread(server.kill)
        assert page.settled()["status"] == "error"
        server.start()

        async def ended() -> bool:
            return bool((await loaded(http, page))[-1]["metadata"].get("status") == "error")

        await eventually(ended)
        assert said(await loaded(http, page))[-1] == "As far"
        assert len(await asked(http, upstream, question)) == 1


async def test_a_server_that_stops_says_how_the_reply_ended_and_goes(upstream: str, http: Http) -> None:
    server = chatty(upstream).start()
    await script(http, upstream, "socket stop", {"say": "As far"}, {"wait": "never"})
    async with http.ws_connect(f"{server.url}/api/chat") as socket:
        message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "socket stop"}]}
        await socket.send_json({"type": "send", "requestId": "r", "id": "c", "messages": [message]})
        frames = [await socket.receive_json(timeout=60)]
        while frames[-1].get("chunk", {}).get("delta") != "As far":
            frames.append(await socket.receive_json(timeout=60))
        stopping = asyncio.create_task(asyncio.to_thread(server.stop))
        while (message := await socket.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
            frames.append(message.json())
        assert socket.close_code == 1001
        assert await stopping == ""
    assert [frame["type"] for frame in frames] == ["start", *["chunk"] * (len(frames) - 2), "end"]
    assert [frame["sequence"] for frame in frames[1:-1]] == list(range(len(frames) - 2))
    assert frames[-2]["chunk"]["errorText"] == "The reply was interrupted before it was done."


@pytest.mark.parametrize("name", DIALOGUES)
def test_golden_frames_lead_to_the_message_that_a_page_is_loaded_with(nodes: list[Node], name: str) -> None:
    reply = reply_in(DIALOGUES[name]()[-1])
    frames = [json.loads(line) for line in (HERE / f"{name}.socket").read_text().splitlines()]
    failure = reply["error"]["message"] if reply["status"] == "error" else None
    heard = nodes[0].ask("hearFrames", frames=frames)
    expected = without_approvals(ui_message(reply)) if name == "approved" else ui_message(reply)
    assert as_in_seven(heard["message"]) == expected
    assert (heard["error"], heard["status"]) == (failure, "error" if failure else "ready")


async def test_who_stops_a_reply_and_leaves_at_once_has_stopped_it(server: Server, upstream: str, http: Http) -> None:
    await script(http, upstream, "socket gone", {"say": "So far"}, {"wait": "never"})
    message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "socket gone"}]}
    chats = [f"gone{number}" for number in range(10)]
    for chat in chats:
        async with http.ws_connect(f"{server.url}/api/chat") as socket:
            await socket.send_json({"type": "send", "requestId": "r", "id": chat, "messages": [message]})
            await socket.send_json({"type": "abort", "requestId": "r"})
    for chat in chats:

        async def known(chat: str = chat) -> bool:
            async with http.get(f"{server.url}/api/chats/{chat}") as response:
                return response.status == 200

        await eventually(known)
        assert (await ended(http, server, chat))["status"] == "stopped"


BAD: list[tuple[Any, str]] = [
    ("no json", ""),
    ([], ""),
    ({"type": "dance", "requestId": "r"}, ""),
    ({"type": "send"}, ""),
    ({"type": "send", "requestId": ""}, ""),
    ({"type": "send", "requestId": "x" * 129}, ""),
    ({"type": "send", "requestId": "r"}, "r"),
    ({"type": "send", "requestId": "r", "id": "c"}, "r"),
    ({"type": "send", "requestId": "r", "id": "c", "messages": "hello"}, "r"),
    ({"type": "send", "requestId": "r", "id": "c" * 113, "messages": []}, "r"),
    ({"type": "send", "requestId": "r", "id": "c", "messages": [], "trigger": "regenerate-message"}, "r"),
    ({"type": "resume", "requestId": "r"}, "r"),
    ({"type": "resume", "requestId": "r", "id": 7}, "r"),
]


async def test_a_reply_in_the_making_is_resumed_on_its_own_branch_only(
    server: Server, upstream: str, http: Http
) -> None:
    await script(http, upstream, "socket one", {"say": "One."}, DONE)
    await script(http, upstream, "socket two", {"say": "So far"}, {"wait": "socket branch"}, DONE)

    def send(number: int, text: str) -> Any:
        message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}
        return {"type": "send", "requestId": f"r{number}", "id": "branches", "messages": [message], "messageId": "u1"}

    async with http.ws_connect(f"{server.url}/api/chat") as socket:
        await socket.send_json(send(1, "socket one"))
        while (await socket.receive_json(timeout=60))["type"] != "end":
            pass
        await socket.send_json(send(2, "socket two"))
        while (await socket.receive_json(timeout=60)).get("chunk", {}).get("delta") != "So far":
            pass
        resume = {"type": "resume", "id": "branches"}
        await socket.send_json({**resume, "requestId": "r3", "body": {"leaf": "u1"}})
        assert await socket.receive_json(timeout=60) == {"type": "no-active", "requestId": "r3"}
        await socket.send_json({**resume, "requestId": "r4", "body": {"leaf": "nobody's"}})
        assert (await socket.receive_json(timeout=60))["type"] == "error"
        await socket.send_json({**resume, "requestId": "r5"})
        assert await socket.receive_json(timeout=60) == {"type": "start", "requestId": "r5"}
        await open_gate(http, upstream, "socket branch")


async def test_what_cannot_be_meant_is_an_error_and_the_connection_stays(server: Server, http: Http) -> None:
    async with http.ws_connect(f"{server.url}/api/chat") as socket:
        for sent, request_id in BAD:
            await (socket.send_str(sent) if isinstance(sent, str) else socket.send_json(sent))
            answer = await socket.receive_json(timeout=60)
            assert (answer["type"], answer["requestId"]) == ("error", request_id), sent
            assert len(answer["errorText"]) > 20
        await socket.send_bytes(b"{}")
        assert (await socket.receive_json(timeout=60))["type"] == "error"
        await socket.send_json({"type": "abort", "requestId": "nobody's"})
        await socket.send_json({"type": "resume", "requestId": "r", "id": "nowhere"})
        assert await socket.receive_json(timeout=60) == {"type": "no-active", "requestId": "r"}
    async with http.ws_connect(f"{server.url}/api/chat") as socket:
        await socket.send_str("x" * ((1 << 20) + 1))
        assert (await socket.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1009
    with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
        await http.ws_connect(f"{server.url}/api/chat", headers={"Origin": "https://elsewhere.example"})


async def test_of_too_many_requests_at_a_time_the_last_is_refused(server: Server, upstream: str, http: Http) -> None:
    await script(http, upstream, "socket wait", {"wait": "socket wait"}, {"say": "."}, DONE)
    async with http.ws_connect(f"{server.url}/api/chat") as socket:
        for number in range(21):
            message = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "socket wait"}]}
            body = {"type": "send", "requestId": f"r{number}", "id": f"many{number}", "messages": [message]}
            await socket.send_json(body)
        frames = []
        while not frames or frames[-1]["type"] != "error":
            frames.append(await socket.receive_json(timeout=60))
        assert frames[-1]["requestId"] == "r20"
        await open_gate(http, upstream, "socket wait")
        ends = 0
        while ends < 20:
            ends += (await socket.receive_json(timeout=60))["type"] == "end"
