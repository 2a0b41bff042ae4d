"""Opaque data: it is returned to the provider that sent it, and nobody else sees any of it.

The upstream refuses a conversation in which something is missing, so a reply that is complete has passed. What it was
sent is looked at as well.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream import Store
from statestream.chat import Chat, Question
from statestream.chat.models import CallPiece, Finish, Opaque, Piece, Reasoning, ToolSpec, Turn
from tests.support import PlainClient, Server, eventually
from tests.support.chats import ask, chatty, ended, new_chat, read_chat, read_until, user
from tests.support.provider import asked, open_gate, script
from tests.support.wires.rules import violation

Http = aiohttp.ClientSession
SECRET = "c2VjcmV0LWNhbmFyeQ"
SIGNATURE = {"google": {"thought_signature": SECRET}}
ULM = {"name": "weather", "arguments": '{"city":"Ulm"}'}
CALLED = {"finish": "tool_calls"}
DONE = ({"say": "Done."}, {"finish": "stop"})


def calling(*calls: Any, **more: Any) -> Any:
    return {"delta": {"tool_calls": list(calls), **more}}


def thinking(text: str, signature: str | None = None) -> Any:
    return {"delta": {"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": signature}]}}


ANSWERS: dict[str, list[Any]] = {
    "thoughts": [{"think": "Ulm? "}, {"think": "I look."}, {"call": {"index": 0, "id": "c1", **ULM}}],
    "thoughts between calls": [{"call": {"index": 0, "id": "c1", **ULM}}, {"think": "Late."}],
    "a signature in each call": [
        calling({"index": 0, "id": "c1", "function": ULM, "extra_content": SIGNATURE}),
        calling({"index": 1, "id": "c2", "function": ULM, "extra_content": {"google": {"thought_signature": "other"}}}),
    ],
    "signatures of calls in one piece": [
        calling(
            {"index": 0, "id": "c1", "function": ULM, "extra_content": SIGNATURE},
            {
                "index": 0,
                "id": "c2",
                "function": ULM,
                "extra_content": {"vertex": {"thought_signature": "2", "n": 1e3}},
            },
        )
    ],
    "a signature repeated in every piece": [
        calling({"index": 0, "id": "c1", "function": {"name": "weather"}, "extra_content": SIGNATURE}),
        calling({"index": 0, "id": "c1", "function": {"arguments": ULM["arguments"]}, "extra_content": SIGNATURE}),
    ],
    "signed thinking": [
        {"think": "Ulm? "},
        thinking("Ulm? "),
        thinking("", SECRET),
        {"call": {"index": 0, "id": "c1", **ULM}},
    ],
}


def sent_of(requests: Any) -> list[Any]:
    return [request["body"]["messages"] for request in requests]


@pytest.mark.parametrize("what", ANSWERS)
async def test_it_comes_back_with_the_outcome_and_with_every_later_question(
    patient: Server, upstream: str, http: Http, what: str
) -> None:
    question = f"Opaque: {what}."
    await script(http, upstream, question, *ANSWERS[what], CALLED)
    again = json.loads(json.dumps(ANSWERS[what]).replace('"id": "c', '"id": "d'))
    await script(http, upstream, f"{question}+", *again, CALLED)
    await script(http, upstream, f"{question}++", *DONE)
    chat = await new_chat(http, patient)
    await ask(http, patient, chat, question)
    assert (await ended(http, patient, chat))["status"] == "complete"
    later = await script(http, upstream, f"After: {what}.", *DONE)
    await ask(http, patient, chat, later)
    assert (await ended(http, patient, chat))["status"] == "complete"
    messages = sent_of(await asked(http, upstream, later))[-1]
    first, second = [message for message in messages if message.get("tool_calls")]
    first_calls, second_calls = ([{**call, "id": ""} for call in step.pop("tool_calls")] for step in (first, second))
    assert (first, first_calls) == (second, second_calls), "the second answer was the same"


async def test_thoughts_go_back_once_the_conversation_has_calls(patient: Server, upstream: str, http: Http) -> None:
    """Without calls some providers refuse them, with calls others want them with every answer."""
    chat = await new_chat(http, patient)
    for number, steps in enumerate(([{"think": "A."}], [], [{"think": "B."}])):
        await ask(http, patient, chat, await script(http, upstream, f"Think {number}.", *steps, *DONE))
    (messages,) = sent_of(await asked(http, upstream, "Think 2."))
    assert all("reasoning_content" not in message for message in messages)
    await script(http, upstream, "Now call.", {"think": "C."}, {"call": {"index": 0, "id": "c1", **ULM}}, CALLED)
    await script(http, upstream, "Now call.+", *DONE)
    await ask(http, patient, chat, "Now call.")
    _, messages = sent_of(await asked(http, upstream, "Now call."))
    thoughts = [message["reasoning_content"] for message in messages if message["role"] == "assistant"]
    assert thoughts == ["A.", "", "B.", "C."]


@pytest.mark.slow
async def test_a_provider_that_misses_thoughts_of_another_model_gets_empty_ones(
    upstream: str, http: Http, tmp_path: Path
) -> None:
    """Conversely, a provider that does not know them receives none. Either kind complains only once."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    think = {"think": "Hm."}, {"call": {"index": 0, "id": "c1", **ULM}}
    await script(http, upstream, "Another calls.", *think, CALLED)
    await script(http, upstream, "Another calls.+", *DONE)
    with chatty(upstream, journal=journal, model="another") as server:
        chats = [await new_chat(http, server) for _ in range(2)]
        for chat in chats:
            await ask(http, server, chat, "Another calls.")
    with chatty(upstream, journal=journal) as server:
        for chat in chats:
            question = await script(http, upstream, f"Demanded in {chat}.", {"demand": "reasoning_content"}, *DONE)
            await ask(http, server, chat, question)
            assert (await ended(http, server, chat))["status"] == "complete"
    for chat, times in zip(chats, (2, 1), strict=True):
        *_, messages = requests = sent_of(await asked(http, upstream, f"Demanded in {chat}."))
        assert len(requests) == times
        assert [answer["reasoning_content"] for answer in messages if answer["role"] == "assistant"] == ["", ""]
    with chatty(upstream, journal=journal, model="another") as server:
        for chat in chats:
            question = await script(http, upstream, f"Rejected in {chat}.", {"reject": "reasoning_content"}, *DONE)
            await ask(http, server, chat, question)
            assert (await ended(http, server, chat))["status"] == "complete"
    for chat, times in zip(chats, (2, 1), strict=True):
        assert len(await asked(http, upstream, f"Rejected in {chat}.")) == times


async def signed(http: Http, upstream: str, question: str, *before: Any) -> str:
    """A question that is answered with a call, a signature of it, and a signed thought."""
    call = calling({"index": 0, "id": "functions.weather:0", "function": ULM, "extra_content": SIGNATURE})
    await script(http, upstream, question, thinking("Hm. "), thinking("", SECRET), call, *before, CALLED)
    await script(http, upstream, f"{question}+", *DONE)
    return question


@pytest.mark.slow
async def test_it_survives_a_restart_and_is_for_the_model_that_sent_it_only(
    upstream: str, http: Http, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    with chatty(upstream, journal=journal) as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, await signed(http, upstream, "Sign it."))
    with chatty(upstream, journal=journal, model="another") as server:
        await ask(http, server, chat, await script(http, upstream, "Another model.", *DONE))
        assert (await ended(http, server, chat))["status"] == "complete"
    (messages,) = sent_of(await asked(http, upstream, "Another model."))
    assert SECRET not in json.dumps(messages)
    (call,) = messages[1]["tool_calls"]
    assert re.fullmatch("[a-z0-9]{9}", call["id"]), "the id was another model's, which may write them in its own way"
    with chatty(upstream, journal=journal) as server:
        await ask(http, server, chat, await script(http, upstream, "And back.", *DONE))
    (messages,) = sent_of(await asked(http, upstream, "And back."))
    assert messages[1]["tool_calls"][0]["extra_content"] == SIGNATURE
    assert messages[1]["tool_calls"][0]["id"] == "functions.weather:0"
    assert messages[1]["thinking_blocks"] == [{"type": "thinking", "thinking": "Hm. ", "signature": SECRET}]


async def test_nobody_sees_it(upstream: str, http: Http, tmp_path: Path) -> None:
    """Not while the reply grows and not later, in no stream, snapshot, cause, answer or page of the history."""
    with chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}") as server:
        chat = await new_chat(http, server)
        question = await signed(http, upstream, "Hide it.", {"wait": "hidden"})
        with PlainClient(server.port, "slices=*&cause=full") as live:
            async with (
                http.post(f"{server.url}/api/chats/{chat}/stream", json=user(question)) as asking,
                http.ws_connect(f"{server.url}/ws?session_id={chat}") as phases,
                http.get(f"{server.url}/api/chat/{chat}/stream") as ai_sdk,
                http.post(f"{server.url}/ag-ui?slices=*", json=run_of(chat)) as ag_ui,
            ):
                await eventually(lambda: shown(http, server, chat, "functions.weather:0"))
                during = await everything_of(http, server, chat)
                await open_gate(http, upstream, "hidden")
                await read_until(asking, "Done.")
                seen = [await ai_sdk.text(), await ag_ui.text()]
                async with asyncio.timeout(60):
                    while '"stream_end": true' not in seen[-1] and '"stream_end":true' not in seen[-1]:
                        seen.append(await phases.receive_str())
            await ended(http, server, chat)
            frames = []
            for frame in live.frames():
                frames.append(json.dumps(frame.data))
                if "chat/ended" in frames[-1]:
                    break
        after = await everything_of(http, server, chat)
        with PlainClient(server.port, "slices=*&cause=full&after=earliest") as replayed:
            past = []
            for frame in replayed.frames():
                past.append(json.dumps(frame.data))
                if "chat/ended" in past[-1]:
                    break
    for told in (*during, *after, *seen, *frames, *past):
        assert SECRET not in told
        assert "provider" not in told.replace("providerExecuted", "")  # the AI SDK's name for tools of a server
    assert any("functions.weather:0" in text for text in during)
    assert any("functions.weather:0" in text for text in frames)


def run_of(chat: str) -> Any:
    return {
        "threadId": chat,
        "runId": "run",
        "state": {},
        "messages": [],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }


async def shown(http: Http, server: Server, chat: str, text: str) -> bool:
    return text in json.dumps(await read_chat(http, server, chat))


async def everything_of(http: Http, server: Server, chat: str) -> list[str]:
    """What a client can ask for."""
    async with http.get(f"{server.url}/state?slices=*") as response:
        state = await response.text()
    position = json.loads(state)["position"]
    found = [state]
    for path in (
        f"state?slices=*&at={position}",
        "history?slices=*&cause=full",
        f"api/chats/{chat}",
        f"api/chat/{chat}",
        "metrics",
    ):
        async with http.get(f"{server.url}/{path}") as response:
            assert response.status == 200, path
            found.append(await response.text())
    for path in ("state", "history", "stream/state"):
        async with http.get(f"{server.url}/{path}?slices=provider/{chat}") as response:
            assert response.status == 404, path
    return found


async def test_a_reply_that_is_broken_off_spoils_no_later_question(patient: Server, upstream: str, http: Http) -> None:
    """Whether the connection was lost before the call was whole, in it, or before its outcome was answered."""
    call = {"call": {"index": 0, "id": "c1", **ULM}}
    for number, (first, second) in enumerate(
        [
            ([{"think": "Hm."}, {"cut": True}], []),
            (
                [
                    {"think": "Hm."},
                    {"call": {"index": 0, "id": "c1", "name": "weather", "arguments": "{"}},
                    {"cut": True},
                ],
                [],
            ),
            ([{"think": "Hm."}, call, CALLED], [{"cut": True}]),
            ([{"say": "I look."}, call, CALLED], [{"think": "Hm."}, {"cut": True}]),
        ]
    ):
        chat = await new_chat(http, patient)
        question = f"Broken off {number}."
        await script(http, upstream, question, *first)
        await script(http, upstream, f"{question}+", *second)
        for _ in range(2):
            await ask(http, patient, chat, question)
        assert (await ended(http, patient, chat))["status"] == "error"
        await ask(http, patient, chat, await script(http, upstream, f"Still there {number}?", *DONE))
        assert (await ended(http, patient, chat))["status"] == "complete"


# in process: how it is kept


class Signing:
    """A model that signs all of its output, and remembers what it received."""

    name = "signing"

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.given: list[Sequence[Turn]] = []

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        self.given.append(turns)
        yield Reasoning(text="Hm.")
        yield Opaque(data="x" * self.size)
        if turns[-1].role == "user":
            yield CallPiece(index=0, id="c", name="look", opaque="y" * self.size)
            yield Finish(reason="tool_calls")
        else:
            yield "Yes."
            yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


async def replied(store: Store, key: str) -> Any:
    await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["status"] != "streaming", every=0.001)
    return store.get(f"chat/{key}")["messages"][-1]


async def test_it_goes_with_the_message_that_it_belongs_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.slices.archive.PAGE", 4)
    model = Signing()
    battery = Chat(model=model, keep=2, window=8, titles=False)

    @battery.tool
    def look() -> str:
        return "here"

    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        for number in range(12):
            await chats.ask(key, Question.text(f"question {number}"))
            await replied(store, key)
        await chats.stop_all()
        live = {message["id"] for message in store.get(f"chat/{key}")["messages"] if message["role"] == "assistant"}
        kept = store.get(f"provider/{key}")["replies"]
        assert kept.keys() > live, "what the model is sent of the archive"
        assert len(kept) <= 5
        assert store.get(f"chat_archive/{key}:0") is not None
    for turn in model.given[-1]:
        if turn.role == "assistant":
            assert turn.opaque == ("x" * 10,)
            assert all(call.opaque == ("y" * 10,) for call in turn.calls)


async def test_it_counts_as_part_of_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.growth.MAX_SIZE", 5_000)
    battery = Chat(model=Signing(5_000), titles=False)
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text("?"))
        assert (await replied(store, key))["error"]["kind"] == "too_long"
        assert store.get(f"provider/{key}") is None


# the rules of the upstream


def user_says(text: str) -> Any:
    return {"role": "user", "content": text}


def calls(id: str, arguments: str = "{}", name: str = "look") -> Any:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": id, "type": "function", "function": function}]}


def outcome(id: str) -> Any:
    return {"role": "tool", "tool_call_id": id, "content": "20"}


ANSWER = {"role": "assistant", "content": "Yes."}
BROKEN: dict[str, list[Any]] = {
    "begins with an answer": [ANSWER, user_says("?")],
    "ends with an answer": [user_says("?"), ANSWER],
    "two questions": [user_says("?"), user_says("?")],
    "two answers": [user_says("?"), ANSWER, ANSWER, user_says("?")],
    "a question after an outcome": [user_says("?"), calls("a"), outcome("a"), user_says("?")],
    "a call without an outcome": [user_says("?"), calls("a"), ANSWER, user_says("?")],
    "an outcome without a call": [user_says("?"), outcome("a")],
    "an outcome of another call": [user_says("?"), calls("a"), outcome("b")],
    "an id twice": [user_says("?"), calls("a"), outcome("a"), calls("a"), outcome("a")],
    "a strange name": [user_says("?"), calls("a", name="a b"), outcome("a")],
    "arguments that are a list": [user_says("?"), calls("a", "[]"), outcome("a")],
    "a blank question": [user_says(" ")],
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_upstream_refuses_what_a_provider_refuses(what: str) -> None:
    assert violation(BROKEN[what]) is not None
    assert violation([{"role": "system", "content": "Be brief."}, *BROKEN[what]]) is not None


def test_the_upstream_takes_a_conversation() -> None:
    whole = [user_says("?"), calls("a"), outcome("a"), calls("b"), outcome("b"), ANSWER, user_says("?")]
    assert violation(whole) is None
    assert violation([{"role": "system", "content": "Be brief."}, *whole]) is None
