"""Who belongs to a chat, from outside: the owner, participants, those who were removed, strangers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest

from statestream import Store
from statestream.chat import Chat, Question
from statestream.chat.models.demo import DemoModel
from statestream.chat.slices import conversation
from statestream.core.change import START
from statestream.core.errors import NotFound, Refused
from statestream.core.principal import Identity
from statestream.journal import MemoryJournal
from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state
from tests.support.chats import chatty, received
from tests.support.provider import open_gate, script

Http = aiohttp.ClientSession
People = dict[str, Http]
_numbers = count(1)
MISSING = "nobody-has-this"
JSON = ("application/json", "application/problem+json")


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream, auth="yes", keep=1) as server:
        yield server


@pytest.fixture
async def people() -> AsyncIterator[People]:
    """A session for each of them."""
    sessions = {name: session_of(name) for name in ("ann", "bob", "eve")}
    sessions["nobody"] = aiohttp.ClientSession()
    yield sessions
    for session in sessions.values():
        await session.close()


def session_of(name: str) -> Http:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {name}"}, timeout=aiohttp.ClientTimeout(sock_read=20)
    )


def said(id: str, text: str) -> Any:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


async def send(who: Http, server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with who.request(method, f"{server.url}{path}", json=body) as response:
        text = (await received(response)).text
        return response.status, json.loads(text) if response.content_type in JSON else text


async def invite(who: Http, server: Server, chat: str, name: str) -> tuple[int, Any]:
    return await send(who, server, "POST", f"/api/chats/{chat}/participants", {"subject": name})


async def remove(who: Http, server: Server, chat: str, name: str) -> tuple[int, Any]:
    return await send(who, server, "DELETE", f"/api/chats/{chat}/participants/{name}")


async def talk(who: Http, server: Server, upstream: str, *texts: str, chat: str = "") -> str:
    """A chat of so many characters as MISSING, with a question for each text, answered."""
    chat = chat or f"chat{next(_numbers):011}"
    for text in texts:
        question = await script(who, upstream, f"{chat} {text}", {"say": f"A {text}"}, {"finish": "stop"})
        async with who.post(f"{server.url}/api/chat", json={"id": chat, "messages": [said(text, question)]}) as answer:
            assert (answer.status, (await received(answer)).cut) == (200, False)
    return chat


def following(server: Server, name: str, *slices: str, more: str = "") -> PlainClient:
    client = PlainClient(server.port, f"slices={','.join(slices)}{more}", token=name)
    client.connect()
    assert client.status == 200
    client.read_until(lambda frame: frame.event == "state.initial")
    return client


# a chat you do not belong to does not exist

REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/api/chats/ID", None),
    ("GET", "/api/chats/ID?leaf=one", None),
    ("GET", "/api/chats/ID/messages?before=one", None),
    ("POST", "/api/chats/ID/stop", {}),
    ("POST", "/api/chats/ID/branch", {"message": "one"}),
    ("POST", "/api/chats/ID/typing", {}),
    ("POST", "/api/chats/ID/stream", {"messages": [said("one", "Hi")]}),
    ("POST", "/api/chats/ID/stream", {"messages": [], "trigger": "regenerate-message"}),
    ("GET", "/api/chats/ID/stream", None),
    ("DELETE", "/api/chats/ID", None),
    ("GET", "/api/chats/ID/participants", None),
    ("POST", "/api/chats/ID/participants", {"subject": "eve"}),
    ("DELETE", "/api/chats/ID/participants/eve", None),
    ("DELETE", "/api/chats/ID/participants/ann", None),
    ("POST", "/api/chat", {"id": "ID", "messages": [], "trigger": "regenerate-message"}),
    ("GET", "/api/chat/ID", None),
    ("GET", "/api/chat/ID?leaf=one", None),
    ("GET", "/api/chat/ID/stream", None),
    ("GET", "/api/chat/ID/stream?leaf=one", None),
    ("POST", "/api/chat/ID/stop", {}),
    ("POST", "/ag-ui", {"threadId": "ID", "runId": "r", "messages": []}),
    ("POST", "/ag-ui?leaf=one", {"threadId": "ID", "runId": "r", "messages": []}),
    ("GET", "/state?slices=chat/ID", None),
    ("GET", "/state?slices=presence/ID,chat_archive/ID:0,chats/ann", None),
    ("GET", "/history?slices=chat/ID,chat_archive/ID:0", None),
    ("POST", "/dispatch", {"type": "chat/titled", "key": "ID", "payload": {"title": "Mine"}}),
]


async def answered(who: Http, server: Server, method: str, path: str, body: Any, chat: str) -> Any:
    """Everything of an answer but the id of the chat, times and positions."""
    text = json.dumps(body).replace("ID", chat)
    async with who.request(
        method,
        f"{server.url}{path.replace('ID', chat)}",
        data=None if body is None else text,
        headers={"Content-Type": "application/json"},
    ) as response:
        content = (await received(response)).text.replace(chat, "ID")
        if content.startswith("{"):
            content = json.dumps({k: v for k, v in json.loads(content).items() if k not in ("position", "until")})
        kept = {name: value for name, value in response.headers.items() if name != "Date"}
        if "position" in content or "slices=" in path:
            kept.pop("Content-Length", None)
        return response.status, kept, content


@pytest.fixture(scope="module")
def foreign(server: Server, upstream: str) -> str:
    """A chat of ann's, with an archive, from which eve was removed."""

    async def made() -> str:
        async with session_of("ann") as ann:
            chat = await talk(ann, server, upstream, *(f"q{number}" for number in range(26)), "one")
            assert (await send(ann, server, "GET", f"/state?slices=chat_archive/{chat}:0"))[1]["slices"]
            assert (await invite(ann, server, chat, "eve"))[0] == 200
            assert (await remove(ann, server, chat, "eve"))[0] == 200
        return chat

    return asyncio.run(made())


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
async def test_a_chat_of_others_is_answered_like_one_that_does_not_exist(
    server: Server, foreign: str, people: People, method: str, path: str, body: Any
) -> None:
    """Also for eve, who once belonged to it."""
    for name in ("bob", "eve"):
        theirs = await answered(people[name], server, method, path, body, foreign)
        missing = await answered(people[name], server, method, path, body, MISSING)
        assert theirs == missing, name
    if path.startswith("/api/chats/ID") and "stream" not in path:
        assert missing[0] == 404
    status, _, _ = await answered(people["nobody"], server, method, path, body, foreign)
    assert status == 401 or path.startswith(("/state", "/history")), "without credentials"


async def test_sockets_show_nothing_of_a_chat_of_others(server: Server, foreign: str, people: People) -> None:
    for path in ("/ws", "/api/chat"):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await people["nobody"].ws_connect(f"{server.url}{path}")
    answers = []
    for chat in (foreign, MISSING):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await people["bob"].ws_connect(f"{server.url}/ws?session_id={chat}&leaf=one")
        async with people["bob"].ws_connect(f"{server.url}/api/chat") as socket:
            await socket.send_json({"type": "resume", "requestId": "r", "id": chat})
            answers.append(await socket.receive_json())
    assert answers[0] == answers[1] == {"type": "no-active", "requestId": "r"}
    async with people["bob"].ws_connect(f"{server.url}/ws?session_id={foreign}&session_id=bobs-own") as socket:
        await talk(people["bob"], server, server_upstream(server), "mine", chat="bobs-own")
        first = await socket.receive_json()
        assert first["session_id"] == "bobs-own", "nothing of the other chat comes before it"
        assert first["metadata"]["author"] == "bob"


def server_upstream(server: Server) -> str:
    return str(server.env["CHATTY_UPSTREAM"]).removesuffix("/v1")


@pytest.mark.parametrize("protocol", ["/api/chat", "/ag-ui", "/ws", "socket"])
async def test_nobody_asks_in_a_chat_of_others(server: Server, foreign: str, people: People, protocol: str) -> None:
    """These create a chat that does not exist, so all that a stranger learns is that the id is taken."""
    before = await send(people["ann"], server, "GET", f"/api/chats/{foreign}")
    bob, question = people["bob"], said("q-bob", "May I?")
    if protocol == "/api/chat":
        status, text = await send(bob, server, "POST", protocol, {"id": foreign, "messages": [question]})
        assert (status, text) == (404, "there is no chat with this id; create one with POST /api/chats")
    elif protocol == "/ag-ui":
        body = {"threadId": foreign, "runId": "r", "messages": [{"id": "q", "role": "user", "content": "May I?"}]}
        status, text = await send(bob, server, "POST", protocol, body)
        assert '"not_found"' in text
        assert "A one" not in text
    elif protocol == "/ws":
        async with bob.ws_connect(f"{server.url}/ws") as socket:
            await socket.send_json({"type": "message", "content": "May I?", "session_id": foreign})
            assert (await socket.receive_json())["metadata"]["error"] == "not_found"
    else:
        async with bob.ws_connect(f"{server.url}/api/chat") as socket:
            await socket.send_json({"type": "send", "requestId": "r", "id": foreign, "messages": [question]})
            assert (await socket.receive_json())["errorText"].startswith("there is no chat")
    after = await send(people["ann"], server, "GET", f"/api/chats/{foreign}")
    assert after[1] | {"position": ""} == before[1] | {"position": ""}


# participants


async def test_a_participant_takes_part_until_they_are_removed(server: Server, upstream: str, people: People) -> None:
    ann, bob = people["ann"], people["bob"]
    chat = await talk(ann, server, upstream, "one")
    assert await invite(ann, server, chat, "bob") == (200, {"owner": "ann", "participants": ["bob"]})
    assert await invite(ann, server, chat, "bob") == (200, {"owner": "ann", "participants": ["bob"]})
    await talk(bob, server, upstream, "two", chat=chat)
    _, read = await send(bob, server, "GET", f"/api/chats/{chat}")
    assert [message.get("author") for message in read["messages"] if message["role"] == "user"] == ["ann", "bob"]
    assert (read["user"], read["participants"]) == ("ann", ["bob"])
    lines = (await send(bob, server, "GET", f"/history?slices=chat/{chat}&cause=full"))[1].splitlines()
    causes = [json.loads(line)["cause"] for line in lines if '"cause"' in line]
    assert [cause["actor"] for cause in causes if cause["type"] == "chat/asked"] == ["ann", "bob"]
    assert await send(bob, server, "GET", f"/api/chats/{chat}/participants") == (
        200,
        {"owner": "ann", "participants": ["bob"]},
    )
    assert (await remove(ann, server, chat, "bob"))[0] == 200
    assert (await send(bob, server, "GET", f"/api/chats/{chat}"))[0] == 404
    assert chat not in (await send(bob, server, "GET", f"/history?slices=chat/{chat}"))[1]


async def test_what_the_owner_may_do_participants_may_not(server: Server, upstream: str, people: People) -> None:
    ann, bob = people["ann"], people["bob"]
    chat = await talk(ann, server, upstream, "one")
    for name in ("bob", "cy"):
        await invite(ann, server, chat, name)
    for status, problem in (
        await invite(bob, server, chat, "eve"),
        await remove(bob, server, chat, "cy"),
        await remove(bob, server, chat, "ann"),
        await send(bob, server, "DELETE", f"/api/chats/{chat}"),
    ):
        assert (status, "only the owner" in problem["detail"]) == (403, True)
    status, problem = await remove(ann, server, chat, "ann")
    assert (status, "cannot leave" in problem["detail"]) == (409, True)
    assert (await remove(bob, server, chat, "bob"))[0] == 200
    assert (await remove(bob, server, chat, "bob"))[0] == 404
    assert (await send(ann, server, "GET", f"/api/chats/{chat}/participants"))[1]["participants"] == ["cy"]
    for subject in ("", "x" * 65, "a\nb", "\u202eana"):
        assert (await invite(ann, server, chat, subject))[0] == 400


async def test_a_hundred_participants_are_allowed(server: Server, upstream: str, people: People) -> None:
    ann = people["ann"]
    chat = await talk(ann, server, upstream, "one")
    for number in range(100):
        assert (await invite(ann, server, chat, f"p{number}"))[0] == 200
    status, problem = await invite(ann, server, chat, "p100")
    assert (status, "at most 100" in problem["detail"]) == (409, True)
    assert (await invite(ann, server, chat, "p99"))[0] == 200
    assert (await remove(ann, server, chat, "p0"))[0] == 200
    assert (await invite(ann, server, chat, "p100"))[0] == 200


async def test_sidebars_follow(server: Server, upstream: str, people: People) -> None:
    ann, bob = people["ann"], people["bob"]
    chat = await talk(ann, server, upstream, "one")
    with (
        following(server, "ann", "chats/ann", f"chat/{chat}") as owner,
        following(server, "bob", "chats/bob", f"chat/{chat}", "chats/ann") as client,
    ):
        assert set(client.state) <= {"chats/bob"}

        def listed(client: PlainClient = client, name: str = "bob") -> Any:
            return client.state.get(f"chats/{name}", {"chats": {}})["chats"].get(chat)

        await invite(ann, server, chat, "bob")
        await asyncio.to_thread(client.read_until, lambda _: listed() and f"chat/{chat}" in client.state)
        await asyncio.to_thread(owner.read_until, lambda _: "participants" in owner.state[f"chat/{chat}"])
        assert listed() == listed(owner, "ann")
        gate = f"gate-{chat}"
        question = await script(ann, upstream, f"{chat} two", {"wait": gate}, {"say": "A"}, {"finish": "stop"})
        asking = asyncio.create_task(
            send(ann, server, "POST", "/api/chat", {"id": chat, "messages": [said("two", question)]})
        )
        await asyncio.to_thread(client.read_until, lambda _: listed()["status"] == "streaming")
        await open_gate(ann, upstream, gate)
        await asyncio.to_thread(client.read_until, lambda _: listed()["status"] == "idle")
        await asking
        await asyncio.to_thread(owner.read_until, lambda _: listed(owner, "ann") == listed())
        await remove(bob, server, chat, "bob")
        await asyncio.to_thread(client.read_until, lambda _: listed() is None and f"chat/{chat}" not in client.state)
        await invite(ann, server, chat, "bob")
        await asyncio.to_thread(client.read_until, lambda _: listed())
        await send(ann, server, "DELETE", f"/api/chats/{chat}")
        await asyncio.to_thread(client.read_until, lambda _: not listed())
        await asyncio.to_thread(owner.read_until, lambda _: not listed(owner, "ann"))
        assert f"chat/{chat}" not in client.state
        assert f"chat/{chat}" not in owner.state


async def test_who_has_a_chat_in_their_list_may_read_it_from_that_position_on(
    server: Server, upstream: str, people: People
) -> None:
    """A client that adds the chat to its stream takes its state as of there, and resumes there."""
    theirs = await talk(people["ann"], server, upstream, "One")
    for chat in (theirs, "made-by-eve"):
        with following(server, "eve", "chats/eve") as reader:
            if chat == theirs:
                assert (await invite(people["ann"], server, chat, "eve"))[0] == 200
            else:
                await talk(people["eve"], server, upstream, "Two", chat=chat)
            if chat not in reader.state.get("chats/eve", {}).get("chats", {}):
                reader.read_until(lambda _, chat=chat: chat in reader.state.get("chats/eve", {}).get("chats", {}))
            _, then = await send(people["eve"], server, "GET", f"/state?slices=chat/{chat}&at={reader.last_id}")
            reader.versions |= then["versions"]
            reader.target += f",chat/{chat}"
            reader.connect()
            reader.read_until(lambda frame: frame.event == "state.resumed")
            assert reader.versions[f"chat/{chat}"]


async def test_only_those_who_belong_to_a_chat_are_present(server: Server, upstream: str, people: People) -> None:
    ann = people["ann"]
    chat = await talk(ann, server, upstream, "one")
    name = f"presence/{chat}"

    def there(client: PlainClient) -> set[str]:
        return set(client.state.get(name, {"people": {}})["people"])

    with following(server, "ann", name) as owner, following(server, "bob", name) as client:
        await asyncio.to_thread(owner.read_until, lambda _: there(owner) == {"ann"})
        assert (await send(people["bob"], server, "POST", f"/api/chats/{chat}/typing", {}))[0] == 200
        await invite(ann, server, chat, "bob")
        await asyncio.to_thread(owner.read_until, lambda _: there(owner) == {"ann", "bob"})
        await asyncio.to_thread(client.read_until, lambda _: there(client) == {"ann", "bob"})
        await remove(ann, server, chat, "bob")
        await asyncio.to_thread(owner.read_until, lambda _: there(owner) == {"ann"})
        await asyncio.to_thread(client.read_until, lambda _: not there(client))


@pytest.mark.parametrize("end", ["remove", "delete"])
async def test_open_viewers_end_with_the_right(server: Server, upstream: str, people: People, end: str) -> None:
    ann, bob = people["ann"], people["bob"]
    chat = await talk(ann, server, upstream, "one")
    await invite(ann, server, chat, "bob")
    gate = f"gate-{chat}"
    question = await script(
        ann, upstream, f"{chat} two", {"say": "Be"}, {"wait": gate}, {"say": "SECRET"}, {"finish": "stop"}
    )
    asking = asyncio.create_task(
        send(ann, server, "POST", "/api/chat", {"id": chat, "messages": [said("two", question)]})
    )

    async def begun() -> bool:
        _, read = await send(bob, server, "GET", f"/api/chats/{chat}")
        return "Be" in json.dumps(read)

    await eventually(begun)
    run = {"threadId": chat, "runId": "r", "messages": []}
    followed = await bob.post(f"{server.url}/ag-ui?follow=1", json=run)
    once = await bob.post(f"{server.url}/ag-ui", json=run)
    stream = await bob.get(f"{server.url}/api/chat/{chat}/stream")
    phases = await bob.ws_connect(f"{server.url}/ws?session_id={chat}")
    socket = await bob.ws_connect(f"{server.url}/api/chat")
    await socket.send_json({"type": "resume", "requestId": "r", "id": chat})
    while (await phases.receive_json()).get("chunk") != "Be":
        pass
    for response in (followed, once, stream):
        await _until(response, b"Be")
    while "Be" not in (text := await socket.receive_str()):
        assert "SECRET" not in text
    if end == "remove":
        assert (await remove(ann, server, chat, "bob"))[0] == 200
    else:
        assert (await send(ann, server, "DELETE", f"/api/chats/{chat}"))[0] == 200
    assert (await phases.receive_json())["metadata"]["error"] == "lost"
    assert (await received(stream)).cut
    assert "RUN_ERROR" in (await received(once)).text
    await _until(followed, b'"messages":[]')
    while (last := await socket.receive_json())["type"] != "error":
        assert "SECRET" not in json.dumps(last)
    await open_gate(ann, upstream, gate)
    await asking
    for name, client in (("phases", phases), ("socket", socket)):
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0.2):
                raise AssertionError((name, await client.receive()))
        await client.close()
    followed.close()


async def _until(response: aiohttp.ClientResponse, text: bytes) -> None:
    data = b""
    while text not in data:
        part = await response.content.readany()
        assert part, data
        data += part


async def test_two_people_look_at_different_branches(server: Server, upstream: str, people: People) -> None:
    ann, bob = people["ann"], people["bob"]
    chat = await talk(ann, server, upstream, "one")
    await invite(ann, server, chat, "bob")
    _, first = await send(ann, server, "GET", f"/api/chats/{chat}")
    question = await script(ann, upstream, f"{chat} other", {"say": "A other"}, {"finish": "stop"})
    body = {"id": chat, "messages": [said("one", question)], "messageId": "one"}
    assert (await send(ann, server, "POST", "/api/chat", body))[0] == 200
    _, shown = await send(ann, server, "GET", f"/api/chat/{chat}")
    _, other = await send(bob, server, "GET", f"/api/chat/{chat}?leaf={first['leaf']}")
    assert [
        [part["text"] for part in chat["messages"][-1]["parts"] if part["type"] == "text"] for chat in (shown, other)
    ] == [
        ["A other"],
        ["A one"],
    ]
    async with bob.ws_connect(f"{server.url}/ws?session_id={chat}&leaf={first['leaf']}") as looking:
        assert [(await looking.receive_json())["content"] for _ in range(2)][1] == "A one"
        await looking.send_json({"type": "message", "content": "Here?", "session_id": chat})
        assert (await looking.receive_json())["metadata"]["error"] == "other_branch"
    assert (await send(people["eve"], server, "GET", f"/api/chat/{chat}?leaf={first['leaf']}"))[0] == 404


# slices beside a chat


async def test_slices_beside_a_chat_follow_their_own_rules() -> None:
    """AG-UI shows them as the client's state: as their reader sees them, and as long as they may be read."""
    target = f"{ROOT / 'tests/apps/guarded_chat.py'}:app"
    async with session_of("ann") as ann, session_of("vic:viewer") as vic:
        with Server("serve", target) as server:
            await dispatch(ann, server.url, "room/opened", key="1")
            run = {"threadId": "beside", "runId": "r", "messages": []}
            followed = await vic.post(f"{server.url}/ag-ui?follow=1&slices=room/1,people", json=run)
            states: list[Any] = []

            async def next_state() -> Any:
                """The slices after the next event about them."""
                while True:
                    line = (await followed.content.readline()).decode().removeprefix("data: ")
                    event = json.loads(line) if line.startswith("{") else {}
                    if event.get("type") == "STATE_SNAPSHOT":
                        states.append(event["snapshot"])
                        return event["snapshot"]
                    if event.get("type") == "STATE_DELTA":
                        states.append(jsonpatch.apply_patch(states[-1], event["delta"]))
                        return states[-1]

            first = await next_state()
            assert (set(first), first["people"]) == ({"people"}, {"by": {}})
            async with session_of("eve:editor") as eve:
                payload = {"name": "Eve", "email": "eve@secret.example"}
                assert (await dispatch(eve, server.url, "people/joined", payload))[0] == 200
            assert (await next_state())["people"] == {"by": {"Eve": {"name": "Eve"}}}
            await dispatch(ann, server.url, "room/invited", {"name": "vic"}, key="1")
            assert (await next_state())["room/1"]["members"] == ["ann", "vic"]
            await dispatch(ann, server.url, "room/said", {"text": "Hello."}, key="1")
            assert (await next_state())["room/1"]["messages"] == ["Hello."]
            await dispatch(ann, server.url, "room/expelled", {"name": "vic"}, key="1")
            assert set(await next_state()) == {"people"}
            followed.close()


# the end


async def test_nothing_is_left_of_a_deleted_chat(upstream: str, people: People, tmp_path: Path) -> None:
    ann, bob, journal = people["ann"], people["bob"], f"sqlite:///{tmp_path / 'journal.db'}"
    with chatty(upstream, auth="yes", keep=1, journal=journal) as server:
        chat = await talk(ann, server, upstream, *(f"q{number}" for number in range(30)))
        await invite(ann, server, chat, "bob")
        gate = f"gate-{chat}"
        question = await script(ann, upstream, f"{chat} last", {"say": "Be"}, {"wait": gate}, {"finish": "stop"})
        body = {"id": chat, "messages": [said("last", question)]}
        with following(server, "ann", f"presence/{chat}", f"chat_archive/{chat}:0") as owner:
            await asyncio.to_thread(owner.read_until, lambda _: f"presence/{chat}" in owner.state)
            assert f"chat_archive/{chat}:0" in owner.state
            asking = asyncio.create_task(send(bob, server, "POST", "/api/chat", body))
            assert any(b"A q17" in file.read_bytes() for file in tmp_path.iterdir())
            assert await send(ann, server, "DELETE", f"/api/chats/{chat}") == (200, {})
            assert not any(b"A q17" in file.read_bytes() for file in tmp_path.iterdir())
            assert (await send(ann, server, "DELETE", f"/api/chats/{chat}"))[0] == 404
            await asyncio.to_thread(owner.read_until, lambda _: not owner.state)
        await open_gate(ann, upstream, gate)
        await asking
        state = (await get_state(ann, server.url, "slices=*"))["slices"]
        assert set(state) == {"chats/ann"}
        for who in (ann, bob):  # not even for those who belonged to it, under a new owner
            status, text = await send(who, server, "POST", "/api/chat", {"id": chat, "messages": [said("q", "Hi")]})
            assert (status, "there is no chat" in text) == (404, True)
        assert chat not in (await send(bob, server, "GET", f"/history?slices=chat/{chat}"))[1]
    async with Store(Chat(model=DemoModel()).slices, journal=journal) as store:
        left = {name: await store.read(name) for name in ("chats/ann", "chats/bob")}
        assert left == {"chats/ann": {"chats": {}}, "chats/bob": {"chats": {}}}
        for name in (
            f"chat/{chat}",
            f"chat_archive/{chat}:0",
            f"presence/{chat}",
            f"provider/{chat}",
            f"chat_people/{chat}",
            f"chat_run/{chat}",
            f"chat_erasure/{chat}",
        ):
            assert await store.read(name) is None, name
        assert (await store.read(f"deleted_chat/{chat}")).keys() == {"at"}


async def test_a_chat_that_was_deleted_before_a_crash_is_erased_at_the_next_start() -> None:
    """The process has ended between the two."""
    chat, journal = Chat(model=DemoModel(), titles=False), MemoryJournal()
    async with Store(chat.slices, journal=journal) as store, chat.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("A canary."))
        await eventually(lambda: chats.view.get(f"chat_run/{key}") is None)
        await store.dispatch(conversation.deleted(key))
        assert "A canary." in repr(await journal.read(START, 1_000))
    async with Store(chat.slices, journal=journal) as store, chat.conversations(store) as chats:
        await eventually(lambda: chats.view.version(f"chat_erasure/{key}") == 0)
        assert "A canary." not in repr(await journal.read(START, 1_000))


async def test_a_chat_can_be_deleted_by_anybody_where_everybody_is_anonymous(upstream: str, http: Http) -> None:
    with chatty(upstream) as server:
        chat = await talk(http, server, upstream, "one")
        assert (await send(http, server, "GET", f"/api/chats/{chat}/participants"))[1] == {"participants": []}
        assert (await invite(http, server, chat, "bob"))[0] == 400
        assert (await send(http, server, "DELETE", f"/api/chats/{chat}"))[0] == 200
        assert (await get_state(http, server.url, f"slices=chat/{chat},chats/*"))["slices"] == {}
        await talk(http, server, upstream, "one", chat=chat)


async def test_the_right_counts_when_an_action_takes_effect() -> None:
    """Also if it was lost since the request was checked."""
    chat = Chat(model=DemoModel(), titles=False)
    async with Store(chat.slices) as store, chat.conversations(store) as chats:
        key = await chats.create(user="ann", by=Identity(subject="ann"))
        await chats.people.invite(key, "bob", by=Identity(subject="ann"))
        await chats.people.remove(key, "bob", by=Identity(subject="ann"))
        bob = Identity(subject="bob")
        refused = [
            chats.ask(key, Question.text("May I?", author="bob"), by=bob),
            chats.branch(key, "any", by=bob),
            chats.people.invite(key, "eve", by=bob),
            chats.people.remove(key, "bob", by=bob),
            chats.people.delete(key, by=bob),
        ]
        for attempt in refused:
            with pytest.raises(Refused) as error:
                await attempt
            assert error.value.reason == conversation.NOT_MEMBER
        with pytest.raises(Refused):
            await store.dispatch(conversation.created(key, user="bob"))
        assert await store.read(f"chat_people/{key}") == {"user": "ann", "participants": []}
        await chats.people.delete(key, by=Identity(subject="ann"))
        with pytest.raises(NotFound):
            await chats.ask(key, Question.text("May I?", author="bob"), create=True, by=bob)
