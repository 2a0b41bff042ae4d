"""Models behind each API: real servers, the packages of the providers, and our upstream, which checks their rules.

Every test here runs with each API: what a model does for a chat does not depend on the provider. What differs, such as
thoughts that come back, settings and odd shapes, is in the test modules of these things.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from http import client as http_client
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server, eventually
from tests.support.chats import (
    KEY,
    ask,
    assert_failed,
    assert_no_canary,
    chatty,
    ended,
    new_chat,
    post,
    read_until,
    text_of,
    user,
)
from tests.support.provider import FIXTURES, asked, mock, script
from tests.support.provider_faults import FAULTS, KEPT, WORDS, refusal

ULM = {"name": "weather", "arguments": '{"city": "Ulm"}'}
DONE = ({"say": "Done."}, {"finish": "stop"})


@pytest.fixture(scope="module")
def patient(upstream: str, api: str) -> Iterator[Server]:
    """A chat with all the time in the world."""
    with chatty(upstream, api=api) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(upstream: str, api: str) -> Iterator[Server]:
    """A chat that gives up soon: 2 s for the first word, 1 s between two, 4 s in all."""
    with chatty(upstream, api=api, first=2, idle=1, total=4) as server:
        warm_up(server, upstream)
        yield server


def warm_up(server: Server, upstream: str) -> None:
    """Asks until there is an answer: on a busy machine, importing a provider's package may take longer than 2 s."""
    steps = [{"say": "Warm."}, {"finish": "stop"}]
    posted(f"{upstream}/scripts", {"question": "Warm up.", "steps": steps})
    for _ in range(30):
        chat = json.loads(posted(f"{server.url}/api/chats", {}))["id"]
        with contextlib.suppress(http_client.IncompleteRead):
            if posted(f"{server.url}/api/chats/{chat}/stream", user("Warm up.")) == b"Warm.":
                return
    raise AssertionError("the model does not answer")


def posted(url: str, body: Any) -> bytes:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        data: bytes = response.read()
    return data


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A connection for each request, so that a cut one does not meet the next question; none that hangs for long."""
    connector, patience = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(sock_read=15)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        yield session


@pytest.fixture(scope="module")
def mocked(api: str) -> Iterator[Server]:
    """A chat on an implementation of its API by others."""
    with contextlib.contextmanager(mock)() as url, chatty(url, api=api) as server:
        yield server


# answers


async def test_an_answer_is_shown_with_its_thoughts_its_reason_and_its_usage(
    patient: Server, upstream: str, http: aiohttp.ClientSession, api: str
) -> None:
    end = {"reason": "stop", "input": 30, "cached": 20, "output": 9, "reasoning": 5}
    steps = [{"think": "A greeting. "}, {"think": "I greet."}, *WORDS, {"end": end}]
    question = await script(http, upstream, f"Hello, {api}.", *steps)
    chat = await new_chat(http, patient)
    assert (await ask(http, patient, chat, question)).text == KEPT
    message = await ended(http, patient, chat)
    assert message["parts"] == [{"type": "reasoning", "text": "A greeting. I greet."}, {"type": "text", "text": KEPT}]
    assert (message["status"], message["finish_reason"]) == ("complete", "stop")
    assert message["usage"] == {"input": 30, "output": 9, "reasoning": 5, "cached": 20}
    [request] = await asked(http, upstream, question)
    assert KEY in request["key"]


async def test_an_answer_that_is_too_long_for_the_model_says_so(
    patient: Server, upstream: str, http: aiohttp.ClientSession, api: str
) -> None:
    question = await script(http, upstream, f"Be long, {api}.", *WORDS, {"finish": "length"})
    chat = await new_chat(http, patient)
    await ask(http, patient, chat, question)
    message = await ended(http, patient, chat)
    assert (message["status"], message["finish_reason"]) == ("complete", "length")


async def test_tools_are_called_side_by_side_and_their_outcomes_told(
    patient: Server, upstream: str, http: aiohttp.ClientSession, api: str
) -> None:
    """The upstream refuses a conversation in which anything has changed, so a complete reply has passed its rules."""
    question = f"Weather, {api}?"
    rom = (
        {"call": {"index": 1, "id": "c2", "name": "weather", "arguments": '{"ci'}},
        {"call": {"index": 1, "arguments": 'ty": "Rom"}'}},
    )
    look = {"say": "I look. "}
    await script(
        http,
        upstream,
        question,
        {"think": "Two cities."},
        look,
        {"call": {"index": 0, "id": "c1", **ULM}},
        *rom,
        {"finish": "tool_calls"},
    )
    nothing = {"call": {"index": 0, "id": "c3", "name": "broken"}}
    await script(http, upstream, f"{question}+", nothing, {"finish": "tool_calls"})
    await script(http, upstream, f"{question}++", *DONE)
    chat = await new_chat(http, patient)
    await ask(http, patient, chat, question)
    message = await ended(http, patient, chat)
    assert message["status"] == "complete", message
    parts = [{**part, "step": part.get("step", 0)} for part in message["parts"]]
    assert [(part["type"], part["step"]) for part in parts] == [
        ("reasoning", 0),
        ("text", 0),
        ("tool", 0),
        ("tool", 0),
        ("tool", 1),
        ("text", 2),
    ]
    assert [part["result"]["city"] for part in parts[2:4]] == ["Ulm", "Rom"]
    assert parts[4]["error"] == "broken failed."
    after = await script(http, upstream, f"And then, {api}?", *DONE)
    await ask(http, patient, chat, after)
    assert (await ended(http, patient, chat))["status"] == "complete"


async def test_images_reach_the_model(patient: Server, upstream: str, http: aiohttp.ClientSession, api: str) -> None:
    urls = ["data:image/png;base64,iVBORw0KGgo=", "https://files.example.org/cat.jpg"]
    parts = [
        {"type": "file", "mediaType": f"image/{kind}", "url": url}
        for kind, url in zip(("png", "jpeg"), urls, strict=True)
    ]
    question = await script(http, upstream, f"What is this, {api}?", *DONE)
    chat = await new_chat(http, patient)
    said = [{"type": "text", "text": question}, *parts]
    assert (
        await post(http, patient, chat, {"messages": [{"role": "user", "id": "u1", "parts": said}]})
    ).text == "Done."
    [request] = await asked(http, upstream, question)
    content = request["body"]["input" if api == "responses" else "messages"][0]["content"]
    sources = {
        "chat": [{"type": "image_url", "image_url": {"url": url}} for url in urls],
        "responses": [{"type": "input_image", "image_url": url, "detail": "auto"} for url in urls],
        "messages": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            {"type": "image", "source": {"type": "url", "url": urls[1]}},
        ],
    }
    assert content[1:] == sources[api]


async def test_whatever_became_of_a_reply_the_next_question_is_answered(
    patient: Server, upstream: str, http: aiohttp.ClientSession, api: str
) -> None:
    """Its connection was lost in a thought, in a call, after text and a thought, or after a call."""
    call = {"call": {"index": 0, "id": "c1", **ULM}}
    half = {"call": {"index": 0, "id": "c1", "name": "weather", "arguments": "{"}}
    broken: list[tuple[list[Any], list[Any]]] = [
        ([{"think": "Hm."}, {"cut": True}], []),
        ([{"think": "Hm."}, half, {"cut": True}], []),
        ([{"say": "So."}, {"think": "Hm."}, half, {"cut": True}], []),
        ([{"think": "Hm."}, call, {"finish": "tool_calls"}], [{"cut": True}]),
        ([{"say": "I look."}, call, {"finish": "tool_calls"}], [{"think": "Hm."}, {"cut": True}]),
    ]
    for number, (first, second) in enumerate(broken):
        chat = await new_chat(http, patient)
        question = await script(http, upstream, f"Broken off {number}, {api}.", *first)
        await script(http, upstream, f"{question}+", *second)
        await ask(http, patient, chat, question)
        assert (await ended(http, patient, chat))["status"] == "error"
        await ask(http, patient, chat, await script(http, upstream, f"Still there {number}, {api}?", *DONE))
        assert (await ended(http, patient, chat))["status"] == "complete"


async def test_another_implementation_of_its_api_is_understood(mocked: Server, http: aiohttp.ClientSession) -> None:
    chat = await new_chat(http, mocked)
    long = json.loads(FIXTURES.read_text())["fixtures"][0]["response"]["content"]
    assert (await ask(http, mocked, chat, "Say something long.")).text == long
    assert (await ask(http, mocked, chat, "Look up the weather.")).text == "It is 20 degrees."
    message = await ended(http, mocked, chat)
    assert [part["type"] for part in message["parts"]] == ["reasoning", "tool", "text"]
    assert message["parts"][0]["text"] == "In Ulm, they mean."
    assert message["parts"][1]["result"]["city"] == "Ulm"
    assert message["usage"]["output"] > 0
    for question, kind in (("Break off.", "connection"), ("Too often.", "rate_limited")):
        chat = await new_chat(http, mocked)
        await ask(http, mocked, chat, question)
        assert (await ended(http, mocked, chat))["error"]["kind"] == kind
    await assert_no_canary(http, mocked)


@pytest.mark.slow
async def test_without_a_key_the_reply_says_what_is_missing(
    upstream: str, http: aiohttp.ClientSession, api: str, tmp_path: Path
) -> None:
    server = chatty(upstream, api=api)
    server.env |= {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "", "HOME": str(tmp_path)}
    with server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, "Hello?")
        assert_failed(await ended(http, server, chat), "unauthenticated", "")


# what a provider can do wrong


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failing_provider_ends_the_reply_with_a_sentence_and_its_text_so_far(
    patient: Server, upstream: str, http: aiohttp.ClientSession, fault: str
) -> None:
    steps, kind, kept = FAULTS[fault]
    chat = await new_chat(http, patient)
    answer = await ask(http, patient, chat, await script(http, upstream, fault, *steps))
    message = await ended(http, patient, chat)
    assert_failed(message, kind, kept)
    assert (answer.status, answer.cut, answer.text) == (200, True, kept)
    await assert_no_canary(http, patient, answer.text)

    again = await script(http, upstream, "And now?", {"say": "Better."}, {"finish": "stop"})
    assert (await ask(http, patient, chat, again)).text == "Better."


SLOW: dict[str, tuple[list[Any], str]] = {
    "no first word": ([{"wait": "never"}], ""),
    "no first word after the head": ([{"raw": ": here\n\n"}, {"wait": "never"}], ""),
    "no next word": ([*WORDS, {"wait": "never"}], KEPT),
    "no end": ([{"drip": {"text": "and ", "times": 100, "every": 0.5}}], "and "),
}


@pytest.mark.parametrize("fault", SLOW)
async def test_a_provider_that_keeps_everybody_waiting_is_given_up(
    impatient: Server, upstream: str, http: aiohttp.ClientSession, fault: str
) -> None:
    steps, kept = SLOW[fault]
    chat = await new_chat(http, impatient)
    question = await script(http, upstream, fault, *steps)
    answer = await ask(http, impatient, chat, question)
    message = await ended(http, impatient, chat)
    assert_failed(message, "timeout", text_of(message))
    assert text_of(message).startswith(kept)
    assert (answer.status, answer.cut, answer.text) == (200, True, text_of(message))

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[-1]["ended"] == "gone")

    await eventually(gone)


async def test_a_provider_that_limits_us_says_when_it_may_be_asked_again(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    when = {
        "20": "in 20 seconds",
        "1": "in 1 second",
        "150": "in 3 minutes",
        "0": "in a while",
        "99999": "in a while",
        "-1": "in a while",
        "soon": "in a while",
        "١": "in a while",
    }
    for header, words in when.items():
        chat = await new_chat(http, patient)
        limited = refusal(429, **{"retry-after": header})
        await ask(http, patient, chat, await script(http, upstream, f"Limited {header}.", limited))
        message = await ended(http, patient, chat)
        assert message["error"]["message"] == f"The model receives too many requests. Try again {words}."


UNENDED: dict[str, list[Any]] = {
    "silence": [{"last": "stop"}, {"wait": "never"}],
    "a lost connection": [{"last": "stop"}, {"cut": True}],
    "comments": [{"last": "stop"}, {"drip_raw": {"text": ": here\n\n", "times": 100, "every": 0.5}}],
}


@pytest.mark.parametrize("end", UNENDED)
async def test_a_reply_that_has_its_reason_is_whole_whatever_the_connection_does(
    patient: Server, upstream: str, http: aiohttp.ClientSession, end: str
) -> None:
    chat = await new_chat(http, patient)
    answer = await ask(http, patient, chat, await script(http, upstream, f"Then {end}.", *WORDS, *UNENDED[end]))
    assert (answer.text, answer.cut) == (KEPT, False)
    message = await ended(http, patient, chat)
    assert (message["status"], message["finish_reason"]) == ("complete", "stop")
    assert "usage" not in message


async def test_who_stops_a_reply_closes_the_connection_to_the_provider(
    patient: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    chat = await new_chat(http, patient)
    question = await script(http, upstream, "Endless.", *WORDS, {"wait": "never"})
    async with http.post(f"{patient.url}/api/chats/{chat}/stream", json=user(question)) as response:
        await read_until(response, KEPT)
        async with http.post(f"{patient.url}/api/chats/{chat}/stop") as stopped:
            assert await stopped.json() == {"success": True, "stopped": True}
    message = await ended(http, patient, chat)
    assert (message["status"], text_of(message)) == ("stopped", KEPT)

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[-1]["ended"] == "gone")

    await eventually(gone)


@pytest.mark.parametrize("how", ["an error", "too much"])
async def test_a_reply_that_fails_closes_the_connection_to_the_provider_too(
    patient: Server, upstream: str, http: aiohttp.ClientSession, how: str
) -> None:
    fault = {"fail": "failed"} if how == "an error" else {"call": {"index": 0, "id": "nameless", "name": ""}}
    question = await script(http, upstream, f"Endless with {how}.", *WORDS, fault, {"wait": "never"})
    await ask(http, patient, await new_chat(http, patient), question)

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[-1]["ended"] == "gone")

    await eventually(gone)


async def test_a_connection_to_the_provider_is_used_again(upstream: str, http: aiohttp.ClientSession, api: str) -> None:
    question = await script(http, upstream, f"Again, {api}.", *WORDS, {"finish": "stop"})
    with chatty(upstream, api=api) as server:
        chat = await new_chat(http, server)
        for _ in range(4):
            assert (await ask(http, server, chat, question)).text == KEPT
    assert len({request["peer"][1] for request in await asked(http, upstream, question)}) == 1


async def test_no_secret_is_logged_or_shown_whatever_goes_wrong(
    upstream: str, http: aiohttp.ClientSession, tmp_path: Path, api: str
) -> None:
    server = chatty(upstream, api=api, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    try:
        for fault, (steps, _, _) in FAULTS.items():
            await script(http, upstream, fault, *steps)
        chats = {fault: await new_chat(http, server) for fault in FAULTS}
        answers = await asyncio.gather(*(ask(http, server, chat, fault) for fault, chat in chats.items()))
        assert all(answer.cut for answer in answers)
        await assert_no_canary(http, server, *(answer.text for answer in answers))
    finally:
        errors = await asyncio.to_thread(server.stop)
    assert "the model failed" in errors
    assert "canary" not in errors
    assert "Traceback" not in errors
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()
