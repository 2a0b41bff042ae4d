"""The chat on llmock, another implementation of OpenAI's API: what it says, and what it can do wrong.

Its pytest plugin brings the fixtures: `llmock_server`, a server on a real socket, and `llmock`, which scripts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support import Server
from tests.support.chats import ask, assert_failed, chatty, ended, new_chat, text_of

TEXT = "A reply of some length, which comes in several chunks."


@pytest.fixture(scope="module")
def server(llmock_server: Any) -> Iterator[Server]:
    """A chat that waits 2 s for the next word."""
    with chatty(llmock_server.url, first=20, idle=2, retries=2) as running:
        yield running


async def test_a_reply_is_whole(server: Server, llmock: Any, http: aiohttp.ClientSession) -> None:
    chat = await new_chat(http, server)
    llmock.reply(TEXT)
    answer = await ask(http, server, chat, "Say something.")
    message = await ended(http, server, chat)
    assert (answer.text, answer.cut, text_of(message)) == (TEXT, False, TEXT)
    assert (message["status"], message["finish_reason"]) == ("complete", "stop")
    assert message["usage"]["output"] > 0
    llmock.assert_resilient(strict=True)


async def test_a_tool_is_called_and_its_outcome_told(server: Server, llmock: Any, http: aiohttp.ClientSession) -> None:
    chat = await new_chat(http, server)
    llmock.call_tool("weather", {"city": "Ulm"}).reply("It is 20 degrees.")
    await ask(http, server, chat, "How is the weather?")
    message = await ended(http, server, chat)
    assert [part["type"] for part in message["parts"]] == ["tool", "text"]
    assert message["parts"][0]["result"] == {"city": "Ulm", "celsius": [20]}
    assert message["parts"][1]["text"] == "It is 20 degrees."
    told = llmock.last_request.body["messages"][-1]
    assert (told["role"], told["tool_call_id"]) == ("tool", message["parts"][0]["call"])
    assert told["content"] == '{"city":"Ulm","celsius":[20]}'
    llmock.assert_resilient(strict=True)


@pytest.mark.parametrize("kind", ["malformed_arguments", "unknown_tool"])
async def test_a_broken_call_is_told_to_the_model(
    server: Server, llmock: Any, http: aiohttp.ClientSession, kind: str
) -> None:
    chat = await new_chat(http, server)
    llmock.call_tool("weather", {"city": "Ulm"}).break_tool_call(kind).reply("Sorry.")
    await ask(http, server, chat, "How is the weather?")
    message = await ended(http, server, chat)
    assert message["parts"][0]["status"] == "error"
    assert llmock.last_request.body["messages"][-1]["content"] == message["parts"][0]["error"]
    assert (message["status"], text_of({"parts": message["parts"][1:]})) == ("complete", "Sorry.")


FAULTS = {"truncate": "truncated", "disconnect": "connection", "corrupt": "failed", "stall": "timeout"}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stream_that_breaks_is_told_apart(
    server: Server, llmock: Any, http: aiohttp.ClientSession, fault: str
) -> None:
    chat = await new_chat(http, server)
    getattr(llmock.reply(TEXT), fault)(after_chunks=3)
    answer = await ask(http, server, chat, "Say something.")
    message = await ended(http, server, chat)
    said = text_of(message)
    assert_failed(message, FAULTS[fault], said)
    assert answer.cut
    assert answer.text == said
    assert said
    assert TEXT.startswith(said)
    assert said != TEXT


async def test_who_is_asked_too_often_is_asked_again_when_it_said(
    server: Server, llmock: Any, http: aiohttp.ClientSession
) -> None:
    chat = await new_chat(http, server)
    llmock.rate_limit(times=2, retry_after=0.1).reply(TEXT)
    assert (await ask(http, server, chat, "Say something.")).text == TEXT
    assert len(llmock.requests) == 3
    llmock.assert_resilient(strict=True)


async def test_who_stays_asked_too_often_ends_the_reply(
    server: Server, llmock: Any, http: aiohttp.ClientSession
) -> None:
    chat = await new_chat(http, server)
    llmock.rate_limit(times=None, retry_after=0.1)
    assert (await ask(http, server, chat, "Say something.")).cut
    assert_failed(await ended(http, server, chat), "rate_limited", "")
