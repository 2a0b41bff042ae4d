"""Answers of a type: what each API is asked for, and what becomes of an answer that does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import aiohttp
import pytest
from pydantic import BaseModel, Field

from statestream import Store
from statestream.chat import Chat, ModelSettings, Question
from statestream.chat.agents import AgentPiece, Task
from statestream.chat.agents.context import Context
from statestream.chat.messages import find, text_of
from statestream.chat.models import CONTINUE, Model
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.output import IN_PROMPT, output_of, strict_schema
from statestream.chat.models.responses import OpenAIResponsesModel
from tests.support import eventually
from tests.support.provider import asked, script

Http = aiohttp.ClientSession
MEMBERS = {"chat": "response_format", "messages": "output_config", "responses": "text"}
ULM = '{"city": "Ulm", "celsius": 20}'


class Weather(BaseModel):
    """The weather."""

    city: str
    celsius: int = Field(ge=-90, le=60)
    sky: Literal["clear", "grey"] = "grey"


STRICT = {
    "type": "object",
    "title": "Weather",
    "description": "The weather.",
    "properties": {
        "city": {"type": "string", "title": "City"},
        "celsius": {"type": "integer", "title": "Celsius", "minimum": -90, "maximum": 60},
        "sky": {"type": "string", "title": "Sky", "enum": ["clear", "grey"]},
    },
    "required": ["city", "celsius", "sky"],
    "additionalProperties": False,
}


@pytest.fixture
def model(api: str, upstream: str) -> Model:
    if api == "messages":
        return AnthropicModel("test-model", base_url=upstream, api_key="key")
    kind = OpenAIModel if api == "chat" else OpenAIResponsesModel
    return kind("test-model", base_url=f"{upstream}/v1", api_key="key")


async def replied(chat: Chat, question: str, *, again: bool = False) -> Any:
    """The reply of a chat to that question, or the one that continues it, once it has ended."""
    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()

        async def over(reply: str) -> Any:
            message = find(await conversations.find(key), reply)
            return message if message["status"] != "streaming" else None

        reply = await conversations.ask(key, Question.text(question))
        made = await eventually(lambda: over(reply))
        if again:
            reply = await conversations.continue_reply(key, reply)
            made = await eventually(lambda: over(reply))
        return made


def typed(model: Model, kind: Any = Weather) -> Chat:
    return Chat(model=model, settings=ModelSettings(output=kind, instructions="Be exact."), titles=False)


async def test_an_answer_that_fits_is_the_text_of_the_reply(model: Model, api: str, upstream: str, http: Http) -> None:
    question = await script(http, upstream, f"fits {api}", {"say": ULM[:9]}, {"say": ULM[9:]}, {"finish": "stop"})
    made = await replied(typed(model), question)
    assert (made["status"], text_of(made)) == ("complete", ULM)
    body = (await asked(http, upstream, question))[-1]["body"]
    without = {name: {**each} for name, each in STRICT["properties"].items()}  # type: ignore[attr-defined]
    del without["celsius"]["minimum"], without["celsius"]["maximum"]
    described = {"name": "Weather", "schema": STRICT, "strict": True}
    assert (
        body[MEMBERS[api]]
        == {
            "chat": {"type": "json_schema", "json_schema": described},
            "responses": {"format": {"type": "json_schema", **described}},
            "messages": {"format": {"type": "json_schema", "schema": {**STRICT, "properties": without}}},
        }[api]
    )


@pytest.mark.parametrize(
    ("said", "reason", "kind"),
    [
        ('{"city": "Ulm", "celsius": 200}', "stop", "unfit_output"),
        ("It is warm.", "stop", "unfit_output"),
        ('{"city": "Ul', "length", "truncated"),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error(
    model: Model, api: str, upstream: str, http: Http, said: str, reason: str, kind: str
) -> None:
    question = await script(http, upstream, f"{said} {api}", {"say": said}, {"finish": reason})
    made = await replied(typed(model), question)
    assert (made["error"]["kind"], text_of(made)) == (kind, said)


async def test_an_answer_that_was_cut_short_fits_when_it_has_continued(
    model: Model, api: str, upstream: str, http: Http
) -> None:
    question = await script(http, upstream, f"cut {api}", {"say": ULM[:9]}, {"finish": "length"})
    await script(http, upstream, CONTINUE, {"say": ULM[9:]}, {"finish": "stop"})
    made = await replied(typed(model), question, again=True)
    assert (made["status"], text_of(made)) == ("complete", ULM)


async def test_a_provider_that_takes_no_schema_gets_it_in_the_prompt(
    model: Model, api: str, upstream: str, http: Http
) -> None:
    message = {"chat": "response_format", "responses": "text.format", "messages": "output_config.format"}[api]
    refusal = {"status": 400, "body": {"error": {"message": f"{message} is not supported", "type": "x"}}}
    steps = {"refuse": {**refusal, "without": MEMBERS[api]}}, {"say": ULM}, {"finish": "stop"}
    question = await script(http, upstream, f"prompt {api}", *steps)
    assert (await replied(typed(model), question))["status"] == "complete"
    body = (await asked(http, upstream, question))[-1]["body"]
    assert MEMBERS[api] not in body
    told = {"chat": lambda: body["messages"][0]["content"], "responses": lambda: body["instructions"]}
    prompt = told.get(api, lambda: body["system"])()
    assert prompt.startswith(f"Be exact.\n\n{IN_PROMPT} {{")


async def test_an_agent_gets_a_value_that_nobody_sees(model: Model, api: str, upstream: str, http: Http) -> None:
    usage = {"end": {"reason": "stop", "input": 3, "output": 4, "cached": 0, "reasoning": 0}}
    question = await script(http, upstream, f"value {api}", {"say": f"```json\n{ULM}\n```"}, usage)
    chat = Chat(titles=False)

    @chat.agent
    async def forecaster(task: Task, context: Context) -> AsyncIterator[AgentPiece]:
        weather = await context.ask_for(Weather, model, task.turns)
        yield f"{weather.celsius} degrees in {weather.city}, {weather.sky}."

    made = await replied(chat, question)
    assert [part["text"] for part in made["parts"]] == ["20 degrees in Ulm, grey."]
    assert (made["usage"]["input"], made["usage"]["output"]) == (3, 4)
    wrong = await script(http, upstream, f"no value {api}", {"say": "Warm."}, {"finish": "stop"})
    assert (await replied(chat, wrong))["error"]["kind"] == "unfit_output"
    await model.close()


class Tree(BaseModel):
    name: str
    kind: Literal["leaf"] | None = None
    children: list[Tree] = []


@pytest.mark.parametrize("kind", [list[int], dict[str, int], str, int | None])
def test_a_type_that_no_strict_schema_describes_has_none(kind: Any) -> None:
    output = output_of(kind)
    assert strict_schema(output.schema) is None
    assert IN_PROMPT in output.in_prompt(None)


def test_a_strict_schema_names_all_properties_and_no_others() -> None:
    class Forest(BaseModel):
        trees: list[Tree]

    schema = strict_schema(output_of(Forest).schema)
    assert schema is not None
    tree = schema["$defs"]["Tree"]
    assert tree["required"] == ["name", "kind", "children"]
    assert tree["additionalProperties"] is False
    assert tree["properties"]["kind"]["anyOf"] == [{"type": "string", "const": "leaf"}, {"type": "null"}]

    class Loose(BaseModel):
        more: dict[str, Any]

    assert strict_schema(output_of(Loose).schema) is None


def test_what_json_cannot_have_is_no_output() -> None:
    with pytest.raises(TypeError, match="expected `output` to be a type that JSON can have"):
        ModelSettings(output=type("Nothing", (), {}))
    both = ModelSettings(output=Weather) | ModelSettings(temperature=0.5)
    assert both.output is Weather
