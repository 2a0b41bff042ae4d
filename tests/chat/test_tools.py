"""Tools: through real servers and a provider that calls them in every way, and in process what functions may do.

What the model is told is seen in the requests that the upstream has recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest
from pydantic import BaseModel, Field

from statestream import Refused
from statestream.chat.replies.tools import Tool
from statestream.core.values import plain
from tests.support import Server, eventually
from tests.support.chats import ask, chatty, ended, new_chat, read_chat, read_until, text_of, user
from tests.support.provider import asked, open_gate, script

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(upstream: str) -> Iterator[Server]:
    """A chat that gives a tool one second."""
    with chatty(upstream, tool=1) as server:
        yield server


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    connector, patience = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(sock_read=20)
    async with aiohttp.ClientSession(connector=connector, timeout=patience) as session:
        yield session


def call(index: int = 0, **more: Any) -> Any:
    return {"call": {"index": index, **more}}


def calls(name: str, arguments: str, id: str = "c1") -> tuple[Any, ...]:
    """An answer that calls one tool."""
    return call(id=id, name=name, arguments=arguments), {"finish": "tool_calls"}


async def replied(http: Http, server: Server, upstream: str, question: str, *rounds: Any) -> Any:
    """The reply to a question in a new chat, where the model answers with these rounds."""
    for number, steps in enumerate(rounds):
        await script(http, upstream, question + "+" * number, *steps)
    chat = await new_chat(http, server)
    await ask(http, server, chat, question)
    return await ended(http, server, chat)


async def told(http: Http, upstream: str, question: str) -> Any:
    """The messages of the last request for that question."""
    return (await asked(http, upstream, question))[-1]["body"]["messages"]


DONE = ({"say": "Done."}, {"finish": "stop"})


# calls as providers make them


async def test_a_tool_is_called_and_the_model_told_the_outcome(server: Server, upstream: str, http: Http) -> None:
    question = "What is the weather in Ulm?"
    usage = {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}}
    first = [
        {"think": "Ulm? "},
        {"say": "I look. "},
        call(id="c1", name="weather", arguments=""),
        call(arguments='{"city": "U'),
        call(arguments='lm", "days": 2}'),
        {"last": "tool_calls"},
        {"usage": usage},
        {"usage": usage},
    ]
    second = [{"say": "It is 20."}, {"last": "stop"}, {"usage": usage | {"completion_tokens": 3}}]
    reply = await replied(http, server, upstream, question, first, second)
    arguments = '{"city": "Ulm", "days": 2}'
    tool = {"type": "tool", "call": "c1", "name": "weather", "arguments": arguments, "status": "complete"}
    assert reply["parts"] == [
        {"type": "reasoning", "text": "Ulm? "},
        {"type": "text", "text": "I look. "},
        tool | {"result": {"city": "Ulm", "celsius": [20, 21]}},
        {"type": "text", "text": "It is 20.", "step": 1},
    ]
    assert (reply["status"], reply["finish_reason"]) == ("complete", "stop")
    assert reply["usage"] == {"input": 20, "output": 23, "reasoning": 0, "cached": 8}
    figures = reply["run"]
    assert 0 <= figures["first_piece_ms"] <= figures["duration_ms"]
    assert (figures["pieces"], figures["tokens_per_second"] > 0) == (6, True)

    requests = [request["body"] for request in await asked(http, upstream, question)]
    assert [len(request["messages"]) for request in requests] == [1, 3]
    function = {"name": "weather", "arguments": arguments}
    assert requests[1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": "I look. ",
            "reasoning_content": "Ulm? ",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"city":"Ulm","celsius":[20,21]}'},
    ]
    described = {tool["function"]["name"]: tool["function"] for tool in requests[0]["tools"]}
    assert described["weather"]["description"] == "The weather in a city."
    assert described["weather"]["parameters"]["required"] == ["city"]
    assert described["weather"]["parameters"]["properties"]["days"]["default"] == 1


async def test_fragments_of_calls_that_come_interleaved_are_joined_by_index(
    server: Server, upstream: str, http: Http
) -> None:
    first = [
        call(0, id="a", name="weather", arguments='{"ci'),
        call(1, id="b", name="weather", arguments='{"city": '),
        call(0, arguments='ty": "Ulm"}'),
        {"say": "Both. "},
        call(1, arguments='"Rom"}'),
        {"finish": "tool_calls"},
    ]
    reply = await replied(http, server, upstream, "Two cities.", first, DONE)
    tools = [part for part in reply["parts"] if part["type"] == "tool"]
    assert [(tool["call"], tool["result"]["city"]) for tool in tools] == [("a", "Ulm"), ("b", "Rom")]
    assert text_of({"parts": [part for part in reply["parts"] if part["type"] == "text"]}) == "Both. Done."
    outcomes = [message for message in await told(http, upstream, "Two cities.") if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in outcomes] == ["a", "b"]


async def test_calls_of_one_answer_run_beside_each_other(server: Server, upstream: str, http: Http) -> None:
    """The first waits for a gate that the upstream opens when the second has been shown as done."""
    first = [
        call(0, id="a", name="wait", arguments='{"gate": "beside"}'),
        call(1, id="b", name="weather", arguments='{"city": "Ulm"}'),
        {"finish": "tool_calls"},
    ]
    await script(http, upstream, "Beside.", *first)
    await script(http, upstream, "Beside.+", *DONE)
    chat = await new_chat(http, server)
    asking = asyncio.create_task(ask(http, server, chat, "Beside."))

    async def second_done() -> bool:
        messages = (await read_chat(http, server, chat))["messages"]
        parts = messages[-1]["parts"] if messages else []
        return bool([part["status"] for part in parts] == ["running", "complete"])

    await eventually(second_done, seconds=60)
    await open_gate(http, upstream, "beside")
    assert (await asking).text == "Done."
    assert (await ended(http, server, chat))["parts"][0]["result"] == "open"


ULM = {"name": "weather", "arguments": '{"city":"Ulm"}'}

HALVES = '{"city":', '"Ulm"}'


def delta(*calls: Any, **more: Any) -> Any:
    return {"delta": {"tool_calls": list(calls)} if calls else more}


ODD_CALLS: dict[str, tuple[int, list[Any]]] = {
    "no ids": (1, [delta({"index": 0, "function": ULM})]),
    "no index": (1, [delta({"id": "a", "function": ULM})]),
    "the name with every fragment": (
        1,
        [call(id="a", name="weather", arguments=HALVES[0]), call(id="a", name="weather", arguments=HALVES[1])],
    ),
    "the name with every fragment and no ids": (
        1,
        [call(name="weather", arguments=HALVES[0]), call(name="weather", arguments=HALVES[1])],
    ),
    "an empty name in later pieces": (
        1,
        [call(id="a", name="weather", arguments=HALVES[0]), call(id="", name="", arguments=HALVES[1])],
    ),
    "an id with every fragment": (
        1,
        [call(id="a", name="weather", arguments=HALVES[0]), call(id="b", arguments=HALVES[1])],
    ),
    "index 0 each time": (2, [call(id="a", **ULM), call(id="b", **ULM)]),
    "index 0 each time, no ids, in one chunk": (
        2,
        [delta({"index": 0, "function": ULM}, {"index": 0, "function": ULM})],
    ),
    "no index, two in a chunk": (2, [delta({"id": "a", "function": ULM}, {"id": "b", "function": ULM})]),
    "no index and later pieces": (
        2,
        [
            delta({"id": "a", "function": {"name": "weather", "arguments": HALVES[0]}}),
            delta({"index": None, "function": {"arguments": HALVES[1]}}),
            delta({"id": "b", "function": {"name": "weather", "arguments": HALVES[0]}}),
            delta({"function": {"arguments": HALVES[1]}}),
        ],
    ),
    "the same id twice": (2, [call(0, id="a", **ULM), call(1, id="a", **ULM)]),
    "a whole call twice": (1, [call(id="a", **ULM), call(id="a", **ULM)]),
    "another index with later pieces": (
        2,
        [
            call(0, id="a", name="weather", arguments=HALVES[0]),
            call(1, arguments=HALVES[1]),
            call(1, id="b", name="weather", arguments=HALVES[0]),
            call(2, arguments=HALVES[1]),
        ],
    ),
    "index 0 with all later pieces": (
        2,
        [
            call(0, id="a", name="weather", arguments=HALVES[0]),
            call(0, arguments=HALVES[1]),
            call(1, id="b", name="weather"),
            call(0, arguments=HALVES[0]),
            call(0, arguments=HALVES[1]),
        ],
    ),
    "the id alone says which call it is": (
        2,
        [
            call(0, id="a", name="weather", arguments=HALVES[0]),
            call(0, id="b", name="weather", arguments=HALVES[0]),
            call(7, id="a", arguments=HALVES[1]),
            call(7, id="b", arguments=HALVES[1]),
        ],
    ),
    "the second begins at the index of the first": (
        2,
        [
            call(0, id="a", **ULM),
            call(0, id="b", name="weather", arguments=""),
            call(1, arguments=HALVES[0]),
            call(1, arguments=HALVES[1]),
        ],
    ),
    "arguments that are an object": (1, [delta({"index": 0, "function": {**ULM, "arguments": {"city": "Ulm"}}})]),
    "the old shape": (
        1,
        [
            delta(function_call={"name": "weather", "arguments": HALVES[0]}),
            delta(function_call={"arguments": HALVES[1]}),
        ],
    ),
}


@pytest.mark.parametrize("odd", ODD_CALLS)
async def test_calls_as_compatible_providers_make_them(server: Server, upstream: str, http: Http, odd: str) -> None:
    """Twice, in two answers: the ids of a reply are all different, and the outcomes told under them."""
    count, steps = ODD_CALLS[odd]
    question, finish = f"Oddly: {odd}.", {"finish": "tool_calls"}
    reply = await replied(http, server, upstream, question, [*steps, finish], [*steps, finish], DONE)
    assert (reply["status"], text_of({"parts": reply["parts"][-1:]})) == ("complete", "Done.")
    tools = reply["parts"][:-1]
    assert [tool["result"]["city"] for tool in tools] == ["Ulm"] * len(tools)
    assert len(tools) == 2 * count
    ids = [tool["call"] for tool in tools]
    assert len(set(ids)) == len(ids)
    messages = await told(http, upstream, question)
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == ids


TROUBLES: dict[str, tuple[str, str, str]] = {
    "an unknown tool": ("launch", "{}", "There is no tool of that name."),
    "a name that is half a surrogate pair": ("\ud83d", "{}", "There is no tool of that name."),
    "arguments that are cut short": ("weather", '{"city": "U', "The arguments of weather are not valid JSON"),
    "arguments with half a surrogate pair": (
        "weather",
        '{"city": "\\ud83d"}',
        "The arguments of weather are not valid JSON",
    ),
    "arguments that are as deep as orjson reads": (
        "weather",
        '{"city": ' + "[" * 300 + "]" * 300 + "}",
        "The arguments of weather are not valid JSON",
    ),
    "arguments that are deep": ("weather", "[" * 100_000, "The arguments of weather are not valid JSON"),
    "arguments with a number beyond all": ("weather", '{"city": 1e999}', "The arguments of weather are not valid JSON"),
    "arguments that are a list": ("weather", "[]", "The arguments of weather do not fit"),
    "null as arguments": ("weather", "null", "The arguments of weather do not fit: at /city"),
    "no arguments": ("weather", "", "The arguments of weather do not fit"),
    "another type": ("weather", '{"city": ["Ulm"]}', "The arguments of weather do not fit: at /city"),
    "one too many": ("weather", '{"city": "Ulm", "x": 1}', "The arguments of weather do not fit: at /x"),
    "a name without an end": (
        "weather",
        f'{{"{"x" * 9_000}": 1, "city": "Ulm"}}',
        "The arguments of weather do not fit",
    ),
    "a refusal": ("weather", '{"city": "Atlantis"}', "There is no weather in Atlantis."),
    "an exception": ("broken", "{}", "broken failed."),
    "no end": ("wait", '{"gate": "never"}', "wait did not end within 1 seconds."),
    "a thread without an end": ("block", '{"gate": "never"}', "block did not end within 1 seconds."),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_whatever_goes_wrong_with_a_tool_is_shown_and_told_and_the_reply_goes_on(
    hasty: Server, upstream: str, http: Http, trouble: str
) -> None:
    name, arguments, sentence = TROUBLES[trouble]
    question = f"Trouble: {trouble}."
    reply = await replied(http, hasty, upstream, question, calls(name, arguments), DONE)
    tool, said = reply["parts"]
    assert (reply["status"], said["text"], tool["status"]) == ("complete", "Done.", "error")
    assert tool["error"].startswith(sentence)
    assert len(tool["error"]) <= 2_000
    assert "canary" not in json.dumps(reply)
    _, calling, outcome = await told(http, upstream, question)
    assert outcome == {"role": "tool", "tool_call_id": "c1", "content": tool["error"]}
    assert isinstance(json.loads(calling["tool_calls"][0]["function"]["arguments"]), dict), "providers parse it"


async def test_a_model_that_calls_tools_for_ever_is_given_up(server: Server, upstream: str, http: Http) -> None:
    rounds = [calls("weather", '{"city": "Ulm"}', f"c{number}") for number in range(9)]
    reply = await replied(http, server, upstream, "For ever.", *rounds)
    assert (reply["status"], reply["error"]["kind"], len(reply["parts"])) == ("error", "too_many_steps", 8)
    assert all(tool["status"] == "complete" for tool in reply["parts"])
    assert len(await asked(http, upstream, "For ever.")) == 8


@pytest.mark.parametrize("fault", ["nameless", "thirty-three"])
async def test_calls_that_cannot_be_believed_end_the_reply(
    server: Server, upstream: str, http: Http, fault: str
) -> None:
    steps = [call(id="a", arguments="{}")]
    if fault != "nameless":
        steps = [call(number, id=f"c{number}", name="weather", arguments="{}") for number in range(33)]
    reply = await replied(http, server, upstream, f"Calls: {fault}.", [{"say": "So. "}, *steps], DONE)
    assert (reply["status"], reply["error"]["kind"], reply["parts"][0]["text"]) == ("error", "failed", "So. ")
    assert all(tool["status"] == "error" for tool in reply["parts"][1:])


async def test_a_model_that_fails_after_its_tools_keeps_them(server: Server, upstream: str, http: Http) -> None:
    reply = await replied(
        http, server, upstream, "Then fail.", calls("weather", '{"city": "Ulm"}'), [{"say": "It "}, {"cut": True}]
    )
    assert (reply["status"], reply["error"]["kind"]) == ("error", "connection")
    assert [part["type"] for part in reply["parts"]] == ["tool", "text"]
    assert reply["parts"][0]["result"]["city"] == "Ulm"


async def test_the_window_never_stands_between_a_call_and_its_outcome(
    server: Server, upstream: str, http: Http
) -> None:
    chat = await new_chat(http, server)
    questions = set()
    for number in range(12):
        question = f"Round {number} of {chat}."
        some = [call(at, id=f"{number}-{at}", **ULM) for at in range(number % 3 + 1)]
        await script(http, upstream, question, *some, {"finish": "tool_calls"})
        await script(http, upstream, f"{question}+", *DONE)
        await ask(http, server, chat, question)
        for request in await asked(http, upstream, question):
            messages, open_calls = request["body"]["messages"], set[str]()
            questions.add([message["role"] for message in messages].count("user"))
            for message in messages:
                if message["role"] == "tool":
                    open_calls.remove(message["tool_call_id"])
                else:
                    assert not open_calls, "every call has its outcome before the next turn"
                    open_calls = {call["id"] for call in message.get("tool_calls", ())}
            assert not open_calls
    assert max(questions) == 10  # and as many replies: twenty messages


async def test_two_chats_use_tools_at_once(server: Server, upstream: str, http: Http) -> None:
    replies = await asyncio.gather(
        *(
            replied(http, server, upstream, f"At once {city}.", calls("weather", json.dumps({"city": city})), DONE)
            for city in ("Ulm", "Rom", "Bonn", "Kiel")
        )
    )
    assert [reply["parts"][0]["result"]["city"] for reply in replies] == ["Ulm", "Rom", "Bonn", "Kiel"]


@pytest.mark.parametrize("tool", ["wait", "block"])
async def test_a_server_stops_though_a_tool_does_not_end(upstream: str, http: Http, tmp_path: Path, tool: str) -> None:
    server = chatty(upstream, tool=60, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    chat = await new_chat(http, server)
    question = await script(http, upstream, f"Hang in {tool}.", {"say": "So. "}, *calls(tool, '{"gate": "never"}'))
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=user(question)) as response:
        await read_until(response, "So. ")

        async def running() -> bool:
            return bool((await read_chat(http, server, chat))["messages"][-1]["parts"][-1].get("status") == "running")

        await eventually(running)
        assert await asyncio.to_thread(server.stop) == ""
    with server:
        reply = await ended(http, server, chat)
    assert (reply["status"], reply["error"]["kind"], reply["parts"][-1]["status"]) == ("error", "interrupted", "error")


# titles

TITLE = "user: {}\n\nassistant: {}"


async def titled(http: Http, server: Server, chat: str) -> Any:
    return (await read_chat(http, server, chat)).get("title")


async def test_a_chat_gets_its_title_once_after_its_first_exchange(upstream: str, http: Http) -> None:
    with chatty(upstream, titles="yes") as server:
        chat = await new_chat(http, server)
        await script(http, upstream, "Name it.", *calls("weather", '{"city": "Ulm"}'))
        await script(http, upstream, "Name it.+", *DONE)
        name = {"say": '"A  fine '}, {"say": 'name."'}, {"finish": "stop"}
        naming = await script(http, upstream, TITLE.format("Name it.", "Done."), *name)
        await ask(http, server, chat, "Name it.")
        assert await eventually(lambda: titled(http, server, chat)) == "A fine name"
        await ask(http, server, chat, await script(http, upstream, "And now?", *DONE))
        (request,) = await asked(http, upstream, naming)
        assert "tools" not in request["body"]
        assert len(await asked(http, upstream, "Name it.")) == 2
        assert len(await asked(http, upstream, "And now?")) == 1
        assert await titled(http, server, chat) == "A fine name"


@pytest.mark.parametrize("fault", ["cut", "nothing", "an error"])
async def test_a_title_that_cannot_be_made_changes_nothing(upstream: str, http: Http, fault: str) -> None:
    steps = {
        "cut": [{"cut": True}],
        "nothing": [{"say": ' "" '}, {"finish": "stop"}],
        "an error": [{"say": "A na"}, {"chunk": {"error": "x"}}],
    }[fault]
    with chatty(upstream, titles="yes") as server:
        chat = await new_chat(http, server)
        question = await script(http, upstream, f"No name: {fault}.", *DONE)
        naming = await script(http, upstream, TITLE.format(question, "Done."), *steps)
        assert (await ask(http, server, chat, question)).text == "Done."
        before = await ended(http, server, chat)
        await eventually(lambda: asked(http, upstream, naming))
        assert (await ask(http, server, chat, await script(http, upstream, "Still there?", *DONE))).text == "Done."
        state = await read_chat(http, server, chat)
        assert ("title" in state, state["messages"][1]) == (False, before)


# what a function may be, and may do


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str
    zip: int = 0


@dataclass
class Spot:
    x: int
    y: float = 0.5


def of_every_kind(
    place: Place,
    spots: list[Spot],
    *,
    colour: Colour = Colour.RED,
    days: Annotated[int, Field(ge=1, le=7, description="How many")] = 1,
    copy: bool = False,
    _hidden: str | None = None,
    model_dump: int = 3,
) -> Any:
    """Takes what JSON can fill."""
    assert isinstance(place, Place)
    assert all(isinstance(spot, Spot) for spot in spots)
    assert isinstance(colour, Colour)
    return [place.city, [spot.x for spot in spots], colour.value, days, copy, _hidden, model_dump]


async def test_a_function_is_given_what_its_annotations_say() -> None:
    tool = Tool(of_every_kind)
    assert tool.spec.parameters["required"] == ["place", "spots"]
    assert tool.spec.parameters["properties"]["days"]["description"] == "How many"
    assert await tool.run('{"place": {"city": "Ulm"}, "spots": [{"x": 1}]}', 5) == {
        "result": ["Ulm", [1], "red", 1, False, None, 3]
    }
    given = '{"place": {"city": "Ulm"}, "spots": [], "colour": "blue", "days": 7, "copy": true, "_hidden": "h"}'
    assert await tool.run(given, 5) == {"result": ["Ulm", [], "blue", 7, True, "h", 3]}
    assert "/days" in (await tool.run('{"place": {"city": "Ulm"}, "spots": [], "days": 8}', 5))["error"]


def test_what_cannot_be_described_is_no_tool() -> None:
    def positional(city: str, /) -> None: ...
    def many(*cities: str) -> None: ...
    def strange(city: threading.Lock) -> None: ...
    def undefined(city: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def method(self, city: str) -> None: ...  # type: ignore[no-untyped-def]
    def long() -> None: ...

    long.__name__ = "x" * 65
    for function in (positional, many, strange, undefined, method, long, lambda: None, Place, 7, iter, asyncio):
        with pytest.raises(TypeError):
            Tool(function)  # type: ignore[arg-type]


def cities() -> Iterator[str]:
    yield "Ulm"


async def cities_later() -> AsyncIterator[str]:
    yield "Ulm"


class Cities:
    def __call__(self) -> Iterator[str]:
        yield "Ulm"


@pytest.mark.parametrize("function", [cities, cities_later, functools.partial(cities), Cities()])
def test_a_generator_is_no_tool(function: Any) -> None:
    with pytest.raises(TypeError, match="generator function, which has no result; return a list"):
        Tool(function)


async def weather(city: str, days: int = 1) -> Any:
    """The weather."""
    await asyncio.sleep(0)
    return [city, days]


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def collected(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper() -> Any:
        return list(function())

    return wrapper


class Weather:
    """Of an object."""

    __name__ = "weather"

    async def __call__(self, city: str, days: int = 1) -> Any:
        return await weather(city, days)

    async def method(self, city: str, days: int = 1) -> Any:
        """Of a method."""
        return await weather(city, days)


class Later:
    """A callable whose result is awaitable, and no coroutine."""

    def __call__(self, city: str, days: int = 1) -> Any:
        return Later.Result([city, days])

    class Result:
        def __init__(self, value: Any) -> None:
            self.value = value

        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return self.value


AWAITABLE: dict[str, tuple[Any, str, str]] = {
    "a coroutine function": (weather, "weather", "The weather."),
    "a plain wrapper": (wrapped(weather), "weather", "The weather."),
    "a partial function": (functools.partial(weather), "weather", "The weather."),
    "a partial function of a wrapper": (functools.partial(wrapped(weather)), "weather", "The weather."),
    "a partial function that says what it wraps": (
        functools.update_wrapper(functools.partial(weather), weather),
        "weather",
        "The weather.",
    ),
    "an object": (Weather(), "weather", "Of an object."),
    "a partial function of an object": (functools.partial(Weather()), "weather", "Of an object."),
    "a method": (Weather().method, "method", "Of a method."),
    "a result that is no coroutine": (Later(), "Later", "A callable whose result is awaitable, and no coroutine."),
}


@pytest.mark.parametrize("what", AWAITABLE)
async def test_what_a_tool_returns_is_awaited_if_it_can_be(what: str) -> None:
    function, name, description = AWAITABLE[what]
    tool = Tool(function)
    assert (tool.spec.name, tool.spec.description) == (name, description)
    assert set(tool.spec.parameters["properties"]) == {"city", "days"}
    assert tool.spec.parameters["required"] == ["city"]
    assert await tool.run('{"city": "Ulm", "days": 2}', 5) == {"result": ["Ulm", 2]}


async def test_what_a_partial_function_sets_is_not_the_models_to_choose() -> None:
    for function in (functools.partial(weather, city="Ulm"), functools.partial(weather, "Ulm")):
        for whole in (function, functools.update_wrapper(function, weather)):
            tool = Tool(whole)
            assert set(tool.spec.parameters["properties"]) == {"days"}
            assert await tool.run("{}", 5) == {"result": ["Ulm", 1]}
            assert "/city" in (await tool.run('{"city": "Rom"}', 5))["error"]


async def test_a_wrapper_of_a_generator_may_have_a_result() -> None:
    assert await Tool(collected(cities)).run("{}", 5) == {"result": ["Ulm"]}


async def test_a_generator_that_comes_back_is_an_outcome() -> None:
    for function in (cities, cities_later):
        outcome = await Tool(wrapped(function)).run("{}", 5)
        assert outcome["error"].startswith(f"The result of {function.__name__} is not JSON: ")


async def test_what_comes_back_too_late_is_not_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.tools.GRACE_SECONDS", 0.05)
    go, results = threading.Event(), []

    def late() -> Any:
        go.wait()
        results.append(weather("Ulm"))
        return results[0]

    assert "did not end" in (await Tool(late).run("{}", 0.05))["error"]
    go.set()
    await eventually(lambda: results and results[0].cr_frame is None)


async def leave() -> None:
    sys.exit(1)


async def cancel() -> None:
    raise asyncio.CancelledError


async def late() -> None:
    raise TimeoutError("of a socket, not ours")


def stop_iteration() -> None:
    raise StopIteration


def refuse() -> None:
    raise Refused("no", "No \ud83d. " + "x" * 5_000)


def invalid() -> None:
    Place.model_validate({"secret": "canary"})


def not_json() -> Any:
    return {"a": [{1, 2}]}


DEEP: list[Any] = []
DEEP.append(DEEP)

OUTCOMES: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: float("nan"), "The result of tool is not JSON"),
    "bytes": (lambda: b"x", "The result of tool is not JSON"),
    "a set": (not_json, "The result of tool is not JSON: at /a/0"),
    "half a surrogate pair": (lambda: "\ud83d", "The result of tool is not JSON"),
    "itself": (lambda: DEEP, "The result of tool is not JSON"),
    "too much": (lambda: "x" * 100_001, "The result of tool is too large."),
    "a number beyond all": (lambda: 10**30, "The result of tool is not JSON"),
    "an exit": (leave, "tool failed."),
    "a cancellation": (cancel, "tool failed."),
    "another's time": (late, "tool failed."),
    "an end of iteration": (stop_iteration, "tool failed."),
    "a model that does not fit": (invalid, "tool failed."),
    "a refusal": (refuse, "No ?. xxx"),
    "an exit of a thread": (lambda: sys.exit(1), "tool failed."),
}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [50, 59, 60, 64, 65])
async def test_a_result_that_is_too_deep_for_the_chat_is_an_outcome_too(levels: int) -> None:
    """It stands in a part of a message, in a chat, and later in its archive, which may be 64 deep in all."""

    def tool() -> Any:
        return nested(levels)

    outcome = await Tool(tool).run("{}", 5)
    assert (outcome == {"result": nested(levels)}) == (levels < 60)
    state = {"messages": [{"parts": [{"type": "tool", **outcome}]}]}
    assert plain(state) == state


@pytest.mark.parametrize("name", OUTCOMES)
async def test_every_call_has_an_outcome(name: str) -> None:
    function, sentence = OUTCOMES[name]
    function.__name__ = "tool"
    outcome = await Tool(function).run("{}", 5)
    assert list(outcome) == ["error"]
    assert outcome["error"].startswith(sentence)
    assert len(outcome["error"]) <= 2_000
    assert "canary" not in outcome["error"]


async def test_a_tool_that_swallows_its_end_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.chat.replies.tools.GRACE_SECONDS", 0.05)
    over = asyncio.Event()

    async def deaf() -> str:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await over.wait()
        raise ValueError("nobody looks at this")

    assert await Tool(deaf).run("{}", 0.05) == {"error": "deaf did not end within 0.05 seconds."}
    over.set()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
