"""A model that fails before its first piece is asked again, by the server alone, and people see that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.chat import Chat
from statestream.chat.agents import Status
from statestream.chat.models import ModelFailed, Piece
from statestream.chat.replies.retrying import Retrying
from tests.support import Server
from tests.support.chats import assert_failed, chatty, ended, new_chat, ui_question
from tests.support.clock import timeless
from tests.support.provider import asked, script

Http = aiohttp.ClientSession
BUSY = ModelFailed("failed", "The model is overloaded. Try again in a while.", temporary=True)


# a model


class Failing:
    """Fails in these ways, one after the other; then it answers. A text is said before the failure that follows it."""

    def __init__(self, *failures: ModelFailed | str) -> None:
        self.failures, self.asked = list(failures), 0

    def __call__(self) -> AsyncIterator[Piece]:
        self.asked += 1
        return self._answer()

    async def _answer(self) -> AsyncIterator[Piece]:
        while self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, ModelFailed):
                raise failure
            yield failure
        yield "Yes."


def attempt(model: Failing, most: int = 3, seconds: float = 60.0) -> tuple[list[Any], float, list[str]]:
    """What comes of asking: the pieces, and the failure in the end if there is one; how long it took; the retries."""
    retried: list[str] = []

    async def ask() -> tuple[list[Any], float]:
        found: list[Any] = []
        began = asyncio.get_running_loop().time()
        try:
            async for piece in Retrying(most, seconds, retried.append).pieces(model, "m"):
                found.append(piece)  # noqa: PERF401 - what came before a failure counts, too
        except ModelFailed as failure:
            found.append(failure)
        return found, asyncio.get_running_loop().time() - began

    found, took = timeless(ask())
    return found, took, retried


def test_a_failure_that_passes_is_told_and_the_answer_follows() -> None:
    found, took, retried = attempt(Failing(BUSY))
    assert found == [Status(text="The model is overloaded. Trying again in 1 s."), Status(text=""), "Yes."]
    assert 0.25 <= took <= 0.5
    assert retried == ["failed"]


def test_the_pauses_grow_and_end() -> None:
    model = Failing(*[BUSY] * 9)
    found, took, _ = attempt(model)
    assert found[-1] is BUSY
    assert model.asked == 4
    assert 0.25 + 0.5 + 1 <= took <= 0.5 + 1 + 2
    assert attempt(Failing(BUSY), most=0)[0] == [BUSY]


def test_a_provider_is_given_the_time_that_it_asks_for_unless_that_is_too_long() -> None:
    limited = ModelFailed("rate_limited", "Too many.", wait=20)
    found, took, _ = attempt(Failing(limited))
    assert (found[0], found[-1], took) == (Status(text="Too many. Trying again in 20 s."), "Yes.", 20.0)
    assert attempt(Failing(limited), seconds=20)[:2] == ([limited], 0.0)


def test_what_was_said_is_never_asked_for_again_and_what_does_not_pass_neither() -> None:
    assert attempt(Failing("So", BUSY))[0] == ["So", BUSY]
    wrong = ModelFailed("bad_request", "Wrong.")
    assert attempt(Failing(wrong))[0] == [wrong]
    lost = ModelFailed("connection", "Lost.")
    assert attempt(Failing(lost))[0][-1] == "Yes."


@given(
    st.lists(st.sampled_from([BUSY, ModelFailed("rate_limited", "Too many.", wait=7)]), max_size=6), st.integers(0, 5)
)
def test_no_attempt_begins_after_the_time_is_over(failures: list[ModelFailed], seconds: int) -> None:
    model = Failing(*failures)
    found, took, retried = attempt(model, seconds=seconds)
    assert took < max(seconds, 0.001)
    assert model.asked == len(retried) + 1
    assert found[-1] == "Yes." or isinstance(found[-1], ModelFailed)


def test_a_number_of_retries_is_a_number() -> None:
    with pytest.raises(ValueError, match="retries"):
        Chat(retries=-1)


# a server


@pytest.fixture(scope="module")
def server(upstream: str, api: str) -> Iterator[Server]:
    with chatty(upstream, api=api, retries=3, first=20) as running:
        yield running


async def test_each_provider_is_asked_again_once_for_each_failure(server: Server, upstream: str, api: str) -> None:
    async with Http() as http:
        for status in (503, 429):
            refusal = {"refuse": {"status": status, "body": {}, "times": 1}}
            steps = [refusal, {"say": "Yes."}, {"finish": "stop"}]
            question = await script(http, upstream, f"Busy with {status}, {api}?", *steps)
            chat = await new_chat(http, server)
            async with http.post(f"{server.url}/api/chat", json=ui_question(chat, question)) as response:
                lines = [line.removeprefix("data: ") for line in (await response.text()).splitlines()]
            told = [json.loads(line)["data"]["text"] for line in lines if '"data-status"' in line]
            assert told[0].endswith("Trying again in 1 s.")
            assert told[1:] == [""]
            reply = await ended(http, server, chat)
            assert (reply["status"], "status" in reply["run"]) == ("complete", False)
            assert len(await asked(http, upstream, question)) == 2
        assert await server.metric(http, 'model_retries_total{kind="rate_limited"}') == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"retry-after": "30"}, {}),
        ({"retry-after-ms": "30000"}, {}),
        ({"x-should-retry": "false"}, {}),
        ({}, {"error": {"code": "insufficient_quota"}}),
    ],
)
async def test_a_provider_that_wants_to_be_left_alone_is(
    server: Server, upstream: str, api: str, headers: dict[str, str], body: Any
) -> None:
    async with Http() as http:
        refusal = {"refuse": {"status": 429, "body": body, "headers": headers}}
        question = await script(http, upstream, f"Left alone with {headers}, {body}, {api}?", refusal)
        chat = await new_chat(http, server)
        async with http.post(f"{server.url}/api/chat", json=ui_question(chat, question)) as response:
            await response.read()
        assert_failed(await ended(http, server, chat), "rate_limited", "")
        assert len(await asked(http, upstream, question)) == 1
