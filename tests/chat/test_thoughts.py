"""Signed and encrypted thoughts: they come back as they were and where they were, and only to the model that had them.

The upstream refuses a conversation with calls if a thought is missing, changed or in another place, so a reply that is
complete has passed. What it was sent is looked at as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server
from tests.support.chats import ask, chatty, ended, new_chat
from tests.support.provider import asked, script

Http = aiohttp.ClientSession
ULM = {"name": "weather", "arguments": '{"city": "Ulm"}'}
CALLED = {"finish": "tool_calls"}
DONE = ({"say": "Done."}, {"finish": "stop"})
SIGNED = {"messages": ("thinking", "redacted_thinking"), "responses": ("reasoning",)}


def call(index: int = 0) -> Any:
    return {"call": {"index": index, "id": f"c{index}", **ULM}}


THOUGHTS: dict[str, tuple[int, list[Any]]] = {
    "before a call": (1, [{"think": "Ulm? "}, {"think": "I look."}, call()]),
    "two before a call": (2, [{"think": "Ulm?"}, {"thought": True}, {"think": "I look."}, call()]),
    "before and after text": (2, [{"think": "Ulm?"}, {"say": "I look."}, {"think": "Really."}, call()]),
    "before each of two calls": (2, [{"think": "Ulm?"}, call(0), {"think": "Again?"}, call(1)]),
    "without a text": (1, [{"think": ""}, call()]),
    "in other characters": (1, [{"think": "Ülm 🚀\n\n\u2028"}, call()]),
}
OF_ONE_API: dict[str, dict[str, tuple[int, list[Any]]]] = {
    "messages": {"hidden": (2, [{"redact": "c2VjcmV0"}, {"think": "Ulm?"}, {"say": "I look."}, call()])},
    "responses": {"phases": (1, [{"think": "Ulm?"}, {"phase": "commentary"}, {"say": "I look."}, call()])},
}
CASES = [(api, what, *case) for api in SIGNED for what, case in {**THOUGHTS, **OF_ONE_API[api]}.items()]


@pytest.fixture(scope="module")
def servers(upstream: str) -> Iterator[dict[str, Server]]:
    with chatty(upstream, api="messages") as messages, chatty(upstream, api="responses") as responses:
        yield {"messages": messages, "responses": responses}


def thoughts_in(request: Any, api: str) -> list[Any]:
    """The thoughts that a request has sent back."""
    body = request["body"]
    blocks = body["input"] if api == "responses" else [block for each in body["messages"] for block in each["content"]]
    return [block for block in blocks if block.get("type") in SIGNED[api]]


async def told(http: Http, upstream: str, question: str, api: str) -> list[list[Any]]:
    return [thoughts_in(request, api) for request in await asked(http, upstream, question)]


@pytest.mark.parametrize(("api", "what", "count", "steps"), CASES, ids=[f"{api}, {what}" for api, what, *_ in CASES])
async def test_they_come_back_with_the_outcome_and_with_every_later_question(
    servers: dict[str, Server], upstream: str, http: Http, api: str, what: str, count: int, steps: list[Any]
) -> None:
    server, question = servers[api], f"Thoughts {what}, {api}."
    again = json.loads(json.dumps(steps).replace('"id": "c', '"id": "d'))
    await script(http, upstream, question, *steps, CALLED)
    await script(http, upstream, f"{question}+", *again, CALLED)
    await script(http, upstream, f"{question}++", {"think": "So."}, *DONE)
    chat = await new_chat(http, server)
    await ask(http, server, chat, question)
    message = await ended(http, server, chat)
    assert message["status"] == "complete", message
    shown = "".join(part["text"] for part in message["parts"] if part["type"] == "reasoning")
    assert shown == "".join(step.get("think", "") for step in steps) * 2 + "So."
    later = await script(http, upstream, f"After {what}, {api}.", *DONE)
    await ask(http, server, chat, later)
    assert (await ended(http, server, chat))["status"] == "complete"
    assert [len(thoughts) for thoughts in await told(http, upstream, question, api)] == [0, count, 2 * count]
    [thoughts] = await told(http, upstream, later, api)
    assert len(thoughts) == 2 * count + 1


@pytest.mark.slow
@pytest.mark.parametrize("api", SIGNED)
async def test_they_survive_a_restart_and_are_for_the_model_that_had_them(
    upstream: str, http: Http, tmp_path: Path, api: str
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = f"Think, {api}."
    await script(http, upstream, question, {"think": "Hm."}, call(), CALLED)
    await script(http, upstream, f"{question}+", *DONE)
    with chatty(upstream, api=api, journal=journal) as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, question)
    with chatty(upstream, api=api, journal=journal, model="another") as server:
        await ask(http, server, chat, await script(http, upstream, f"Another, {api}.", *DONE))
        assert (await ended(http, server, chat))["status"] == "complete"
    with chatty(upstream, api=api, journal=journal) as server:
        await ask(http, server, chat, await script(http, upstream, f"And back, {api}.", *DONE))
        assert (await ended(http, server, chat))["status"] == "complete"
    assert await told(http, upstream, f"Another, {api}.", api) == [[]]
    [[thought]] = await told(http, upstream, f"And back, {api}.", api)
    assert thought.get("signature", thought.get("encrypted_content"))


REFUSALS = {
    "messages": "messages.1.content.0: Invalid `signature` in `thinking` block",
    "responses": "The encrypted content gAAA could not be verified. Reason: Encrypted content could not be decrypted.",
}


@pytest.mark.parametrize("api", SIGNED)
async def test_if_the_provider_no_longer_accepts_them_it_is_asked_without(
    servers: dict[str, Server], upstream: str, http: Http, api: str
) -> None:
    """The key may be another account's by now. Thoughts that came later are sent again."""
    server, question = servers[api], f"Think first, {api}."
    await script(http, upstream, question, {"think": "Hm."}, *DONE)
    chat = await new_chat(http, server)
    await ask(http, server, chat, question)
    later = await script(http, upstream, f"Distrusted, {api}.", {"distrust": REFUSALS[api]}, *DONE)
    await ask(http, server, chat, later)
    assert (await ended(http, server, chat))["status"] == "complete"
    assert [len(thoughts) for thoughts in await told(http, upstream, later, api)] == [1, 0]
    after = await script(http, upstream, f"Trusted, {api}.", *DONE)
    await ask(http, server, chat, after)
    assert [len(thoughts) for thoughts in await told(http, upstream, after, api)] == [1]
