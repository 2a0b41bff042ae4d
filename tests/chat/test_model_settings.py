"""Settings of requests to a model: where each API has them, who chooses them, and what happens if one is rejected."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest

from statestream import Store
from statestream.chat import Chat, ModelSettings, Question
from statestream.chat.models import Finish, Model, Piece, ToolSpec, Turn
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.responses import OpenAIResponsesModel
from tests.support import Server, eventually
from tests.support.census import reply_tasks
from tests.support.chats import assert_failed, chatty, new_chat, post, ui_question, ui_reply
from tests.support.provider import asked, script

Http = aiohttp.ClientSession
DONE = ({"say": "Done."}, {"finish": "stop"})
ALL = {"instructions": "Be brief.", "max_tokens": 5_000, "effort": "low", "headers": {"X-Team": "blue"}}


@pytest.fixture(scope="module")
def plain(upstream: str, api: str) -> Iterator[Server]:
    with chatty(upstream, api=api) as server:
        yield server


def model_of(api: str, upstream: str) -> Model:
    if api == "messages":
        return AnthropicModel("test-model", base_url=upstream, api_key="none")
    kind = OpenAIModel if api == "chat" else OpenAIResponsesModel
    return kind("test-model", base_url=f"{upstream}/v1", api_key="none")


async def reply(model: Model, settings: dict[str, Any], question: str) -> Any:
    """The reply to a question with these settings, in a chat of this process."""
    battery = Chat(model=model, titles=False)
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        await chats.ask(key, Question.text(question, settings=ModelSettings(**settings)))
        await eventually(lambda: store.get(f"chat/{key}")["messages"][-1]["status"] != "streaming", every=0.01)
        return store.get(f"chat/{key}")["messages"][-1]


COMMON = {"model", "stream"}
NOTHING: dict[str, Any] = {
    "chat": {"messages", "stream_options"},
    "messages": {"messages", "max_tokens", "cache_control"},
    "responses": {"input", "store", "include", "reasoning"},
}


async def requested(http: Http, upstream: str, api: str, settings: dict[str, Any]) -> Any:
    """The request for a question with these settings."""
    question = await script(http, upstream, f"{len(settings)} settings, {api}.", *DONE)
    assert (await reply(model_of(api, upstream), settings, question))["status"] == "complete"
    [request] = await asked(http, upstream, question)
    return request


async def test_without_settings_the_provider_decides(upstream: str, http: Http, api: str) -> None:
    request = await requested(http, upstream, api, {})
    assert request["body"].keys() == COMMON | NOTHING[api]
    if api == "messages":
        assert request["body"]["max_tokens"] == 32_000
    if api == "responses":
        assert request["body"]["reasoning"] == {"summary": "auto"}


async def test_each_api_has_them_under_its_own_names(upstream: str, http: Http, api: str) -> None:
    request = await requested(http, upstream, api, ALL)
    body = request["body"]
    expected: dict[str, Any] = {
        "chat": {"max_tokens": 5_000, "reasoning_effort": "low"},
        "messages": {
            "max_tokens": 5_000,
            "system": "Be brief.",
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": "low"},
        },
        "responses": {
            "max_output_tokens": 5_000,
            "instructions": "Be brief.",
            "reasoning": {"effort": "low", "summary": "auto"},
        },
    }
    assert {name: body.get(name) for name in expected[api]} == expected[api]
    assert body.keys() == COMMON | NOTHING[api] | expected[api].keys()
    if api == "chat":
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert request["headers"]["x-team"] == "blue"


async def test_a_temperature_goes_to_the_version_of_the_api_that_has_one(upstream: str, http: Http, api: str) -> None:
    request = await requested(http, upstream, api, {"temperature": 0.5})
    assert request["body"]["temperature"] == 0.5
    assert request["headers"].get("anthropic-version") == ("2023-06-01" if api == "messages" else None)


# who chooses them


async def test_no_client_chooses_them_in_any_protocol(plain: Server, upstream: str, http: Http, api: str) -> None:
    """Protocols whose bodies are open ignore such members; the others refuse them."""
    wanted = {"settings": ALL | {"temperature": 0.1}, **ALL, "temperature": 0.1, "system": "Obey.", "model": "dear"}
    questions = [await script(http, upstream, f"Choose {number}, {api}.", *DONE) for number in range(4)]
    body = ui_question(f"chosen-{api}", questions[0], **wanted)
    body["message"] |= {"metadata": wanted, "settings": ALL}
    assert (await ui_reply(http, plain, body))["status"] == "complete"
    chat = await new_chat(http, plain)
    await post(http, plain, chat, {"messages": [{"role": "user", "content": questions[1], **wanted}], **wanted})
    asking = [{"id": "u3", "role": "user", "content": questions[2]}]
    run = {"threadId": chat, "runId": "r1", "state": wanted, "messages": asking, "tools": [], "context": []}
    run |= {"forwardedProps": wanted}
    async with http.post(f"{plain.url}/ag-ui", json=run) as response:
        assert "RUN_FINISHED" in await response.text()
    async with http.ws_connect(f"{plain.url}/ws?session_id={chat}") as socket:
        await socket.send_json({"type": "message", "content": questions[3], "session_id": chat, **wanted})
        while '"stream_end":true' not in (await socket.receive_str()).replace(" ", ""):
            pass
    for question in questions:
        [request] = await asked(http, upstream, question)
        assert request["body"].keys() == COMMON | NOTHING[api] | {"tools"}
        assert request["body"]["model"] == "test-model"
        assert "x-team" not in request["headers"]
        assert "Be brief." not in json.dumps(request["body"])
    async with http.post(f"{plain.url}/api/chats", json={"settings": ALL}) as response:
        assert response.status == 400


class Noting:
    """A model that notes the settings of its requests."""

    name = "noting"

    def __init__(self) -> None:
        self.given: list[ModelSettings] = []

    async def answer(
        self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings
    ) -> AsyncIterator[Piece]:
        self.given.append(settings)
        yield "Yes."
        yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""


async def test_those_of_a_question_take_precedence_for_its_reply_and_a_title_gets_the_headers_only() -> None:
    model = Noting()
    of_chat = ModelSettings(instructions="Be brief.", temperature=0.2, headers={"X-Team": "blue", "X-Cost": "1"})
    battery = Chat(model=model, settings=of_chat)
    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        mine = ModelSettings(temperature=0, effort="high", headers={"x-team": "red"})
        await chats.ask(key, Question.text("One?", settings=mine))
        await eventually(lambda: not reply_tasks(chats))
        await chats.ask(key, Question.text("Two?"))
        await eventually(lambda: not reply_tasks(chats))
    first, title, second = model.given
    headers = {"X-Cost": "1", "x-team": "red"}
    assert first == ModelSettings(instructions="Be brief.", temperature=0, effort="high", headers=headers)
    assert title == ModelSettings(headers=of_chat.headers)
    assert second == of_chat


async def test_a_question_for_an_agent_has_none() -> None:
    battery = Chat()

    @battery.agent
    async def helper(task: Any, context: Any) -> AsyncIterator[str]:
        yield "Yes."

    async with Store(battery.slices) as store, battery.conversations(store) as chats:
        key = await chats.create()
        with pytest.raises(TypeError, match="helper chooses those of its own model"):
            await chats.ask(key, Question.text("?", settings=ModelSettings()))
        assert store.get(f"chat/{key}")["messages"] == []


def test_a_model_that_cannot_be_asked_with_settings_is_refused_at_once() -> None:
    class Old(Noting):
        async def answer(self, turns: Any, tools: Any) -> Any:  # type: ignore[override]
            yield "Yes."

    with pytest.raises(TypeError, match=r"`answer` to take \(turns, tools, settings\)"):
        Chat(model=Old())
    with pytest.raises(TypeError, match="expected `settings` to be ModelSettings"):
        Chat(settings={"temperature": 1})  # type: ignore[arg-type]


WRONG: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "a temperature that is a text": (TypeError, {"temperature": "warm"}),
    "a temperature below zero": (ValueError, {"temperature": -1}),
    "no number as temperature": (ValueError, {"temperature": float("nan")}),
    "true as a limit": (TypeError, {"max_tokens": True}),
    "a limit of nothing": (ValueError, {"max_tokens": 0}),
    "half a token": (TypeError, {"max_tokens": 1.5}),
    "an effort that is a number": (TypeError, {"effort": 3}),
    "instructions in a list": (TypeError, {"instructions": ["Be brief."]}),
    "headers in a list": (TypeError, {"headers": [("X", "1")]}),
    "a header that is a number": (TypeError, {"headers": {"X": 1}}),
    "a header in two lines": (ValueError, {"headers": {"X": "1\r\nY: canary"}}),
    "a name of a header with a blank": (ValueError, {"headers": {"X Y": "1"}}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_setting_that_no_provider_can_have_is_refused_when_it_is_made(what: str) -> None:
    kind, settings = WRONG[what]
    with pytest.raises(kind, match="expected ") as refused:
        ModelSettings(**settings)
    assert "canary" not in str(refused.value)


# what providers reject


def openai_error(param: str | None, message: str) -> Any:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "unsupported_parameter"}
    return {"status": 400, "body": {"error": error}}


def anthropic_error(message: str) -> Any:
    return {"status": 400, "body": {"type": "error", "error": {"type": "invalid_request_error", "message": message}}}


REJECTED: list[tuple[str, str, dict[str, Any], Any]] = [
    ("chat", "temperature", {"temperature": 0.1}, openai_error("temperature", "Only the default (1) is supported.")),
    ("chat", "effort", {"effort": "low"}, openai_error(None, "Unrecognized request argument: reasoning_effort")),
    ("chat", "max_tokens", {"max_tokens": 10**6}, openai_error("max_tokens", "max_tokens is too large: 1000000.")),
    ("chat", "instructions", {"instructions": "x"}, openai_error(None, "System role not supported")),
    ("responses", "effort", {"effort": "low"}, openai_error("reasoning.effort", "Unsupported parameter.")),
    ("responses", "temperature", {"temperature": 0.1}, openai_error("temperature", "Unsupported parameter.")),
    ("responses", "max_tokens", {"max_tokens": 1}, openai_error("max_output_tokens", "Expected a value >= 16.")),
    ("messages", "temperature", {"temperature": 0.1}, anthropic_error("`temperature` is deprecated for this model.")),
    ("messages", "effort", {"effort": "none"}, anthropic_error('"thinking.type.disabled" is not supported.')),
    ("messages", "effort", {"effort": "huge"}, anthropic_error("output_config.effort: Input should be 'low' or …")),
    ("messages", "max_tokens", {"max_tokens": 10**6}, anthropic_error("max_tokens: 1000000 > 64000, which is the …")),
]


@pytest.mark.parametrize(("api", "setting", "settings", "refusal"), REJECTED, ids=lambda value: str(value)[:20])
async def test_a_setting_that_the_provider_rejects_is_named(
    upstream: str, http: Http, api: str, setting: str, settings: dict[str, Any], refusal: Any
) -> None:
    question = await script(http, upstream, f"Rejected: {settings}, {api}.", {"refuse": refusal})
    message = await reply(model_of(api, upstream), settings, question)
    requests = await asked(http, upstream, question)
    assert_failed(message, "bad_request", "")
    assert message["error"]["message"] == f"The provider rejects the setting {setting} for this model."
    assert len(requests) == 1


async def test_a_setting_is_not_blamed_for_what_people_have_written(upstream: str, http: Http) -> None:
    refusal = openai_error("messages[1].content", "Invalid content: 'What is the temperature in Ulm?'")
    question = await script(http, upstream, "What is the temperature in Ulm?", {"refuse": refusal})
    message = await reply(model_of("chat", upstream), {"temperature": 0.1}, question)
    assert message["error"]["message"] == "The model could not process this conversation."


ADAPTED: list[tuple[str, dict[str, Any], str, Any, dict[str, Any]]] = [
    (
        "messages",
        {"effort": "low"},
        "output_config",
        anthropic_error("adaptive thinking is not supported on this model"),
        {"thinking": {"type": "enabled", "budget_tokens": 2_048}},
    ),
    (
        "messages",
        {"effort": "max", "max_tokens": 4_000},
        "output_config",
        anthropic_error("This model does not support the effort parameter."),
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}, "max_tokens": 4_000},
    ),
    ("messages", {}, "cache_control", anthropic_error("cache_control: Extra inputs are not permitted"), {}),
    (
        "chat",
        {"max_tokens": 50},
        "max_tokens",
        openai_error("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        {"max_completion_tokens": 50},
    ),
    (
        "responses",
        {},
        "reasoning",
        openai_error("reasoning.summary", "Unsupported parameter: 'reasoning.summary' is not supported."),
        {},
    ),
    (
        "responses",
        {},
        "include",
        openai_error("include", "Encrypted content is not supported with this model."),
        {"reasoning": {"summary": "auto"}},
    ),
]


@pytest.mark.parametrize(
    ("api", "settings", "member", "refusal", "instead"), ADAPTED, ids=lambda value: str(value)[:20]
)
async def test_what_a_model_does_not_know_is_left_out_of_this_request_and_of_later_ones(
    upstream: str, http: Http, api: str, settings: dict[str, Any], member: str, refusal: Any, instead: dict[str, Any]
) -> None:
    model = model_of(api, upstream)
    for number, times in enumerate((2, 1)):
        question = f"Adapted {number}: {member}, {api}, {len(settings)}."
        await script(http, upstream, question, {"refuse": {**refusal, "without": member}}, *DONE)
        assert (await reply(model, settings, question))["status"] == "complete"
        requests = await asked(http, upstream, question)
        assert len(requests) == times
        body = requests[-1]["body"]
        assert member not in body
        assert {name: body[name] for name in instead} == instead
