"""The AI SDK's own clients, both majors, against real servers: what a page does, and what its messages are then.

Each page is the SDK's `Chat` in a process of its own (tests/node/ai_sdk.mjs); the provider is our upstream, so that
a test says where a reply stands when something happens to it.

Invariants: a page's messages are compared whole, with `GET /api/chat/{id}` and with each other. What may differ is
named in `as_in_seven`, and why.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from statestream.chat.messages import text_of
from statestream.chat.protocols.ai_sdk.messages import ui_message
from statestream.core.names import escape_key
from tests.dialogues import DIALOGUES, HERE, reply_in
from tests.support import Server, eventually, get_state
from tests.support.ai_sdk import Page, as_in_seven, loaded, said, without_approvals
from tests.support.chats import chatty
from tests.support.node import Node
from tests.support.provider import asked, open_gate, script

MAJORS = ("6", "7")
DONE = {"finish": "stop"}
LOST = "The connection to the model was lost."


Pages = Callable[..., Page]


@pytest.fixture(scope="module", params=MAJORS)
def nodes(request: pytest.FixtureRequest) -> Iterator[list[Node]]:
    """Three people's processes; a test takes as many as it has pages."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Node("ai_sdk.mjs", request.param)) for _ in range(3)]


@pytest.fixture
def pages(nodes: list[Node], patient: Server, request: pytest.FixtureRequest) -> Iterator[Pages]:
    """Opens a page on a chat, by default on one of this test alone."""
    opened: list[Page] = []

    def open_page(chat: str = request.node.name, *, server: Server = patient, **how: Any) -> Page:
        page = Page(nodes[len(opened)], server, chat)
        opened.append(page)
        return page.begin(**how)

    yield open_page
    for page in opened:
        page.stop()


async def kept(http: aiohttp.ClientSession, page: Page) -> list[Any]:
    """All messages of the chat, of every branch."""
    async with http.get(f"{page.server.url}/api/chats/{quote(page.chat, safe='')}") as response:
        assert response.status == 200
        return list((await response.json())["messages"])


async def stopped(http: aiohttp.ClientSession, page: Page) -> Any:
    """The button that stops: the SDK's own `stop` only goes away."""
    async with http.post(f"{page.server.url}/api/chat/{quote(page.chat, safe='')}/stop") as response:
        return await response.json()


async def seen_by_model(http: aiohttp.ClientSession, upstream: str, question: str) -> list[list[str]]:
    """What the model was given, each time it was asked that."""
    requests = await asked(http, upstream, question)
    return [[message["content"] for message in request["body"]["messages"]] for request in requests]


# the golden files


SIZES = (1, 7, 1 << 20)
"""Of the pieces in which the bytes arrive: also through the middle of a character, and of a frame's end."""


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_stream_leads_to_the_message_that_a_page_is_loaded_with(nodes: list[Node], name: str) -> None:
    reply = reply_in(DIALOGUES[name]()[-1])
    data = (HERE / f"{name}.ui").read_bytes()
    failure = reply["error"]["message"] if reply["status"] == "error" else None
    for size in SIZES:
        heard = nodes[0].ask("hear", bytes=encoded(data), size=size, transport="ui")
        read = nodes[0].ask("read", bytes=encoded(data), size=size)
        expected = without_approvals(ui_message(reply)) if name == "approved" else ui_message(reply)
        assert as_in_seven(heard["message"]) == as_in_seven(read["message"]) == expected
        assert heard["error"] == read["error"] == failure
        assert heard["status"] == ("error" if failure else "ready")


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_text_stream_leads_to_the_text(nodes: list[Node], name: str) -> None:
    states = DIALOGUES[name]()
    data = (HERE / f"{name}.text").read_bytes()
    for size in SIZES:
        heard = nodes[0].ask("hear", bytes=encoded(data), size=size, transport="text")
        assert (heard["status"], heard["error"]) == ("ready", None)
        assert said([heard["message"]]) == [text_of(reply_in(states[-1]))]


# one reply, seen by several


CALLS = [
    {"think": "Two "},
    {"think": "cities."},
    {"say": "I look. "},
    {"call": {"index": 0, "id": "call_1", "name": "weather", "arguments": '{"ci'}},
    {"call": {"index": 1, "id": "call_2", "name": "weather", "arguments": '{"city": "At'}},
    {"wait": "called"},
    {"call": {"index": 0, "arguments": 'ty": "Ulm"}'}},
    {"call": {"index": 1, "arguments": 'lantis"}'}},
    {"last": "tool_calls"},
    {"usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}},
]
PARTS = [
    {"type": "step-start"},
    {"type": "reasoning", "id": "0", "text": "Two cities.", "state": "done"},
    {"type": "text", "text": "I look. ", "state": "done"},
    {
        "type": "tool-weather",
        "toolCallId": "REPLY:call-2",
        "state": "output-available",
        "providerExecuted": True,
        "input": {"city": "Ulm"},
        "output": {"city": "Ulm", "celsius": [20]},
    },
    {
        "type": "tool-weather",
        "toolCallId": "REPLY:call-3",
        "state": "output-error",
        "providerExecuted": True,
        "input": {"city": "Atlantis"},
        "errorText": "There is no weather in Atlantis.",
    },
    {"type": "step-start"},
    {"type": "text", "text": "It is 20 degrees.", "state": "done"},
]


def parts_of(reply: str) -> Any:
    """`PARTS` in that reply. The provider's ids of calls are not unique in a chat."""
    return json.loads(json.dumps(PARTS).replace("REPLY", reply))


def gated(name: str, steps: list[Any]) -> list[Any]:
    """The steps, with gates of this test's own."""
    return [{"wait": f"{name} {step['wait']}"} if "wait" in step else step for step in steps]


async def test_who_asked_who_came_later_and_who_loads_the_page_have_the_same_message(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two, three = pages(), pages(), pages()
    question = await script(http, upstream, one.chat, *gated(one.chat, CALLS))
    more = [{"say": "It is "}, {"wait": "said"}, {"say": "20 degrees."}, {"last": "stop"}, CALLS[-1]]
    await script(http, upstream, f"{question}+", *gated(one.chat, more))

    one.send(question)
    begun = one.wait(says="I look.")
    assert begun["status"] == "streaming"
    two.resume()
    two.wait(says="I look.")
    await open_gate(http, upstream, f"{one.chat} called")
    one.wait(says="It is ")
    three.begin(await loaded(http, three)).resume()
    three.wait(says="It is ", status="streaming")
    await open_gate(http, upstream, f"{one.chat} said")

    ends = [page.settled() for page in (one, two, three)]
    stored = await loaded(http, one)
    assert stored[-1]["parts"] == parts_of(stored[-1]["id"])
    assert stored[-1]["metadata"]["usage"] == {"input": 20, "output": 40, "reasoning": 0, "cached": 0}
    assert stored[-1]["id"] == begun["messages"][-1]["id"]
    for end in ends:
        assert (end["status"], end["error"]) == ("ready", None)
        assert end["messages"][-1] == stored[-1]
        assert end["finished"][0]["finishReason"] == "stop"
    assert [message["id"] for message in ends[2]["messages"]] == [message["id"] for message in stored]
    assert len(ends[0]["messages"]) == len(ends[2]["messages"]) == 2
    assert len(await asked(http, upstream, question)) == 2


async def test_the_metadata_of_a_page_stays_with_its_message(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    question = await script(http, upstream, f"{page.chat} with metadata", {"say": "Fine."}, DONE)
    page.ask(question, metadata={"from": ["a", "button"], "author": "nobody", "createdAt": 1})
    stored = (await loaded(http, page))[0]["metadata"]
    assert stored["from"] == ["a", "button"]
    assert "author" not in stored
    assert stored["createdAt"] > 1  # what the server knows itself is not taken from a page
    page.ask(question, messageId=(await loaded(http, page))[0]["id"], metadata={"from": "x" * 10_000})
    assert page.settled()["error"] == "expected metadata of at most 10,000 bytes of JSON"


async def test_a_page_that_is_loaded_in_a_tool_call_sees_its_end(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    call = {"index": 0, "id": "call_1", "name": "wait", "arguments": json.dumps({"gate": one.chat})}
    question = await script(http, upstream, one.chat, {"say": "Wait. "}, {"call": call}, {"finish": "tool_calls"})
    await script(http, upstream, f"{question}+", {"say": "It opened."}, DONE)
    one.send(question)

    async def running() -> Any:
        messages = await loaded(http, two)
        parts = [part for message in messages for part in message["parts"]]
        return messages if parts and parts[-1].get("state") == "input-available" else None

    two.begin(await eventually(running)).resume()
    two.wait(status="streaming")
    await open_gate(http, upstream, one.chat)
    stored = [one.settled()["messages"][-1], two.settled()["messages"][-1]]
    assert stored == [(await loaded(http, one))[-1]] * 2
    assert stored[0]["parts"][2]["output"] == "open"


async def test_a_page_that_resumes_twice_shows_one_reply(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    """As React does in its strict mode, which mounts everything twice."""
    one, two = pages(), pages()
    question = await script(http, upstream, one.chat, {"say": "A "}, {"wait": one.chat}, {"say": "B"}, DONE)
    one.send(question)
    one.wait(says="A ")
    two.begin(await loaded(http, two)).resume()
    two.resume()
    await two.answered(2)  # what the page shows may be the first one's; the second is not to come after the reply
    two.wait(says="A ", status="streaming")
    await open_gate(http, upstream, one.chat)
    end = two.settled()
    assert (end["status"], end["error"]) == ("ready", None)
    assert end["messages"] == await loaded(http, two)


async def test_a_page_without_a_reply_in_the_making_resumes_nothing(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    page.resume()
    assert page.settled()["posts"][-1]["status"] == 204, "a chat that does not exist yet"
    page.ask(await script(http, upstream, page.chat, {"say": "Done."}, DONE))
    page.begin(await loaded(http, page)).resume()
    idle = page.settled()
    assert (idle["status"], idle["posts"][-1]["status"], said(idle["messages"])[-1]) == ("ready", 204, "Done.")


# what goes wrong


async def test_a_failure_is_a_sentence_and_the_text_so_far_stays(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    question = await script(http, upstream, one.chat, *CALLS[:5], *CALLS[6:])
    await script(http, upstream, f"{question}+", {"say": "As far "}, {"wait": one.chat}, {"cut": True})
    one.send(question)
    one.wait(says="As far ")
    two.begin(await loaded(http, two)).resume()
    two.wait(status="streaming")
    await open_gate(http, upstream, one.chat)
    ends = [one.settled(), two.settled()]
    stored = (await loaded(http, one))[-1]
    for end in ends:
        assert (end["status"], end["error"]) == ("error", LOST)
        assert end["messages"][-1] == stored
        assert end["finished"][0]["isError"]
    assert stored["parts"][:-1] == parts_of(stored["id"])[:-1]
    assert stored["parts"][-1] == {"type": "text", "text": "As far ", "state": "done"}
    assert stored["metadata"]["usage"]["output"] == 20
    assert stored["metadata"]["status"] == "error"
    assert stored["metadata"]["error"] == {"kind": "connection", "message": LOST}

    again = await script(http, upstream, f"{question} Again.", {"say": "Better."}, DONE)
    assert said(one.ask(again)["messages"])[-1] == "Better."


async def test_a_failure_before_the_first_word_is_answered_again_by_regenerate(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    page.ask(await script(http, upstream, page.chat, {"cut": True}))
    failed = page.settled()
    assert (failed["status"], failed["error"]) == ("error", LOST)
    await script(http, upstream, page.chat, {"say": "Better."}, DONE)
    page.regenerate()
    assert said(page.settled()["messages"]) == [page.chat, "Better."]
    assert said(await loaded(http, page)) == [page.chat, "Better."]


async def test_what_is_refused_is_shown_as_a_sentence(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    one, two = pages(), pages()
    question = await script(http, upstream, one.chat, {"say": "A "}, {"wait": one.chat}, {"say": "B"}, DONE)
    one.send(question)
    one.wait(says="A ")
    refused = two.ask(f"{question} Me too.")
    assert refused["posts"][0]["status"] == 409
    assert (refused["status"], refused["error"]) == (
        "error",
        "A reply is in progress in this chat; wait until it has ended.",
    )
    await open_gate(http, upstream, one.chat)
    assert said(one.settled()["messages"]) == [question, "A B"]

    again = await script(http, upstream, f"{question} Me now.", {"say": "C"}, DONE)
    assert said(two.ask(again)["messages"])[-1] == "C"
    assert said(await loaded(http, two)) == [question, "A B", again, "C"]
    empty = one.ask(" ")
    assert (empty["status"], empty["posts"][-1]["status"]) == ("error", 400)
    assert "with content" in empty["error"]


async def test_a_reply_of_a_killed_server_is_there_when_it_is_back(
    pages: Pages, upstream: str, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}").start()
    page = pages(server=server)
    question = await script(http, upstream, page.chat, {"say": "One, "}, {"wait": "never"})
    page.send(question)
    page.wait(says="One, ")
    server.kill()
    lost = page.settled()
    assert lost["status"] == "error"
    assert said(lost["messages"]) == [question, "One, "]
    with server:

        async def ended() -> Any:
            messages = await loaded(http, page)
            return messages if "status" in messages[-1]["metadata"] else None

        messages = await eventually(ended)
        page.resume()
        assert page.settled()["posts"][-1]["status"] == 204
        resumed = page.begin(messages).settled()["messages"]
        assert resumed[-1]["id"] == lost["messages"][-1]["id"]
        assert resumed[-1]["parts"] == [{"type": "step-start"}, {"type": "text", "text": "One, ", "state": "done"}]
        assert resumed[-1]["metadata"]["error"]["kind"] == "interrupted"
        await script(http, upstream, page.chat, {"say": "One, two."}, DONE)
        page.regenerate()
        assert said(page.settled()["messages"]) == [question, "One, two."]


# stopping


async def test_a_page_that_stops_has_only_gone_away(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    page = pages()
    question = await script(http, upstream, page.chat, {"say": "A "}, {"wait": page.chat}, {"say": "B"}, DONE)
    page.send(question)
    page.wait(says="A ")
    page.stop()
    gone = page.settled()
    assert (gone["status"], said(gone["messages"])[-1]) == ("ready", "A ")
    assert gone["finished"][0]["isAbort"]
    page.resume()
    page.wait(status="streaming")
    await open_gate(http, upstream, page.chat)
    back = page.settled()
    assert back["messages"][-1] == (await loaded(http, page))[-1]
    assert said(back["messages"]) == [question, "A B"]


async def test_a_stop_ends_the_reply_for_everybody(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    one, two = pages(), pages()
    question = await script(http, upstream, one.chat, {"say": "A "}, {"wait": "never"})
    one.send(question)
    one.wait(says="A ")
    two.begin(await loaded(http, two)).resume()
    two.wait(says="A ", status="streaming")
    assert await stopped(http, one) == {"success": True, "stopped": True}
    ends = [one.settled(), two.settled()]
    assert await stopped(http, one) == {"success": True, "stopped": False}
    stored = (await loaded(http, one))[-1]
    assert stored["metadata"]["status"] == "stopped"
    for end in ends:
        assert (end["status"], end["error"]) == ("ready", None)
        assert end["messages"][-1] == stored
        assert said(end["messages"])[-1] == "A "
    again = await script(http, upstream, f"{question} Again.", {"say": "Better."}, DONE)
    assert said(one.ask(again)["messages"])[-1] == "Better."


# answered again, asked otherwise


async def test_a_question_is_answered_again_as_a_sibling(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    first = await script(http, upstream, page.chat, {"say": "A1"}, DONE)
    second = await script(http, upstream, f"{page.chat} Then?", {"say": "B1"}, DONE)
    page.ask(first)
    page.ask(second)
    await script(http, upstream, second, {"say": "B2"}, DONE)
    page.regenerate()
    again = page.settled()["messages"]
    assert said(again) == [first, "A1", second, "B2"]
    await script(http, upstream, first, {"say": "A2"}, DONE)
    page.regenerate(messageId=again[1]["id"], body={"leaf": again[-1]["id"]})
    assert said(page.settled()["messages"]) == [first, "A2"]
    await script(http, upstream, first, {"say": "A3"}, DONE)
    page.regenerate(messageId=again[0]["id"])
    last = page.settled()["messages"]
    assert said(last) == said(await loaded(http, page)) == [first, "A3"]
    assert last[-1] == (await loaded(http, page))[-1]

    messages = await kept(http, page)
    parents = {text: message.get("parent") for text, message in zip(said(messages), messages, strict=True)}
    assert parents["A1"] == parents["A2"] == parents["A3"] == messages[0]["id"]
    assert parents["B1"] == parents["B2"]
    assert await seen_by_model(http, upstream, second) == [[first, "A1", second]] * 2
    assert await seen_by_model(http, upstream, first) == [[first]] * 3


async def test_a_question_is_asked_otherwise_as_a_sibling(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    versions = [f"{page.chat} {name}" for name in "abc"]
    for version in versions:
        await script(http, upstream, version, {"say": f"To {version[-1]}"}, DONE)
    mine = page.ask(versions[0])["messages"][0]["id"]
    for version in versions[1:]:
        shown = page.ask(version, messageId=mine)["messages"]
        assert said(shown) == said(await loaded(http, page)) == [version, f"To {version[-1]}"]
        assert shown[-1] == (await loaded(http, page))[-1]
    for version in versions:
        await script(http, upstream, version, {"say": f"Again to {version[-1]}"}, DONE)
    page.regenerate()
    assert said(page.settled()["messages"]) == [versions[2], "Again to c"]
    page.regenerate(messageId=mine)
    assert said(page.settled()["messages"]) == [versions[2], "Again to c"]

    back = page.ask(versions[0], messageId=mine)["messages"]
    assert said(back) == said(await loaded(http, page)) == [versions[0], "To a"], "what was answered is not asked again"
    page.regenerate(messageId=back[-1]["id"])
    assert said(page.settled()["messages"]) == said(await loaded(http, page)) == [versions[0], "Again to a"]
    page.ask(versions[1], messageId=mine)
    then = await script(http, upstream, f"{page.chat} then", {"say": "On."}, DONE)
    assert said(page.ask(then)["messages"]) == said(await loaded(http, page)) == [versions[1], "To b", then, "On."]

    for version in versions:
        assert all(given == [version] for given in await seen_by_model(http, upstream, version))
    assert await seen_by_model(http, upstream, then) == [[versions[1], "To b", then]]
    roots = [message for message in await kept(http, page) if "parent" not in message]
    assert said(roots) == versions


async def test_a_page_that_was_loaded_asks_otherwise_too(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    first = await script(http, upstream, page.chat, {"say": "A"}, DONE)
    second = await script(http, upstream, f"{page.chat} b", {"say": "B"}, DONE)
    third = await script(http, upstream, f"{page.chat} c", {"say": "C"}, DONE)
    mine = page.ask(first)["messages"][0]["id"]
    page.ask(second, messageId=mine)
    page.begin(await loaded(http, page))
    shown = page.ask(third, messageId=(await loaded(http, page))[0]["id"])["messages"]
    assert said(shown) == said(await loaded(http, page)) == [third, "C"]
    assert await seen_by_model(http, upstream, third) == [[third]]


async def test_a_question_that_was_refused_is_asked_by_regenerate(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    question = await script(http, upstream, one.chat, {"say": "A "}, {"wait": one.chat}, {"say": "B"}, DONE)
    one.send(question)
    one.wait(says="A ")
    other = await script(http, upstream, f"{question} Me too.", {"say": "C"}, DONE)
    assert two.ask(other)["posts"][0]["status"] == 409
    await open_gate(http, upstream, one.chat)
    one.settled()
    two.regenerate()
    assert said(two.settled()["messages"]) == [other, "C"]
    assert said(await loaded(http, two)) == [question, "A B", other, "C"]


async def test_a_question_that_was_changed_on_the_page_is_asked_otherwise_by_regenerate(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    """As the SDK's documentation of `setMessages` says."""
    page = pages()
    first = await script(http, upstream, page.chat, {"say": "A"}, DONE)
    second = await script(http, upstream, f"{page.chat} b", {"say": "B"}, DONE)
    messages = page.ask(first)["messages"]
    messages[0]["parts"][0]["text"] = second
    page.change(messages)
    page.regenerate()
    assert said(page.settled()["messages"]) == said(await loaded(http, page)) == [second, "B"]
    await script(http, upstream, second, {"say": "B again"}, DONE)
    page.regenerate()
    assert said(page.settled()["messages"]) == said(await loaded(http, page)) == [second, "B again"]
    roots = [message for message in await kept(http, page) if "parent" not in message]
    assert said(roots) == [first, second]


STALE = "The chat now shows another branch. Load it again, then repeat this."
HIDES = (
    "This would hide newer messages of this chat. "
    "To do so anyway, send `leaf`, the id of the last message that you see."
)
CHANGED = "The chat has changed since you loaded it. Load it again, then repeat this."


async def test_a_page_that_has_not_seen_the_newest_exchanges_takes_them_from_nobody(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    first = await script(http, upstream, one.chat, {"say": "A"}, DONE)
    one.ask(first)
    two.begin(await loaded(http, two))
    for number in range(3):
        one.ask(await script(http, upstream, f"{one.chat} {number}", {"say": f"A{number}"}, DONE))
    shown = await loaded(http, one)
    assert len(shown) == 8

    two.regenerate()
    stale = two.settled()
    assert (stale["posts"][-1]["status"], stale["status"], stale["error"]) == (409, "error", STALE)
    two.begin(shown[:2]).regenerate(messageId=shown[1]["id"], body={"leaf": shown[1]["id"]})
    assert two.settled()["error"] == CHANGED
    edited = await script(http, upstream, f"{one.chat} Otherwise?", {"say": "B"}, DONE)
    two.begin(shown[:2]).send(edited, messageId=shown[0]["id"])
    assert two.settled()["error"] == HIDES, "nothing in the SDK's request says what this page has seen"
    two.begin(shown).regenerate(messageId=shown[1]["id"])
    assert two.settled()["error"] == HIDES
    assert await loaded(http, one) == shown
    two.begin(shown).node.ask(
        "send", message={"text": edited, "messageId": shown[0]["id"]}, options={"body": {"leaf": shown[-1]["id"]}}
    )
    two.settled()
    assert said(await loaded(http, one)) == [edited, "B"]
    assert len(await kept(http, one)) == 10

    one.regenerate()
    assert one.settled()["error"] == STALE
    one.begin(await loaded(http, one))
    one.regenerate()
    assert said(one.settled()["messages"]) == said(await loaded(http, one)) == [edited, "B"]


async def test_a_page_that_names_the_leaf_changes_what_it_has_seen_only(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    first = await script(http, upstream, one.chat, {"say": "A"}, DONE)
    one.ask(first)
    second = await script(http, upstream, f"{one.chat} Then?", {"say": "B"}, DONE)
    held = one.ask(second)["messages"]
    two.begin(held)
    one.ask(await script(http, upstream, f"{one.chat} And then?", {"say": "C"}, DONE))
    leaf = (await loaded(http, one))[-1]["id"]
    edited = await script(http, upstream, f"{one.chat} Otherwise?", {"say": "D"}, DONE)
    two.node.ask(
        "send", message={"text": edited, "messageId": held[0]["id"]}, options={"body": {"leaf": held[-1]["id"]}}
    )
    assert two.settled()["error"] == CHANGED
    assert (await loaded(http, one))[-1]["id"] == leaf

    two.begin(await loaded(http, one))
    two.node.ask("send", message={"text": edited, "messageId": held[0]["id"]}, options={"body": {"leaf": leaf}})
    assert said(two.settled()["messages"]) == said(await loaded(http, one)) == [edited, "D"]


async def test_a_page_looks_at_another_branch_and_the_others_stay(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    one, two = pages(), pages()
    first = await script(http, upstream, one.chat, {"say": "A"}, DONE)
    old = one.ask(first)["messages"]
    second = await script(http, upstream, f"{one.chat} Otherwise?", {"say": "B"}, DONE)
    one.ask(second, messageId=old[0]["id"])
    url = f"{one.server.url}/api/chat/{quote(one.chat, safe='')}?leaf={old[0]['id']}"
    async with http.get(url) as response:
        two.begin((await response.json())["messages"])
    assert said(two.node.ask("look")["messages"]) == [first, "A"]
    assert said(await loaded(http, one)) == [second, "B"]
    two.regenerate()
    assert two.settled()["error"] == STALE
    assert said(await loaded(http, one)) == [second, "B"]


async def test_a_page_has_no_say_in_a_reply(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    """As a page with tools of its own sends their outcome: the last message is the reply."""
    page = pages()
    before = page.ask(await script(http, upstream, page.chat, {"say": "A"}, DONE))["messages"]
    page.node.ask("send")
    refused = page.settled()
    assert refused["posts"][-1]["body"]["messageId"] == before[-1]["id"]
    assert (refused["posts"][-1]["status"], refused["status"]) == (409, "error")
    assert refused["error"] == "A reply cannot be edited; its tools are run by the server."
    assert (await loaded(http, page))[1:] == before[1:]


# what is posted


async def test_a_question_that_is_posted_again_is_not_asked_again(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    question = await script(http, upstream, page.chat, {"say": "A "}, {"wait": page.chat}, {"say": "B"}, DONE)
    page.send(question)
    body = page.wait(says="A ")["posts"][0]["body"]
    async with http.post(f"{page.server.url}/api/chat", json=body) as response:
        await open_gate(http, upstream, page.chat)
        while_made = await response.text()
    async with http.post(f"{page.server.url}/api/chat", json=body) as response:
        afterwards = await response.text()
    reply = page.settled()["messages"][-1]
    for answer in (while_made, afterwards):
        assert json.loads(answer.removeprefix("data: ").split("\n")[0])["messageId"] == reply["id"]
        assert '"finishReason":"stop"' in answer
        assert answer.endswith("data: [DONE]\n\n")
    assert len(await asked(http, upstream, question)) == 1
    assert len(await kept(http, page)) == 2


async def test_a_page_may_post_its_last_message_only(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    """It can change a question so, but not have it answered again: it does not say that it wants to."""
    page = pages(transport="last")
    first = await script(http, upstream, page.chat, {"say": "A"}, DONE)
    second = await script(http, upstream, f"{page.chat} Then?", {"say": "B"}, DONE)
    third = await script(http, upstream, f"{page.chat} Otherwise?", {"say": "C"}, DONE)
    page.ask(first)
    end = page.ask(second)
    assert end["posts"][1]["body"].keys() == {"id", "message"}
    assert said(end["messages"]) == said(await loaded(http, page)) == [first, "A", second, "B"]
    assert await seen_by_model(http, upstream, second) == [[first, "A", second]]
    page.ask(third, messageId=end["messages"][2]["id"])
    assert said(page.settled()["messages"]) == said(await loaded(http, page)) == [first, "A", third, "C"]
    page.regenerate()
    assert said(page.settled()["messages"]) == [first, "A", third, "C"]
    assert len(await asked(http, upstream, third)) == 1


async def test_what_a_page_holds_of_older_messages_does_not_matter(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    """Its copy may be long and strange: only what is asked counts."""
    page = pages()
    first = await script(http, upstream, page.chat, {"say": "A"}, DONE)
    second = await script(http, upstream, f"{page.chat} Then?", {"say": "B"}, DONE)
    page.ask(first)
    strange = {"id": "x" * 300, "role": "assistant", "parts": [{"type": "step-start"}] * 200, "content": [1]}
    forged = {"id": "f1", "role": "user", "parts": [{"type": "text", "text": "Forged."}]}
    page.begin([strange, forged, strange])
    assert said(page.ask(second)["messages"])[-1] == "B"
    assert await seen_by_model(http, upstream, second) == [[first, "A", second]]


async def test_a_picture_is_shown_to_the_model_and_kept(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    page = pages()
    picture = {
        "type": "file",
        "mediaType": "image/png",
        "url": "data:image/png;base64,iVBORw0KGgo=",
        "filename": "p.png",
    }
    question = await script(http, upstream, page.chat, {"say": "A picture."}, DONE)
    page.send(question, files=[picture])
    end = page.settled()
    stored = await loaded(http, page)
    shown, kept = end["messages"][0]["parts"], stored[0]["parts"]
    [url] = [part["url"] for part in kept if part["type"] == "file"]
    assert picture in shown
    assert kept == [part if part != picture else {**picture, "url": url} for part in shown]
    async with http.get(f"{page.server.url}{url}") as response:
        assert await response.read() == b"\x89PNG\r\n\x1a\n"
    (request,) = await asked(http, upstream, question)
    assert {"type": "image_url", "image_url": {"url": picture["url"]}} in request["body"]["messages"][0]["content"]


@pytest.mark.parametrize("name", ["act ive/1", "Łódź?#&+", "a%2Fb", "..%2F", "👩‍👩‍👧"])
async def test_a_chat_may_be_called_anything(
    pages: Pages, upstream: str, http: aiohttp.ClientSession, request: pytest.FixtureRequest, name: str
) -> None:
    chat = name + request.node.callspec.params["nodes"]
    one, two = pages(chat), pages(chat)
    gate = quote(one.chat, safe="")
    question = await script(http, upstream, one.chat, {"say": "A "}, {"wait": gate}, {"say": "B"}, {"wait": "never"})
    one.send(question)
    one.wait(says="A ")
    two.begin(await loaded(http, two)).resume()
    two.wait(says="A ", status="streaming")
    await open_gate(http, upstream, quote(gate, safe=""))
    two.wait(says="A B")
    assert (await stopped(http, two))["stopped"]
    assert one.settled()["messages"][-1] == two.settled()["messages"][-1] == (await loaded(http, one))[-1]
    name = f"chat/{escape_key(chat)}"
    assert list((await get_state(http, one.server.url, f"slices={quote(name)}"))["slices"]) == [name]


# text


async def test_text_comes_as_it_grows(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    words = ("größer ", "👩‍👩‍👧, ", "漢字 ", "and \n\ndone.")
    page = pages()
    first = await script(http, upstream, page.chat, {"say": "Made."}, DONE)
    page.ask(first)
    page.begin(await loaded(http, page), transport="text")
    steps = [{"say": word} for word in words]
    question = await script(http, upstream, f"{page.chat} Say.", *steps[:2], {"wait": page.chat}, *steps[2:], DONE)
    page.send(question)
    begun = page.wait(says="👩‍👩‍👧")
    assert begun["status"] == "streaming"
    await open_gate(http, upstream, page.chat)
    end = page.settled()
    assert (end["status"], end["error"]) == ("ready", None)
    assert said(end["messages"]) == said(await loaded(http, page)) == [first, "Made.", question, "".join(words)]

    page.resume()
    assert page.settled()["posts"][-1]["status"] == 204
    await script(http, upstream, question, {"say": "Otherwise."}, DONE)
    page.regenerate(messageId=end["messages"][-1]["id"])
    assert said(page.settled()["messages"]) == [first, "Made.", question, "Otherwise."]
    edited = await script(http, upstream, f"{question} Now.", {"say": "Now."}, DONE)
    page.ask(edited, messageId=end["messages"][2]["id"])
    assert said(page.settled()["messages"]) == said(await loaded(http, page)) == [first, "Made.", edited, "Now."]


async def test_text_that_fails_is_an_error_and_stays(pages: Pages, upstream: str, http: aiohttp.ClientSession) -> None:
    page = pages()
    page.ask(await script(http, upstream, page.chat, {"say": "Made."}, DONE))
    page.begin(await loaded(http, page), transport="text")
    failing = await script(http, upstream, f"{page.chat} Fail.", {"say": "As far "}, {"wait": page.chat}, {"cut": True})
    page.send(failing)
    page.wait(says="As far ")
    await open_gate(http, upstream, page.chat)
    end = page.settled()
    assert end["status"] == "error"
    assert said(end["messages"])[-1] == "As far "


async def test_a_page_has_nothing_to_send_after_a_reply_that_ends_with_a_tool(
    pages: Pages, upstream: str, http: aiohttp.ClientSession
) -> None:
    """The SDK sends again by itself if all tools of the last step have outcomes, but only those that windows run."""
    one, two = pages(), pages()
    call = {"index": 0, "id": "call_1", "name": "wait", "arguments": json.dumps({"gate": f"{one.chat} never"})}
    question = await script(http, upstream, one.chat, {"say": "Wait. "}, {"call": call}, {"finish": "tool_calls"})
    one.send(question)

    async def running() -> Any:
        messages = await loaded(http, one)
        parts = messages[-1]["parts"] if messages else []
        return messages if parts and parts[-1].get("state") == "input-available" else None

    two.begin(await eventually(running)).resume()
    two.wait(status="streaming")
    await stopped(http, one)
    for page in (one, two):
        end = page.settled()
        assert (end["status"], end["error"]) == ("ready", None)
        assert [post["method"] for post in end["posts"]] == ["POST" if page is one else "GET"]
        assert end["messages"][-1] == (await loaded(http, one))[-1]
