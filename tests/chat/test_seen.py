"""Two people in one chat, one of whom has not seen the other's changes: no unseen message disappears.

The unmodified front ends are in `test_client_*`; here are the requests that they and plain clients send.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.support import Server
from tests.support.chats import chatty, read_chat, read_until, received, text_of
from tests.support.phases import Fold
from tests.support.provider import open_gate, script

Http = aiohttp.ClientSession
_numbers = count(1)


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    connector, patience = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(sock_read=20)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        yield session


def said(id: str, text: str) -> Any:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


class Room:
    """A chat, and what people do in it. `ids` has the ids of messages by their texts."""

    def __init__(self, http: Http, server: Server, upstream: str) -> None:
        self.http, self.server, self.upstream = http, server, upstream
        self.id = f"room{next(_numbers)}"
        self.ids: dict[str, str] = {}

    async def post(self, body: Any, who: str = "", path: str = "/api/chat") -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {who}"} if who else {}
        async with self.http.post(f"{self.server.url}{path}", json=body, headers=headers) as response:
            return response.status, (await received(response)).text

    async def say(self, text: str, who: str = "", **more: Any) -> str:
        """A question with the answer "A <text>": its own text is its id, if it is not an edit."""
        await script(self.http, self.upstream, f"{self.id} {text}", {"say": f"A {text}"}, {"finish": "stop"})
        message = said(more.get("messageId", text), f"{self.id} {text}")
        status, body = await self.post({"id": self.id, "messages": [message], **more}, who)
        assert status == 200, body
        return str(json.loads(body.split("\n")[0].removeprefix("data: "))["messageId"])

    async def regenerate(self, text: str, who: str = "", **more: Any) -> tuple[int, str]:
        body = {"id": self.id, "trigger": "regenerate-message", "messages": [said(text, f"{self.id} {text}")], **more}
        return await self.post(body, who)

    async def branch(self, message: str, who: str = "", **more: Any) -> tuple[int, Any]:
        status, text = await self.post({"message": message, **more}, who, f"/api/chats/{self.id}/branch")
        return status, json.loads(text)

    async def invite(self, name: str) -> None:
        assert (await self.post({"subject": name}, path=f"/api/chats/{self.id}/participants"))[0] == 200

    async def leaf(self) -> str:
        return str((await read_chat(self.http, self.server, self.id))["leaf"])

    async def loaded(self, query: str = "", path: str = "/api/chat") -> Any:
        async with self.http.get(f"{self.server.url}{path}/{self.id}{query}") as response:
            return await response.json() if response.status == 200 else response.status

    async def shown(self, query: str = "") -> list[str]:
        """The texts that a page is loaded with."""
        messages = (await self.loaded(query))["messages"]
        return [
            "".join(part.get("text", "") for part in each["parts"]).removeprefix(f"{self.id} ") for each in messages
        ]


@pytest.fixture
async def shared(upstream: str) -> AsyncIterator[Room]:
    """A chat of ana's on a server that knows people."""
    with chatty(upstream, auth="yes") as server:
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer ana"}) as http:
            yield Room(http, server, upstream)


@pytest.fixture
def room(http: Http, server: Server, upstream: str) -> Room:
    return Room(http, server, upstream)


# what hides what others said


async def test_an_answer_is_made_again_only_for_those_who_have_seen_what_followed(room: Room) -> None:
    await room.say("one")
    seen = await room.leaf()
    for text in ("two", "three", "four"):
        await room.say(text)
    last = await room.leaf()
    for more in ({}, {"leaf": seen}, {"messageId": "unknown"}, {"leaf": seen, "messageId": "one"}):
        status, sentence = await room.regenerate("one", **more)
        assert status == 409
        assert "Load it again" in sentence
        assert await room.leaf() == last
    text = f"/api/chats/{room.id}/stream"
    body = {"trigger": "regenerate-message", "messages": [said("one", f"{room.id} one")]}
    status, problem = await room.post(body, path=text)
    assert (status, json.loads(problem)["code"]) == (409, "refused")
    assert "Load it again" in json.loads(problem)["detail"]
    assert await room.leaf() == last
    assert (await room.regenerate("one", leaf=last))[0] == 200
    assert await room.shown() == ["one", "A one"]


async def test_a_question_is_changed_only_where_it_is_shown(room: Room) -> None:
    await room.say("one")
    await room.say("two")
    await room.say("other one", messageId="one", leaf=await room.leaf())
    last = await room.leaf()
    for more in ({}, {"leaf": "two"}):
        await script(room.http, room.upstream, f"{room.id} other two", {"say": "?"}, {"finish": "stop"})
        body = {"id": room.id, "messages": [said("two", f"{room.id} other two")], "messageId": "two", **more}
        status, sentence = await room.post(body)
        assert (status, "Load it again" in sentence) == (409, True)
    assert await room.leaf() == last
    await room.say("other two", messageId="two", leaf=last)
    assert await room.shown() == ["one", "A one", "other two", "A other two"]


async def test_a_branch_is_chosen_by_those_who_have_seen_the_shown_one(room: Room) -> None:
    await room.say("one")
    await room.say("other", messageId="one")
    seen = await room.leaf()
    await room.say("more")
    last = await room.leaf()
    status, problem = await room.branch("one", leaf=seen)
    assert (status, problem["code"]) == (409, "refused")
    assert "Load it again" in problem["detail"]
    assert await room.leaf() == last
    assert (await room.branch("one", leaf=last))[0] == 200
    assert await room.shown() == ["one", "A one"]
    assert (await room.branch("more"))[0] == 409, "the shown question would be hidden"
    assert (await room.branch("more", leaf=await room.leaf()))[0] == 200
    assert await room.leaf() == last
    assert (await room.branch("one", leaf=last))[0] == 200
    assert (await room.branch("one"))[0] == 200, "a caller that names no leaf means the chat as it is"
    assert (await room.branch("one", leaf=""))[0] == 400


async def test_a_question_is_hidden_only_by_those_who_say_that_they_saw_it(shared: Room) -> None:
    room = shared
    await room.say("one", "ana")
    await room.invite("ben")
    first = await room.leaf()
    await room.say("two", "ben")
    last = await room.leaf()
    for who in ("ana", "ben"):
        for status, sentence in (
            await room.regenerate("one", who, messageId=first),
            await room.post({"id": room.id, "messages": [said("one", f"{room.id} else")], "messageId": "one"}, who),
        ):
            assert (status, "This would hide newer messages" in sentence) == (409, True)
    assert await room.leaf() == last
    assert (await room.regenerate("two", "ana", messageId=last))[0] == 200, "no question is hidden"
    again = await room.leaf()
    assert (await room.regenerate("one", "ben", messageId=first, leaf=again))[0] == 200
    other = await room.leaf()
    assert (await room.branch("two", "ana"))[0] == 200, "no question is hidden"
    assert await room.leaf() == again
    status, problem = await room.branch(other, "ben")
    assert (status, "This would hide newer messages" in problem["detail"]) == (409, True)
    assert (await room.branch(other, "ana", leaf=again))[0] == 200
    assert await room.leaf() == other


async def test_a_new_question_goes_where_the_chat_is_unless_its_sender_names_another_leaf(room: Room) -> None:
    await room.say("one")
    seen = await room.leaf()
    await room.say("two")
    last = await room.leaf()
    text = f"/api/chats/{room.id}/stream"
    for path, body in (("/api/chat", {"id": room.id}), (text, {})):
        status, sentence = await room.post({**body, "messages": [said("three", "Three?")], "leaf": seen}, path=path)
        assert (status, "Load it again" in sentence) == (409, True)
    assert await room.leaf() == last
    await room.say("three")
    await room.say("four", leaf=await room.leaf())
    assert (await room.shown())[::2] == ["one", "two", "three", "four"]


async def test_a_request_that_is_sent_again_is_answered_again_and_changes_nothing(room: Room) -> None:
    first = await room.say("one")
    await room.say("two", leaf=first)
    edited = {"messageId": "one", "leaf": await room.leaf()}
    other = await room.say("other", **edited)
    assert await room.say("other", **edited) == other
    last = await room.leaf()
    assert await room.say("one") == first, "its answer is the one that it has"
    assert await room.leaf() == last, "and what is shown stays"
    assert await room.shown() == ["other", "A other"]


async def test_a_question_that_is_sent_again_has_the_answer_that_is_shown(room: Room) -> None:
    """Not the newest one: somebody has gone back to the first."""
    first = await room.say("one")
    await room.regenerate("one")
    assert (await room.branch(first))[0] == 200
    assert await room.say("one") == first
    socket = await Socket(room).connect()
    await socket.until("A one")
    await socket.ask(f"{room.id} one", id="one")
    await room.say("two")
    await socket.until("A two")
    assert list(socket.screen.texts) == ["one", first, "two", await room.leaf()]
    await socket.socket.close()
    events = await run(room, messages=[{"id": "one", "role": "user", "content": f"{room.id} one"}])
    assert events[-1]["type"] == "RUN_FINISHED"


# other protocols


class Socket:
    """A WebSocket of the three phases."""

    def __init__(self, room: Room, **query: str) -> None:
        self.room, self.screen = room, Fold()
        self.url = f"{room.server.url}/ws?" + urlencode({"session_id": room.id, **query})
        self.socket: Any = None

    async def connect(self) -> Socket:
        self.socket = await self.room.http.ws_connect(self.url)
        return self

    async def until(self, text: str) -> Any:
        """The frame after which this text stands somewhere."""
        async with asyncio.timeout(60):
            while True:
                frame = json.loads(await self.socket.receive_str())
                self.screen.take(frame)
                if text in self.screen.texts.values() and not self.screen.open:
                    return frame

    async def ask(self, content: str, **more: Any) -> None:
        await self.socket.send_json({"type": "message", "content": content, "session_id": self.room.id, **more})

    async def refused(self) -> tuple[str, str]:
        """The code and the sentence of the next refusal."""
        async with asyncio.timeout(60):
            while True:
                frame = json.loads(await self.socket.receive_str())
                self.screen.take(frame)
                if frame.get("stream_end") and frame["agentType"] == "system":
                    return frame["metadata"]["error"], self.screen.texts[frame["id"]]


async def test_in_phases_a_leaf_that_is_not_shown_is_refused(room: Room) -> None:
    await room.say("one")
    seen = await room.leaf()
    await room.say("two")
    last = await room.leaf()
    socket = await Socket(room).connect()
    await socket.until("A two")
    await socket.ask("Three?", id="three", leaf=seen)
    code, sentence = await socket.refused()
    assert (code, "Load it again" in sentence) == ("stale", True)
    await script(room.http, room.upstream, f"{room.id} three", {"say": "A three"}, {"finish": "stop"})
    await socket.ask(f"{room.id} three", id="three", leaf=last)
    await socket.until("A three")
    await room.say("other", messageId="one", leaf=await room.leaf())
    await socket.until("A other")
    last = await room.leaf()
    await socket.ask(f"{room.id} three", id="three")
    assert (await socket.refused())[0] == "other_branch"
    assert await room.leaf() == last
    await socket.socket.close()


def events_of(text: str) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


async def run(room: Room, query: str = "", **more: Any) -> list[Any]:
    body = {"threadId": room.id, "runId": "r", "messages": [], **more}
    status, text = await room.post(body, path=f"/ag-ui{query}")
    assert status == 200, text
    return events_of(text)


async def test_in_ag_ui_a_leaf_that_is_not_shown_is_an_error_of_the_run(room: Room) -> None:
    await room.say("one")
    seen = await room.leaf()
    await room.say("two")
    asked = [{"id": "three", "role": "user", "content": f"{room.id} three"}]
    events = await run(room, messages=asked, forwardedProps={"leaf": seen})
    assert [(event["type"], event["code"]) for event in events] == [("RUN_ERROR", "stale")]
    assert "Load it again" in events[0]["message"]
    wrong = {"threadId": room.id, "runId": "r", "messages": asked, "forwardedProps": {"leaf": 7}}
    assert (await room.post(wrong, path="/ag-ui"))[0] == 400
    await script(room.http, room.upstream, f"{room.id} three", {"say": "A three"}, {"finish": "stop"})
    events = await run(room, messages=asked, forwardedProps={"leaf": f"{await room.leaf()}:1", "mine": 1})
    assert events[-1]["type"] == "RUN_FINISHED"
    assert await room.shown() == ["one", "A one", "two", "A two", "three", "A three"]


# looking elsewhere


async def test_one_looks_at_another_branch_and_the_others_stay_where_they_are(room: Room) -> None:
    await room.say("one")
    await room.say("two")
    old = await room.leaf()
    await room.say("other", messageId="one", leaf=await room.leaf())
    last = await room.leaf()
    watching = await Socket(room).connect()
    await watching.until("A other")

    assert await room.shown("?leaf=one") == await room.shown(f"?leaf={old}") == ["one", "A one", "two", "A two"]
    assert await room.shown(f"?leaf={last}") == await room.shown() == ["other", "A other"]
    chat = await room.loaded("?leaf=one", "/api/chats")
    assert (chat["leaf"], len(chat["messages"])) == (old, 6)
    for path in ("/api/chat", "/api/chats"):
        assert await room.loaded("?leaf=nobody", path) == 404
        assert await room.loaded("?leaf=", path) == 400
    [snapshot] = [event for event in await run(room, "?leaf=one") if event["type"] == "MESSAGES_SNAPSHOT"]
    assert [message["id"] for message in snapshot["messages"]] == ["one", *(m["id"] for m in chat["messages"][1:4])]
    [again] = [event for event in await run(room, f"?leaf={old}:0") if event["type"] == "MESSAGES_SNAPSHOT"]
    assert again == snapshot, "as AG-UI calls a part of a reply"
    socket = await Socket(room, leaf="one").connect()
    await socket.until("A two")
    assert [text.removeprefix(f"{room.id} ") for text in socket.screen.texts.values()] == [
        "one",
        "A one",
        "two",
        "A two",
    ]

    await room.say("more")  # where the chat is
    await watching.until("A more")
    more = await room.leaf()
    await socket.ask("And here?", id="here")
    assert (await socket.refused())[0] == "other_branch"
    asked = [{"id": "here", "role": "user", "content": "And here?"}]
    assert [event["code"] for event in await run(room, "?leaf=one", messages=asked)] == ["other_branch"]
    assert await room.leaf() == more
    assert "A more" not in socket.screen.texts.values()

    assert (await room.branch("one", leaf=more))[0] == 200
    await script(room.http, room.upstream, f"{room.id} here", {"say": "A here"}, {"finish": "stop"})
    await socket.ask(f"{room.id} here", id="here")
    await socket.until("A here")
    await watching.until("A here")
    for each in (socket, watching):
        await each.socket.close()


async def test_a_reply_in_the_making_is_resumed_on_its_own_branch_only(room: Room) -> None:
    await room.say("one")
    question = await script(
        room.http, room.upstream, f"{room.id} slow", {"say": "So far"}, {"wait": room.id}, {"finish": "stop"}
    )
    body = {"id": room.id, "messages": [said("one", question)], "messageId": "one"}
    async with room.http.post(f"{room.server.url}/api/chat", json=body) as response:
        await read_until(response, "So far")
        url = f"{room.server.url}/api/chat/{room.id}/stream"
        async with room.http.get(f"{url}?leaf=one") as elsewhere:
            assert elsewhere.status == 204
        events = await run(room, "?leaf=one")
        assert [event["type"] for event in events] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        async with room.http.get(f"{url}?leaf={await room.leaf()}") as resumed:
            await read_until(resumed, "So far")
            await open_gate(room.http, room.upstream, room.id)
            assert "[DONE]" in (await received(resumed)).text
    messages = (await read_chat(room.http, room.server, room.id))["messages"]
    assert text_of(messages[-1]) == "So far"
