"""The three-phase protocol from outside: a real server, aiohttp's WebSocket client, and Chromium's.

Every client here is `Fold`, which raises at a frame that breaks the protocol. Providers are tests/support/upstream.py,
so that a reply stands still where a test wants it to.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.store.notifier import Notifier
from tests.support import Server, eventually
from tests.support.browser import LEFT, is_of_the_cut
from tests.support.chats import INTERRUPTED, chatty, ended, new_chat, post, read_chat, text_of, user
from tests.support.node import Node
from tests.support.paths import NODE
from tests.support.phases import Fold
from tests.support.provider import asked, open_gate, script
from tests.support.provider_faults import FAULTS
from tests.support.server import FRONT

BUSY = "A reply is in progress in this chat; wait until it has ended."


@pytest.fixture
async def http() -> Any:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


class Person:
    """Somebody with a WebSocket, who follows some chats, loses the connection, and comes back."""

    def __init__(self, http: aiohttp.ClientSession, server: Server, *chats: str) -> None:
        self.http, self.server, self.chats = http, server, chats
        self.screen = Fold()
        self.frames: list[Any] = []
        self.socket: Any = None

    async def connect(self, **more: Any) -> Person:
        query: list[tuple[str, str]] = []
        for chat in self.chats:
            query += [("session_id", chat), ("position", self.screen.positions.get(chat, ""))]
        self.socket = await self.http.ws_connect(f"{self.server.url}/ws", params=query, max_msg_size=0, **more)
        return self

    def cut(self) -> Person:
        self.socket._response.connection.transport.abort()
        return self

    async def close(self) -> None:
        await self.socket.close()

    async def send(self, value: Any) -> None:
        await self.socket.send_str(value if isinstance(value, str) else json.dumps(value))

    async def ask(self, chat: str, content: str, id: str | None = None) -> None:
        given = {} if id is None else {"id": id}
        await self.send({"type": "message", "content": content, "session_id": chat, **given})

    async def next(self) -> Any:
        """The next frame, as it changes the screen."""
        async with asyncio.timeout(60):
            frame = json.loads(await self.socket.receive_str())
        self.screen.take(frame)
        self.frames.append(frame)
        return frame

    async def until(self, done: Callable[[Any], bool]) -> list[Any]:
        frames = [await self.next()]
        while not done(frames[-1]):
            frames.append(await self.next())
        return frames

    async def until_the_end(self) -> Any:
        """The last frame of the next reply that ends."""
        return (await self.until(lambda frame: frame.get("stream_end", False)))[-1]

    async def closed(self) -> int:
        """With which code the server closes."""
        async with asyncio.timeout(60):
            while (message := await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                self.screen.take(json.loads(message.data))
        return int(self.socket.close_code)


def kinds(frames: list[Any]) -> list[str]:
    """One word a frame; chunks behind each other are one."""
    words = []
    for frame in frames:
        phase = next(
            (flag.removeprefix("stream_") for flag in frame if flag.startswith("stream_") and frame[flag]), None
        )
        word = phase or frame["sender"]
        if not (word == "chunk" and words and words[-1] == "chunk"):
            words.append(word)
    return words


def shown(message: Any) -> str:
    """What the chat's own routes say of a message, as this protocol shows it."""
    text = text_of(message)
    why = message.get("error", {}).get("message", "")
    return f"{text}\n\n{why}" if text and why else text + why


async def nothing_is_left(person: Person, chat: str, question: str) -> None:
    """The next thing that this person is shown is their next question."""
    await person.ask(chat, question)
    assert kinds([await person.next()]) == ["user"]
    assert person.frames[-1]["content"] == question


# asking, and watching


async def test_a_question_makes_its_chat_and_its_reply_comes_in_three_phases(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    steps = [{"think": "Hm."}, {"say": "It is "}, {"wait": "phased"}, {"say": "a thing."}, {"finish": "stop"}]
    question = await script(http, upstream, "What, in phases?", *steps)
    person = await Person(http, patient).connect()
    await person.ask("phases/new", question, "q1")
    await person.until(lambda frame: frame.get("stream_chunk", False))
    await open_gate(http, upstream, "phased")
    end = await person.until_the_end()

    said, reply = (await read_chat(http, patient, "phases%2Fnew"))["messages"]
    assert kinds(person.frames) == ["user", "start", "chunk", "end"]
    first, start = person.frames[:2]
    assert (first["id"], first["content"]) == ("q1", question) == (said["id"], text_of(said))
    assert "author" not in first["metadata"]
    assert person.screen.texts == {"q1": question, reply["id"]: "It is a thing."}
    assert {frame["session_id"] for frame in person.frames} == {"phases/new"}
    assert (start["agentId"], start["agentName"], start["agentType"]) == ("test-model", "test-model", "assistant")
    assert start["metadata"]["reply_to"] == end["metadata"]["reply_to"] == "q1"
    assert (start["timestamp"], end["timestamp"]) == (reply["created_at"], reply["updated_at"])
    assert len(await asked(http, upstream, question)) == 1
    await person.close()


async def test_who_joins_late_sees_what_there_is_and_then_the_same(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    chat = await new_chat(http, patient)
    before = await script(http, upstream, "Before?", {"say": "Before."}, {"finish": "stop"})
    await post(http, patient, chat, user(before))
    steps = [{"say": "One, "}, {"wait": "late1"}, {"say": "two, "}, {"wait": "late2"}, {"say": "three."}]
    question = await script(http, upstream, "Count, late.", *steps, {"finish": "stop"})
    ana, ben = await Person(http, patient, chat).connect(), Person(http, patient, chat)
    await ana.ask(chat, question)
    await ana.until(lambda frame: frame.get("chunk") == "One, ")
    await open_gate(http, upstream, "late1")
    await ana.until(lambda frame: frame.get("chunk") == "two, ")
    await ben.connect()
    seen = [await ben.next() for _ in range(5)]
    assert kinds(seen) == ["user", "ai", "user", "start", "chunk"]
    assert (seen[1]["content"], seen[4]["chunk"]) == ("Before.", "One, two, ")
    await open_gate(http, upstream, "late2")
    for person in (ana, ben):
        await person.until_the_end()
        assert person.screen.again == []
        assert list(person.screen.texts.values()) == [before, "Before.", question, "One, two, three."]
        await person.close()


async def test_what_others_do_by_other_protocols_is_seen(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "Over HTTP?", {"say": "Yes."}, {"finish": "stop"})
    chat = await new_chat(http, patient)
    person = await Person(http, patient, chat).connect()
    body = {"id": chat, "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": question}]}}
    async with http.post(f"{patient.url}/api/chat", json=body) as response:
        await response.read()
    first = await person.until_the_end()
    assert kinds(person.frames) == ["user", "start", "chunk", "end"]
    async with http.post(f"{patient.url}/api/chat", json=body | {"trigger": "regenerate-message"}) as response:
        await response.read()
    second = await person.until_the_end()
    assert kinds(person.frames[-3:]) == ["start", "chunk", "end"]
    assert first["id"] != second["id"]
    assert first["metadata"]["reply_to"] == second["metadata"]["reply_to"] == "m1"
    assert person.screen.again == []
    await person.close()


async def test_several_chats_on_one_connection_are_told_apart(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    person = await Person(http, patient, "beside/1", "beside/2").connect()
    for number in (1, 2):
        steps = [{"say": f"In {number}, "}, {"wait": f"beside{number}"}, {"say": "done."}, {"finish": "stop"}]
        await person.ask(f"beside/{number}", await script(http, upstream, f"Beside {number}?", *steps))
    await person.until(lambda _: len(person.screen.open) == 2 and "In 2, " in person.screen.texts.values())
    for number in (2, 1):
        await open_gate(http, upstream, f"beside{number}")
        end = await person.until_the_end()
        assert end["session_id"] == f"beside/{number}"
        assert person.screen.texts[end["id"]] == f"In {number}, done."
    again = await Person(http, patient, "beside/1", "beside/2").connect()
    assert kinds([await again.next() for _ in range(4)]) == ["user", "ai", "user", "ai"]
    assert again.screen.texts == person.screen.texts
    await again.close()
    await person.close()


# asking twice


async def test_a_question_with_an_id_is_answered_once_however_often_it_is_asked(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    steps = [{"say": "Once."}, {"wait": "once"}, {"finish": "stop"}]
    question = await script(http, upstream, "Once?", *steps)
    ana = await Person(http, patient).connect()
    for _ in range(3):
        await ana.ask("once", question, "same")
    await ana.until(lambda frame: frame.get("chunk") == "Once.")
    ben = await Person(http, patient).connect()
    await ben.ask("once", question, "same")
    await ben.until(lambda frame: frame.get("chunk") == "Once.")
    await open_gate(http, upstream, "once")
    for person in (ana, ben):
        await person.until_the_end()
        assert kinds(person.frames) == ["user", "start", "chunk", "end"]
    cleo = await Person(http, patient).connect()
    await cleo.ask("once", question, "same")
    assert kinds([await cleo.next(), await cleo.next()]) == ["user", "ai"]
    assert ana.screen.texts == ben.screen.texts == cleo.screen.texts
    assert len(await asked(http, upstream, question)) == 1
    later = await script(http, upstream, "Later?", {"say": "Now."}, {"finish": "stop"})
    for person in (ana, cleo):
        await person.ask("once", question, "same")
    await ana.ask("once", later)
    for person in (ana, ben, cleo):
        assert (await person.next())["content"] == later
        await person.until_the_end()
        assert person.screen.again == []
        await person.close()


async def test_a_second_question_is_refused_in_three_phases_and_the_first_one_goes_on(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    first = await script(http, upstream, "Busy?", {"say": "A "}, {"wait": "busy"}, {"say": "B"}, {"finish": "stop"})
    ana = await Person(http, patient).connect()
    await ana.ask("busy", first)
    await ana.until(lambda frame: frame.get("chunk") == "A ")
    position = ana.screen.positions["busy"]
    await ana.ask("busy", "Me too!", "mine")
    refused = await ana.until_the_end()
    assert kinds(ana.frames[-3:]) == ["start", "chunk", "end"]
    assert {frame["metadata"]["error"] for frame in ana.frames[-3:]} == {"busy"}
    assert {frame["metadata"]["reply_to"] for frame in ana.frames[-3:]} == {"mine"}
    assert ana.screen.texts[refused["id"]] == BUSY
    assert refused["agentType"] == "system"
    assert refused["metadata"]["position"] == position
    await open_gate(http, upstream, "busy")
    end = await ana.until_the_end()
    assert ana.screen.texts[end["id"]] == "A B"
    assert len((await read_chat(http, patient, "busy"))["messages"]) == 2
    await ana.close()


# how a reply ends


@pytest.mark.parametrize("fault", ["an error in the stream", "a lost connection before a word", "too many requests"])
async def test_a_failing_provider_is_told_in_the_phases(
    patient: Server, upstream: str, http: aiohttp.ClientSession, fault: str
) -> None:
    steps, kind, kept = FAULTS[fault]
    chat = await new_chat(http, patient)
    person = await Person(http, patient, chat).connect()
    await person.ask(chat, await script(http, upstream, f"{fault}, in phases", *steps))
    end = await person.until_the_end()
    message = await ended(http, patient, chat)
    last = person.frames[-2]
    assert kinds(person.frames) == ["user", "start", "chunk", "end"]
    assert (last["metadata"]["error"], end["metadata"]["error"]) == (kind, kind) == (message["error"]["kind"],) * 2
    assert last["chunk"].strip() == message["error"]["message"]
    assert person.screen.texts[end["id"]] == shown(message)
    assert person.screen.texts[end["id"]].startswith(kept)
    assert "canary" not in json.dumps(person.frames)
    late = await Person(http, patient, chat).connect()
    _, reply = await late.next(), await late.next()
    assert (reply["content"], reply["metadata"]["error"]) == (shown(message), kind)
    for each in (person, late):
        await each.close()


async def test_a_reply_that_is_stopped_elsewhere_ends_with_what_it_has(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    chat = await new_chat(http, patient)
    person = await Person(http, patient, chat).connect()
    await person.ask(chat, await script(http, upstream, "Stop me.", {"say": "As far"}, {"wait": "never"}))
    await person.until(lambda frame: frame.get("chunk") == "As far")
    async with http.post(f"{patient.url}/api/chats/{chat}/stop") as response:
        assert (await response.json())["stopped"] is True
    end = await person.until_the_end()
    assert end["metadata"]["stopped"] is True
    assert "error" not in end["metadata"]
    assert person.screen.texts[end["id"]] == "As far"
    await person.close()


# lost connections

PIECES = ["It ", "grows ", "größer — ", "👩‍👩‍👧 ", "\n\n", "and ", "ends."]
FRAMES = 3 + len(PIECES)


def slowly(gates: str) -> list[Any]:
    """Steps of a reply that says a piece whenever the gate before it is open."""
    return [step for n, piece in enumerate(PIECES) for step in ({"wait": f"{gates}{n}"}, {"say": piece})]


@pytest.mark.parametrize("back", ["while it grows", "when it has ended"])
@pytest.mark.parametrize("count", range(FRAMES + 1))
async def test_cut_after_any_frame_the_missing_text_comes_once(
    patient: Server, upstream: str, http: aiohttp.ClientSession, count: int, back: str
) -> None:
    """Each piece is a frame of its own, because the next one waits until a watcher has seen it."""
    chat, gates = await new_chat(http, patient), f"cut {count} {back} "
    question = await script(http, upstream, f"Cut after {count}, back {back}", *slowly(gates), {"finish": "stop"})
    person, watcher = Person(http, patient, chat), await Person(http, patient, chat).connect()
    await person.connect()
    await person.ask(chat, question, "q1")
    await watcher.until(lambda frame: frame.get("stream_start", False))

    async def read(most: int) -> None:
        while len(person.frames) < most:
            await person.next()

    await read(min(count, 2))
    returned = False
    for number, piece in enumerate(PIECES):
        if number + 3 > count and not returned and back == "while it grows":
            returned = await come_back(person)
        await open_gate(http, upstream, f"{gates}{number}")
        await watcher.until(lambda frame, piece=piece: frame.get("chunk") == piece)
        await read(min(count, number + 3))
    await watcher.until_the_end()
    await read(count)
    if not returned:
        await come_back(person)
    if person.screen.open or len(person.screen.texts) < 2:
        await person.until(lambda _: len(person.screen.ended) == 2)
    reply = await ended(http, patient, chat)
    assert person.screen.texts == {"q1": question, reply["id"]: "".join(PIECES)} == watcher.screen.texts
    assert person.screen.again == []
    assert len(await asked(http, upstream, question)) == 1
    await nothing_is_left(person, chat, await script(http, upstream, "Next?", {"say": "Yes."}, {"finish": "stop"}))
    for each in (person, watcher):
        await each.close()


async def come_back(person: Person) -> bool:
    await person.cut().connect()
    return True


async def test_killed_in_a_reply_the_server_goes_on_for_everybody_where_they_were(
    upstream: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    gates, chat = "killed ", "killed/1"
    question = await script(http, upstream, "Kill me.", *slowly(gates)[:8], {"wait": "never"})
    people = [await Person(http, server, chat).connect() for _ in range(7)]
    await people[0].ask(chat, question, "q1")
    watcher = people[-1]
    await watcher.until(lambda frame: frame.get("stream_start", False))
    for number, piece in enumerate(PIECES[:4]):
        await open_gate(http, upstream, f"{gates}{number}")
        await watcher.until(lambda frame, piece=piece: frame.get("chunk") == piece)
    for count, person in enumerate(people[:-1]):
        while len(person.frames) < count:
            await person.next()
    await asyncio.to_thread(server.kill)
    with server:
        reply = await ended(http, server, chat.replace("/", "%2F"))
        assert (reply["error"]["kind"], text_of(reply)) == ("interrupted", "".join(PIECES[:4]))
        for person in people:
            await person.connect()
            await person.until(lambda _, person=person: len(person.screen.ended) == 2)
            assert person.screen.texts == {"q1": question, reply["id"]: shown(reply)}
            assert person.screen.again == []
            assert person.screen.ended[reply["id"]]["metadata"]["error"] == "interrupted"
        assert len(await asked(http, upstream, question)) == 1
        await watcher.ask(chat, question, "q1")  # the answer to a question is lost with the server: it is asked again
        await nothing_is_left(watcher, chat, await script(http, upstream, "Well?", {"say": "."}, {"finish": "stop"}))
        assert len(await asked(http, upstream, question)) == 1
        for person in people:
            await person.close()


async def test_a_server_that_stops_says_how_the_reply_ended_and_then_that_it_goes(
    upstream: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    people = [await Person(http, server, "stopping").connect() for _ in range(3)]
    await people[0].ask("stopping", await script(http, upstream, "Stop, all.", {"say": "So far"}, {"wait": "never"}))
    for person in people:
        await person.until(lambda frame: frame.get("chunk") == "So far")
    idle = await Person(http, server).connect()
    began = time.monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(server.stop))
    assert (
        await asyncio.gather(*(person.closed() for person in (*people, idle))) == [aiohttp.WSCloseCode.GOING_AWAY] * 4
    )
    assert await stopping == ""
    assert time.monotonic() - began < 4
    for person in people:
        (reply,) = [frame for frame in person.screen.ended.values() if frame["sender"] == "ai"]
        assert reply["metadata"]["error"] == "interrupted"
        assert person.screen.texts[reply["id"]] == f"So far\n\n{INTERRUPTED}"


async def test_a_position_is_good_at_another_process(
    upstream: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    steps = [{"say": "Here, "}, {"wait": "moved"}, {"say": "there."}, {"finish": "stop"}]
    question = await script(http, upstream, "Move.", *steps)
    with chatty(upstream, journal=journal) as here, chatty(upstream, journal=journal) as there:
        person = await Person(http, here, "moving").connect()
        await person.ask("moving", question)
        await person.until(lambda frame: frame.get("chunk") == "Here, ")

        person.cut().server = there  # at once: what it has not read yet it reads for this
        await person.connect()
        await open_gate(http, upstream, "moved")
        end = await person.until_the_end()
        assert person.screen.texts[end["id"]] == "Here, there."
        assert person.screen.again == []
        await person.close()


async def test_who_goes_from_process_to_process_while_a_reply_grows_misses_nothing(
    upstream: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    drip = {"drip": {"text": "on and ", "times": 150, "every": 0.02}}
    question = await script(http, upstream, "Hop.", drip, {"finish": "stop"})
    with chatty(upstream, journal=journal) as here, chatty(upstream, journal=journal) as there:
        person = await Person(http, here, "hopping").connect()
        await person.ask("hopping", question)
        for number in range(1, 11):
            chunks = 0
            while chunks < 3:
                chunks += "chunk" in await person.next()
            person.cut().server = (here, there)[number % 2]
            await person.connect()
        end = await person.until_the_end()
        assert person.screen.texts[end["id"]] == "on and " * 150
        assert person.screen.again == []
        assert [frame["sender"] for frame in person.frames if frame["type"] == "message"] == ["user"]
        assert sum(frame.get("stream_start", False) for frame in person.frames) == 1
        await person.close()


@pytest.mark.parametrize("position", ["nonsense", "q1:7", "gone:3", ":", "é:1", "x" * 2_000])
async def test_a_position_that_nobody_has_given_begins_from_the_start(
    patient: Server, upstream: str, http: aiohttp.ClientSession, position: str
) -> None:
    chat = await new_chat(http, patient)
    await post(http, patient, chat, user(await script(http, upstream, "Where?", {"say": "Here."}, {"finish": "stop"})))
    person = Person(http, patient, chat)
    person.screen.positions[chat] = position
    await person.connect()
    assert kinds([await person.next(), await person.next()]) == ["user", "ai"]
    assert list(person.screen.texts.values()) == ["Where?", "Here."]
    await person.close()


# what cannot be done

BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ("hello", "malformed"),
    "half of JSON": ('{"type": "mess', "malformed"),
    "nothing": ("", "malformed"),
    "a number": ("7", "malformed"),
    "a list": ("[]", "malformed"),
    "null": ("null", "malformed"),
    "a NaN": ('{"type": "message", "content": NaN, "session_id": "bad"}', "malformed"),
    "a key twice": ('{"type": "message", "type": "message", "content": "x", "session_id": "bad"}', "malformed"),
    "too deep": ("[" * 5_000 + "]" * 5_000, "malformed"),
    "half a surrogate pair": ('{"type": "message", "content": "\\ud83d", "session_id": "bad"}', "malformed"),
    "a binary message": (b'{"type": "message", "content": "x", "session_id": "bad"}', "malformed"),
    "no type": ({"content": "x", "session_id": "bad"}, "malformed"),
    "another type": ({"type": "shout", "content": "x", "session_id": "bad"}, "malformed"),
    "no content": ({"type": "message", "session_id": "bad"}, "malformed"),
    "a content that is null": ({"type": "message", "content": None, "session_id": "bad"}, "malformed"),
    "a content that is a list": ({"type": "message", "content": ["x"], "session_id": "bad"}, "malformed"),
    "a blank content": ({"type": "message", "content": " \n", "session_id": "bad"}, "malformed"),
    "a long content": ({"type": "message", "content": "x" * 100_001, "session_id": "bad"}, "malformed"),
    "no session": ({"type": "message", "content": "x"}, "malformed"),
    "an empty session": ({"type": "message", "content": "x", "session_id": ""}, "malformed"),
    "a session that is a number": ({"type": "message", "content": "x", "session_id": 7}, "malformed"),
    "a long session": ({"type": "message", "content": "x", "session_id": "x" * 200}, "malformed"),
    "an empty id": ({"type": "message", "content": "x", "session_id": "bad", "id": ""}, "malformed"),
    "a long id": ({"type": "message", "content": "x", "session_id": "bad", "id": "x" * 129}, "malformed"),
    "an id that is a number": ({"type": "message", "content": "x", "session_id": "bad", "id": 7}, "malformed"),
}


async def test_what_cannot_be_understood_is_answered_in_three_phases_and_the_connection_stays(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    person = await Person(http, patient).connect()
    for name, (value, kind) in BAD.items():
        if isinstance(value, bytes):
            await person.socket.send_bytes(value)
        else:
            await person.send(value)
        begin = len(person.frames)
        end = await person.until_the_end()
        assert kinds(person.frames[begin:]) == ["start", "chunk", "end"], name
        assert end["metadata"]["error"] == kind, name
        assert len(person.screen.texts[end["id"]]) > 10, name
        assert "xxxx" not in person.screen.texts[end["id"]], name
    assert len(person.screen.texts) == len(BAD)
    async with http.get(f"{patient.url}/api/chats/bad") as response:
        assert response.status == 404
    await person.ask("good", await script(http, upstream, "Still there?", {"say": "Yes."}, {"finish": "stop"}))
    assert kinds([*await person.until(lambda frame: frame.get("stream_end", False))]) == [
        "user",
        "start",
        "chunk",
        "end",
    ]
    await person.close()


async def test_a_refusal_names_the_chat_and_the_question_that_it_is_about(
    patient: Server, http: aiohttp.ClientSession
) -> None:
    person = await Person(http, patient).connect()
    await person.send({"type": "message", "content": " ", "session_id": "a/b", "id": "q7"})
    end = await person.until_the_end()
    assert (end["session_id"], end["metadata"]["reply_to"]) == ("a/b", "q7")
    await person.send({"type": "message", "content": 7, "session_id": 8, "id": None})
    end = await person.until_the_end()
    assert "session_id" not in end
    assert "reply_to" not in end["metadata"]
    await person.close()


async def test_a_message_that_is_too_large_ends_its_connection_only(
    patient: Server, http: aiohttp.ClientSession
) -> None:
    other, person = await Person(http, patient).connect(), await Person(http, patient).connect()
    await person.send("x" * ((256 << 10) - 1))
    assert (await person.until_the_end())["metadata"]["error"] == "malformed"
    await person.send("x" * (256 << 10))
    assert await person.closed() == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    await other.send("x")
    assert (await other.until_the_end())["metadata"]["error"] == "malformed"
    await other.close()


async def test_a_connection_follows_a_hundred_chats(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    query = [("session_id", f"many/{number}") for number in range(101)]
    for wrong in (query, [("session_id", "x" * 200)], [("session_id", "")], [("position", "x")]):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"{patient.url}/ws", params=wrong)
        assert refused.value.status == 400
    person = await Person(http, patient, *(f"many/{number}" for number in range(100))).connect()
    await person.ask("many/100", "One too many.", "q1")
    end = await person.until_the_end()
    assert (end["metadata"]["error"], end["metadata"]["reply_to"]) == ("malformed", "q1")
    assert "100" in person.screen.texts[end["id"]]
    await person.ask("many/99", await script(http, upstream, "Just right.", {"say": "Yes."}, {"finish": "stop"}))
    assert (await person.until_the_end())["session_id"] == "many/99"
    await person.close()


async def test_what_is_no_websocket_is_a_problem(patient: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{patient.url}/ws") as response:
        assert (response.status, response.content_type) == (400, "application/problem+json")
    async with http.get(f"{patient.url}/ws?user=ana") as response:
        assert response.status == 400


# people, and connections that come and go


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


async def test_connections_that_come_and_go_leave_nothing_behind(upstream: str, http: aiohttp.ClientSession) -> None:
    with chatty(upstream) as server:
        async with http.get(f"{server.url}/state?slices=*") as response:
            await response.read()
        before = descriptors(server)
        for close in ("cut", "close"):
            people = await asyncio.gather(*(Person(http, server, "come", "go").connect() for _ in range(50)))
            assert descriptors(server) > before + 40
            for person in people:
                if close == "cut":
                    person.cut()
                else:
                    await person.close()
            await eventually(lambda: descriptors(server) <= before)
        assert await asyncio.to_thread(server.stop) == ""


def test_who_has_left_is_forgotten() -> None:
    watch = Notifier()
    with watch.on(["chat/1"]) as bell, watch.also(["chat/2"], bell):
        left = weakref.ref(bell)
    del bell
    gc.collect()
    assert left() is None


# a client that does not read

PIECE, TIMES = "€" * 40_000, 48
DRIP = {"drip": {"text": PIECE, "times": TIMES, "every": 0.03}}
"""As long as a reply may be: six megabytes on the wire, which the kernel does not take for a client that sleeps."""


def small_window(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    return connection


@pytest.fixture
async def narrow() -> Any:
    """Connections that take little when nobody reads them."""
    connector = aiohttp.TCPConnector(force_close=True, socket_factory=small_window)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def stalled(narrow: aiohttp.ClientSession, server: Server, chat: str) -> Person:
    person = await Person(narrow, server, chat).connect()
    person.socket._response.connection.transport.pause_reading()
    return person


async def test_a_client_that_does_not_read_costs_little_and_holds_up_nobody(
    upstream: str, http: aiohttp.ClientSession, narrow: aiohttp.ClientSession
) -> None:
    count = 25
    question = await script(http, upstream, "At length.", DRIP, {"finish": "stop"})
    with chatty(upstream) as server:
        grown = []
        for chat, slow in (("alone", 0), ("beside", count)):
            before = server.resident()
            people = [await stalled(narrow, server, chat) for _ in range(slow)]
            reader = await Person(http, server, chat).connect()
            await reader.ask(chat, question, f"q-{chat}")
            end = await reader.until_the_end()
            assert reader.screen.texts[end["id"]] == PIECE * TIMES
            grown.append(server.resident() - before)
            await reader.close()
        # an ASGI server keeps a message of its own for each of them, which may be all that it has missed
        most = 40 << 20 if FRONT == "statestream" else count * len(PIECE.encode()) * TIMES
        assert grown[1] - grown[0] < most, [size >> 20 for size in grown]
        for person in people:
            person.socket._response.connection.transport.resume_reading()
            await person.until_the_end()
            assert person.screen.texts == reader.screen.texts
            assert len(person.frames) < TIMES  # what it missed came as one chunk
            await person.close()


async def test_a_client_that_does_not_read_does_not_keep_the_server_from_stopping(
    upstream: str, http: aiohttp.ClientSession, narrow: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "At length, and then stop.", DRIP, {"finish": "stop"})
    server = chatty(upstream).start()
    person, reader = await stalled(narrow, server, "long"), await Person(http, server, "long").connect()
    await reader.ask("long", question)
    await reader.until_the_end()
    began = time.monotonic()
    stopping = asyncio.create_task(asyncio.to_thread(server.stop))
    assert await reader.closed() == aiohttp.WSCloseCode.GOING_AWAY
    assert await stopping == ""
    assert time.monotonic() - began < 5
    person.cut()


@pytest.mark.soak
async def test_a_client_that_does_not_read_is_cut_in_the_end(
    upstream: str, http: aiohttp.ClientSession, narrow: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "At length, again.", DRIP, {"finish": "stop"})
    with chatty(upstream) as server:
        reader = await Person(http, server, "full").connect()
        await reader.ask("full", await script(http, upstream, "Warm up.", {"say": "Warm."}, {"finish": "stop"}))
        await reader.until_the_end()  # the model's connection is open from now on
        before = descriptors(server)
        people = [await stalled(narrow, server, chat) for chat in ("full", "full", "full", "idle")]
        await reader.ask("full", question)
        await reader.until_the_end()
        assert descriptors(server) >= before + len(people)
        reading = asyncio.create_task(reader.socket.receive())  # answers pings
        await eventually(lambda: descriptors(server) <= before, seconds=60)
        assert not reading.done()
        await reader.close()
        await reading
        for person in people:
            person.cut()


# a browser


async def test_a_page_goes_on_by_itself_when_the_server_is_killed_in_a_reply(
    upstream: str, browser: Node, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    question = await script(http, upstream, "In a page.", {"say": "One, "}, {"say": "two"}, {"wait": "never"})
    again = await script(http, upstream, "In a page, again.", {"say": "größer "}, {"say": "👩‍👩‍👧"}, {"finish": "stop"})

    async def do(what: str, **more: Any) -> Any:
        return await asyncio.to_thread(browser.ask, what, window=LEFT, **more)

    source = base64.b64encode((NODE / "phases.mjs").read_bytes()).decode()
    await do("open", url=f"{server.url}/state")
    start = "globalThis.follower = new module.Follower(`ws://${location.host}/ws`, 'page')"
    await do("look", script=f"import('data:text/javascript;base64,{source}').then((module) => void ({start}))")
    await do("wait", script="follower.socket.readyState === 1")
    await do("look", script=f"follower.ask({json.dumps(question)}, 'q1')")
    await do("wait", script="Object.values(follower.messages.texts).includes('One, two')")
    server.kill()
    with server:
        reply = await ended(http, server, "page")
        await do("wait", script="follower.frames.at(-1).stream_end")
        assert await do("look", script="follower.messages.texts") == {"q1": question, reply["id"]: shown(reply)}
        await do("look", script=f"follower.ask({json.dumps(again)}, 'q2')")
        await do("wait", script="follower.frames.at(-1).stream_end && 'q2' in follower.messages.texts")
        last = await ended(http, server, "page")
        expected = {"q1": question, reply["id"]: shown(reply), "q2": again, last["id"]: "größer 👩‍👩‍👧"}
        assert await do("look", script="follower.messages.texts") == expected
        assert await do("look", script="follower.messages.repeated") == []
        assert set(await do("look", script="follower.closes")) == {1006}
        icon = ("favicon.ico", "a status of 404")  # a page that is JSON has none
        problems = [problem for problem in await do("problems") if not any(word in problem for word in icon)]
        assert [problem for problem in problems if not is_of_the_cut(problem)] == []
        await do("close")
        assert len(await asked(http, upstream, question)) == 1
