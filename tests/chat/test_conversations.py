"""What a conversation promises, from outside: one run for a question, branches, stops, leases, the past, people.

Several servers share one journal where a promise is about several.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support import Server, eventually, get_state
from tests.support.chats import ask, chatty, ended, new_chat, read_chat, read_until, received, text_of, user
from tests.support.provider import asked, open_gate, script

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream) as server:
        yield server


@pytest.fixture
def pair(upstream: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers on one journal."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    with ExitStack() as stack:
        yield tuple(stack.enter_context(chatty(upstream, journal=journal)) for _ in range(2))  # type: ignore[misc]


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    connector, patience = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(sock_read=20)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        yield session


async def send(http: Http, server: Server, path: str, body: Any = None) -> Any:
    async with http.post(f"{server.url}{path}", json=body) as response:
        return response.status, await response.json(content_type=None)


async def chunks_of(response: aiohttp.ClientResponse) -> list[Any]:
    """A UI message stream, read to its end."""
    text = (await response.read()).decode()
    frames = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    assert frames[-1] == "[DONE]"
    return [json.loads(frame) for frame in frames[:-1]]


async def ui(http: Http, server: Server, body: Any, query: str = "") -> list[Any]:
    async with http.post(f"{server.url}/api/chat{query}", json=body) as response:
        assert response.status == 200, await response.text()
        return await chunks_of(response)


def said_by(message_id: str, text: str) -> Any:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def text_in(chunks: list[Any]) -> str:
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


async def simple(http: Http, upstream: str, question: str, answer: str) -> str:
    return await script(http, upstream, question, {"say": answer}, {"finish": "stop"})


def shown(chat: Any) -> list[tuple[str, str]]:
    """The path that is shown, as (role, text): another walk than the product's."""
    by_id = {message["id"]: message for message in chat["messages"]}
    path, at = [], chat.get("leaf")
    while at in by_id:
        path.append((by_id[at]["role"], text_of(by_id[at])))
        at = by_id[at].get("parent")
    return path[::-1]


# one run for a question


async def test_a_question_that_is_posted_again_is_the_run_that_there_is(
    server: Server, upstream: str, http: Http
) -> None:
    question = await script(
        http, upstream, "Once?", {"say": "On"}, {"wait": "once"}, {"say": "ce."}, {"finish": "stop"}
    )
    body = {"id": "retried", "messages": [said_by("u1", question)]}
    asking = [asyncio.create_task(ui(http, server, body)) for _ in range(5)]

    async def begun() -> bool:
        return bool(await asked(http, upstream, question))

    await eventually(begun)
    await open_gate(http, upstream, "once")
    answers = await asyncio.gather(*asking)
    late = await ui(http, server, body)
    assert {text_in(answer) for answer in (*answers, late)} == {"Once."}
    assert len({answer[0]["messageId"] for answer in (*answers, late)}) == 1
    assert len(await asked(http, upstream, question)) == 1
    assert len((await read_chat(http, server, "retried"))["messages"]) == 2


async def test_the_id_of_a_reply_is_no_id_for_a_question(server: Server, upstream: str, http: Http) -> None:
    question = await simple(http, upstream, "Mine?", "Yours.")
    reply = (await ui(http, server, {"id": "taken", "messages": [said_by("u1", question)]}))[0]["messageId"]
    async with http.post(
        f"{server.url}/api/chat", json={"id": "taken", "messages": [said_by(reply, question)]}
    ) as again:
        assert again.status == 409
        assert (await again.text()).startswith("A reply cannot be edited")
    assert len((await read_chat(http, server, "taken"))["messages"]) == 2


# branches


async def test_an_answer_again_and_a_changed_question_are_siblings_and_every_branch_is_kept(
    server: Server, upstream: str, http: Http
) -> None:
    for question, answer in (("One.", "First."), ("Two.", "Second."), ("Two, other.", "Third.")):
        await simple(http, upstream, question, answer)
    one, two = said_by("u1", "One."), said_by("u2", "Two.")
    body = {"id": "tree", "trigger": "submit-message"}
    await ui(http, server, {**body, "messages": [one]})
    first = await ui(http, server, {**body, "messages": [one, two]})
    again = await ui(http, server, {**body, "messages": [one, two], "trigger": "regenerate-message"})
    assert again[0]["messageId"] != first[0]["messageId"]
    edited = {**body, "messages": [one, said_by("u2", "Two, other.")], "messageId": "u2"}
    assert text_in(await ui(http, server, edited)) == "Third."
    assert text_in(await ui(http, server, edited)) == "Third."  # posted again: the same

    chat = await read_chat(http, server, "tree")
    assert [text_of(message) for message in chat["messages"]] == [
        *("One.", "First.", "Two.", "Second.", "Second.", "Two, other.", "Third.")
    ]
    ends = [("user", "Two, other."), ("assistant", "Third.")]
    assert shown(chat) == [("user", "One."), ("assistant", "First."), *ends]
    (request,) = await asked(http, upstream, "Two, other.")
    assert [m["content"] for m in request["body"]["messages"]] == ["One.", "First.", "Two, other."]

    status, _ = await send(http, server, "/api/chats/tree/branch", {"message": "u2", "leaf": chat["leaf"]})
    assert status == 200
    shown_now = shown(await read_chat(http, server, "tree"))
    assert shown_now == [("user", "One."), ("assistant", "First."), ("user", "Two."), ("assistant", "Second.")]
    async with http.get(f"{server.url}/api/chat/tree") as response:
        messages = (await response.json())["messages"]
    assert [message["id"] for message in messages][2] == "u2"

    fourth = await simple(http, upstream, "Four.", "Fourth.")
    await ui(http, server, {**body, "messages": [said_by("u4", fourth)]})
    (request,) = await asked(http, upstream, fourth)
    assert [m["content"] for m in request["body"]["messages"]] == ["One.", "First.", "Two.", "Second.", "Four."]


async def test_answering_again_after_a_change_answers_the_changed_question(
    server: Server, upstream: str, http: Http
) -> None:
    for question in ("Old?", "New?"):
        await simple(http, upstream, question, f"To {question}")
    body = {"id": "changed", "trigger": "submit-message"}
    await ui(http, server, {**body, "messages": [said_by("u1", "Old?")]})
    await ui(http, server, {**body, "messages": [said_by("u1", "New?")], "messageId": "u1"})
    await ui(http, server, {**body, "messages": [said_by("u1", "New?")], "trigger": "regenerate-message"})
    assert len(await asked(http, upstream, "New?")) == 2
    assert shown(await read_chat(http, server, "changed")) == [("user", "New?"), ("assistant", "To New?")]


async def test_what_is_to_be_answered_again_is_named_or_refused(server: Server, upstream: str, http: Http) -> None:
    for question in ("First?", "Then?"):
        await ui(
            http, server, {"id": "named", "messages": [said_by(question, await simple(http, upstream, question, "A."))]}
        )
    messages = (await read_chat(http, server, "named"))["messages"]
    again = {"id": "named", "trigger": "regenerate-message"}
    for unknown in ("nobody's", "First?:1"):
        async with http.post(f"{server.url}/api/chat", json={**again, "messageId": unknown}) as response:
            assert (response.status, "no longer in this chat" in await response.text()) == (409, True)
    assert len(await asked(http, upstream, "Then?")) == 1
    first = {**again, "messageId": f"{messages[1]['id']}:1", "leaf": messages[3]["id"]}  # as AG-UI calls a reply's part
    await ui(http, server, first)
    assert [len(await asked(http, upstream, question)) for question in ("First?", "Then?")] == [2, 1]
    then = {**again, "messages": [said_by("Then?", "Then?")], "messageId": messages[3]["id"]}
    async with http.post(f"{server.url}/api/chat", json=then) as response:
        assert (response.status, "shows another branch" in await response.text()) == (409, True)
    await ui(http, server, {**then, "leaf": (await read_chat(http, server, "named"))["leaf"]})
    assert [len(await asked(http, upstream, question)) for question in ("First?", "Then?")] == [2, 2]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("branch", {"message": "nobody's"}, 409),
        ("branch", {}, 400),
        ("branch", {"message": 7}, 400),
        ("typing", {"typing": True}, 400),
    ],
)
async def test_what_cannot_be_meant_is_a_clear_problem(
    server: Server, http: Http, path: str, body: Any, status: int
) -> None:
    chat = await new_chat(http, server)
    found, problem = await send(http, server, f"/api/chats/{chat}/{path}", body)
    assert (found, problem["status"]) == (status, status)
    assert len(problem["detail"]) > 20


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [said_by("u1", "No chat?")]},
        {"id": "x" * 113, "messages": [said_by("u1", "Too long?")]},
        {"id": "a", "messages": []},
        {"id": "a", "messages": [said_by("", "No id?")]},
        {"id": "a", "messages": [said_by("u" * 129, "Long id?")]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": 7}]}]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "file", "url": "x"}]}]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "step-start"}]}]},
        {"id": "a", "messages": [said_by("u1", "What?")], "trigger": "dance"},
        {"id": "a", "messages": [], "trigger": "regenerate-message"},
        {"id": "\ud800", "messages": [said_by("u1", "Half an id?")]},
        {"id": "a", "messages": [said_by("\udfff", "Half an id?")]},
        {"id": "a", "messages": [said_by("u1", "Half a letter \ud83d")]},
        {"id": "é" * 20, "messages": [said_by("u1", "Too long as a key?")]},
        {"id": 7, "messages": [said_by("u1", "A number?")]},
        {"id": "", "messages": [said_by("u1", "Empty?")]},
        {"id": "a", "messages": {"0": said_by("u1", "An object?")}},
        {"id": "a", "messages": ["text"]},
        {"id": "a", "message": []},
        {"id": "a", "messageId": 7, "messages": [said_by("u1", "What?")]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": {"type": "text"}}]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [7]}]},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [{"type": ["text"], "text": "x"}]}]},
        {
            "id": "a",
            "messages": [{"id": "u1", "role": "user", "parts": [{"type": "data-x", "data": {"__proto__": 1}}]}],
        },
        {"id": "a", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "data-x", "data": deep(70)}]}]},
        {"id": "a", "message": {"id": "u1", "role": "user", "parts": [{"type": "data-x", "data": deep(60)}]}},
        {"id": "a", "messages": [{"id": "u1", "role": "user", "content": ["x"]}]},
        {"id": "a", "messages": [{"role": "user", "content": "x" * 100_001}]},
        "text",
        [],
    ],
)
async def test_a_body_of_the_sdk_that_cannot_be_meant_is_a_sentence(server: Server, http: Http, body: Any) -> None:
    async with http.post(f"{server.url}/api/chat", json=body) as response:
        text = await response.text()
    assert (response.status in (400, 409), response.content_type) == (True, "text/plain"), text
    assert len(text) > 20
    assert not text.startswith("{")


@pytest.mark.parametrize(
    "name", ["a/b", "%00", "%F0%9F%98%80", "%ED%A0%80", "%FF", "..", "a%252Fb", "%20", "x" * 64, "+"]
)
async def test_an_odd_id_is_kept_or_refused_and_breaks_nothing(server: Server, http: Http, name: str) -> None:
    for path in (f"/api/chats/{name}/stop", f"/api/chat/{name}/stop"):
        async with http.post(URL(f"{server.url}{path}", encoded=True)) as response:
            assert response.status in (200, 201, 400, 404), await response.text()
    for path in (f"/api/chat/{name}", f"/api/chats/{name}/messages?before={name}"):
        async with http.get(URL(f"{server.url}{path}", encoded=True)) as response:
            assert response.status in (200, 400, 404), await response.text()


# stops


async def test_a_stop_ends_the_reply_keeps_its_text_and_may_be_said_again(
    server: Server, upstream: str, http: Http
) -> None:
    chat = await new_chat(http, server)
    question = await script(http, upstream, "Stop me.", {"say": "As far "}, {"say": "as it got"}, {"wait": "never"})
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=user(question)) as response:
        await read_until(response, "as it got")
        assert await send(http, server, f"/api/chats/{chat}/stop", {"activeStreamId": "another"}) == (
            200,
            {"success": True, "stopped": False},
        )
        reply = (await read_chat(http, server, chat))["messages"][-1]
        assert reply["status"] == "streaming"
        stopped = await send(http, server, f"/api/chats/{chat}/stop", {"activeStreamId": reply["id"]})
        assert stopped == (200, {"success": True, "stopped": True})
        assert not (await received(response)).cut
    message = await ended(http, server, chat)
    assert (message["status"], text_of(message)) == ("stopped", "As far as it got")
    assert "error" not in message
    assert (await send(http, server, f"/api/chats/{chat}/stop"))[1] == {"success": True, "stopped": False}

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[0]["ended"] == "gone")

    await eventually(gone)
    assert (await ask(http, server, chat, await simple(http, upstream, "Go on.", "Yes."))).text == "Yes."


async def test_any_server_stops_what_another_one_makes(pair: tuple[Server, Server], upstream: str, http: Http) -> None:
    here, there = pair
    chat = await new_chat(http, here)
    question = await script(http, upstream, "From elsewhere.", {"say": "So far"}, {"wait": "never"})
    async with http.post(f"{here.url}/api/chats/{chat}/stream", json=user(question)) as response:
        await read_until(response, "So far")

        async def known() -> bool:
            async with http.post(f"{there.url}/api/chats/{chat}/stop") as answer:
                return bool((await answer.json()).get("stopped"))

        await eventually(known)
        assert not (await received(response)).cut
    for server in pair:
        message = await ended(http, server, chat)
        assert (message["status"], text_of(message)) == ("stopped", "So far")

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[0]["ended"] == "gone")

    await eventually(gone)


async def test_what_one_server_has_said_the_next_one_knows(
    pair: tuple[Server, Server], upstream: str, http: Http
) -> None:
    """A balancer sends each request elsewhere, and the first ones come before anything was read there."""
    here, there = pair
    for number in range(5):
        chat = await new_chat(http, here)
        assert (await ask(http, there, chat, await simple(http, upstream, f"Here {number}?", "Yes."))).text == "Yes."
        again = {"trigger": "regenerate-message", "messageId": (await read_chat(http, there, chat))["leaf"]}
        status, _ = await send(http, here, f"/api/chats/{chat}/branch", {"message": again["messageId"]})
        assert status == 200
        question = await script(http, upstream, f"Go {number}.", {"say": "So far"}, {"wait": "never"})
        response = await http.post(f"{here.url}/api/chats/{chat}/stream", json=user(question))
        await read_until(response, "So far")
        resumed = await http.get(f"{there.url}/api/chat/{chat}/stream")
        assert resumed.status == 200
        await read_until(resumed, "So far")
        resumed.close()
        response.close()


async def test_a_stop_at_a_server_that_has_not_heard_of_the_reply_ends_it(
    pair: tuple[Server, Server], upstream: str, http: Http
) -> None:
    here, there = pair
    for number in range(5):
        chat = f"stopped elsewhere {number}"
        question = await script(http, upstream, f"Stop {number}.", {"say": "So far"}, {"wait": "never"})
        response = await http.post(f"{here.url}/api/chat", json={"id": chat, "messages": [said_by("u", question)]})
        await read_until(response, "So far")
        assert await send(http, there, f"/api/chats/{chat}/stop") == (200, {"success": True, "stopped": True})
        assert '"type":"abort"' in (await received(response)).text
        assert (await ended(http, there, chat))["status"] == "stopped"
    assert (await send(http, there, "/api/chats/nobody/stop"))[0] == 404


async def test_a_stream_whose_reply_goes_on_elsewhere_does_not_look_whole(
    pair: tuple[Server, Server], upstream: str, http: Http
) -> None:
    here, there = pair
    steps = [{"say": "Half"}, {"wait": "elsewhere"}, {"say": " and half."}, {"finish": "stop"}]
    question = await script(http, upstream, "Go on.", *steps)
    body = {"id": "elsewhere", "messages": [said_by("u1", question)]}
    asking = await http.post(f"{here.url}/api/chat", json=body)
    await read_until(asking, "Half")
    watching = await http.get(f"{there.url}/api/chat/elsewhere/stream")
    await read_until(watching, "Half")
    assert await asyncio.to_thread(there.stop) == ""
    assert (await received(watching)).cut
    there.start()
    await open_gate(http, upstream, "elsewhere")
    assert "[DONE]" in (await received(asking)).text
    assert text_of(await ended(http, there, "elsewhere")) == "Half and half."


# leases


async def test_what_a_killed_server_left_behind_is_ended_by_another_one(
    pair: tuple[Server, Server], upstream: str, http: Http
) -> None:
    here, there = pair
    chat = await new_chat(http, here)
    question = await script(http, upstream, "Be killed.", {"say": "One, two, "}, {"wait": "never"})
    response = await http.post(f"{here.url}/api/chats/{chat}/stream", json=user(question))
    await read_until(response, "One, two, ")
    await asyncio.to_thread(here.kill)
    response.close()
    message = await ended(http, there, chat)
    assert (message["error"]["kind"], text_of(message)) == ("interrupted", "One, two, ")

    async def forgotten() -> bool:
        state = await get_state(http, there.url, "slices=chat_nodes/*")
        return not state["slices"]

    await eventually(forgotten)


async def test_a_server_that_lives_keeps_its_replies_however_long_they_take(
    pair: tuple[Server, Server], upstream: str, http: Http
) -> None:
    """The lease is a second; the reply waits until it was renewed ten times, while another server looks."""
    here, there = pair
    chat = await new_chat(http, here)
    question = await script(
        http, upstream, "Slowly.", {"say": "A"}, {"wait": "slowly"}, {"say": "B"}, {"finish": "stop"}
    )
    asking = asyncio.create_task(ask(http, here, chat, question))
    versions: set[int] = set()

    async def renewed() -> bool:
        state = await get_state(http, there.url, "slices=chat_nodes/*")
        versions.update(state["versions"].values())
        return len(versions) > 10

    await eventually(renewed, every=0.1)
    await open_gate(http, upstream, "slowly")
    assert (await asking).text == "AB"
    for server in pair:
        assert (await ended(http, server, chat))["status"] == "complete"


async def test_a_server_that_has_nothing_to_do_writes_nothing(upstream: str, http: Http) -> None:
    with chatty(upstream, lease=0.1) as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, await simple(http, upstream, "Quick.", "Yes."))

        async def given_back() -> bool:
            return not (await get_state(http, server.url, "slices=chat_nodes/*"))["slices"]

        await eventually(given_back)
        before = (await read_chat(http, server, chat))["position"]
        await asyncio.sleep(0.5)  # five leases: there is no event for what does not happen
        assert (await read_chat(http, server, chat))["position"] == before


# the past


async def test_older_messages_leave_the_chat_and_are_read_page_by_page(
    upstream: str, http: Http, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"journal": f"sqlite:///{tmp_path / 'journal.db'}", "keep": 4}
    with chatty(upstream, **settings) as server:
        chat = await new_chat(http, server)
        for number in range(55):
            question = await simple(http, upstream, f"Number {number}.", f"Answer {number}.")
            assert (await ask(http, server, chat, question)).text == f"Answer {number}."
    everything = [text for number in range(55) for text in (f"Number {number}.", f"Answer {number}.")]
    with chatty(upstream, **settings) as server:
        live = (await read_chat(http, server, chat))["messages"]
        assert len(live) == 10
        found = list(live)
        while len(found) < len(everything):
            query = {"before": found[0]["id"], "limit": "33"}
            async with http.get(f"{server.url}/api/chats/{chat}/messages", params=query) as response:
                page = (await response.json())["messages"]
            assert 0 < len(page) <= 33
            found = page + found
        assert [text_of(message) for message in found] == everything
        body = {"id": chat, "messages": [said_by(found[0]["id"], everything[0])]}
        async with http.post(f"{server.url}/api/chat", json=body) as response:
            assert response.status == 409  # it was answered, and the model is not asked again
        assert len(await asked(http, upstream, everything[0])) == 1
        async with http.get(f"{server.url}/api/chats/{chat}/messages", params={"before": found[0]["id"]}) as response:
            assert (await response.json())["messages"] == []
        limits = [{"before": found[0]["id"], "limit": limit} for limit in ("0", "101", "-1", "1.5", "²", "1" * 5_000)]
        for query in ({}, {"before": "nobody"}, {"before": found[0]["id"], "limit": "000000001000"}, *limits):
            async with http.get(f"{server.url}/api/chats/{chat}/messages", params=query) as response:
                assert response.status in (400, 404)


@pytest.mark.slow
async def test_an_answer_that_is_made_again_and_again_takes_nothing_from_the_conversation(
    upstream: str, http: Http
) -> None:
    said = [text for number in range(4) for text in (f"Said {number}.", f"Answer {number}.")]
    with chatty(upstream, keep=10) as server:
        for number in range(3):
            await simple(http, upstream, said[2 * number], said[2 * number + 1])
            await ui(http, server, {"id": "again", "messages": [said_by(f"u{number}", said[2 * number])]})
        for _ in range(58):
            await ui(http, server, {"id": "again", "trigger": "regenerate-message"})
        chat = await read_chat(http, server, "again")
        assert len(chat["messages"]) < 60, "most of the answers have left the chat"
        assert [text for _, text in shown(chat)] == said[:6]
        await simple(http, upstream, said[6], said[7])
        await ui(http, server, {"id": "again", "messages": [said_by("u3", said[6])]})
        (request,) = await asked(http, upstream, said[6])
        assert [m["content"] for m in request["body"]["messages"]] == said[:7]
        params = {"before": (await read_chat(http, server, "again"))["leaf"], "limit": "100"}
        async with http.get(f"{server.url}/api/chats/again/messages", params=params) as response:
            older = (await response.json())["messages"]
        assert [text_of(message) for message in older] == [*said[:5], *[said[5]] * 59, said[6]]


async def test_a_guard_that_cannot_be_read_stops_nothing(server: Server, http: Http) -> None:
    chat = await new_chat(http, server)
    assert (await send(http, server, f"/api/chats/{chat}/stop", {"activeStreamId": 5}))[0] == 400


async def test_a_page_from_elsewhere_makes_and_stops_nothing(server: Server, http: Http) -> None:
    """Browsers send these without asking first: they need no body of JSON."""
    chat = await new_chat(http, server)
    for path in ("/api/chats", f"/api/chats/{chat}/stop", f"/api/chat/{chat}/stop"):
        for site, refused in (("cross-site", True), ("same-origin", False)):
            async with http.post(f"{server.url}{path}", headers={"Sec-Fetch-Site": site}) as response:
                assert (response.status == 403) == refused


@pytest.mark.parametrize("body", ["[]", "0", "false", "null", '""', '{"id": "42"}'])
async def test_a_new_chat_takes_no_fields_and_no_other_values(server: Server, http: Http, body: str) -> None:
    async with http.post(
        f"{server.url}/api/chats", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 400
        assert "takes no fields" in (await response.json(content_type=None))["detail"]


async def test_text_that_cannot_be_resumed_is_asked_for_correctly_all_the_same(server: Server, http: Http) -> None:
    for path, status in (("nowhere", 204), ("nowhere?later=1", 400), ("n" * 113, 400)):
        chat, _, query = path.partition("?")
        async with http.get(f"{server.url}/api/chats/{chat}/stream?{query}") as response:
            assert response.status == status
