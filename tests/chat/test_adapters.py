"""Agents of frameworks, through a real server and a provider that speaks the wire's format and checks its rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support import Server
from tests.support.chats import ended, read_until, ui_question, ui_reply
from tests.support.provider import asked, open_gate, script

Http = aiohttp.ClientSession


@pytest.fixture
def words(adapter: str, request: pytest.FixtureRequest) -> str:
    """A question that no other test asks: the upstream knows by it what to answer."""
    return f"{request.node.name} of {adapter}."


@pytest.fixture
async def ann() -> AsyncIterator[Http]:
    async with Http(headers={"Authorization": "Bearer ann"}) as http:
        yield http


async def reply(http: Http, adapted: Server, chat: str, text: str, *, id: str = "q1", **more: Any) -> Any:
    body = ui_question(chat, text, **more)
    body["message"]["id"] = id
    return await ui_reply(http, adapted, body)


def call(id: str, arguments: str, name: str = "order") -> list[Any]:
    return [{"call": {"index": 0, "id": id, "name": name, "arguments": arguments}}, {"finish": "tool_calls"}]


REFUSAL = {"status": 401, "body": {"error": {"message": "canary sk-canary", "code": "invalid_api_key"}}}
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4}}


async def test_text_and_tools_are_shown_and_tools_act_for_the_person(
    ann: Http, adapted: Server, upstream: str, words: str
) -> None:
    question = await script(ann, upstream, words, {"say": "I "}, {"say": "order. "}, *call("c1", '{"what": "lamp"}'))
    await script(ann, upstream, question + "+", {"say": "Done."}, {"last": "stop"}, {"usage": USAGE})
    made = await reply(ann, adapted, "lamp", question)
    assert made["status"] == "complete", made
    assert made["parts"] == [
        {"type": "text", "text": "I order. "},
        {
            "type": "tool",
            "call": "c1",
            "name": "order",
            "arguments": '{"what":"lamp"}',
            "status": "complete",
            "result": ["a book", "lamp"],
        },
        {"type": "text", "text": "Done.", "step": 1},
    ]
    assert made["usage"] == {"input": 10, "output": 20, "reasoning": 0, "cached": 4}
    assert made["model"] == "assistant"


async def test_the_model_is_told_what_the_chat_has(ann: Http, adapted: Server, upstream: str, words: str) -> None:
    question = await script(ann, upstream, words, {"say": "I order. "}, *call("c1", '{"what": "chair"}'))
    await script(ann, upstream, question + "+", {"say": "Ordered."}, {"finish": "stop"})
    await reply(ann, adapted, "chair", question)
    again = await script(ann, upstream, f"{words} And what did I order?", {"say": "A chair."}, {"finish": "stop"})
    made = await reply(ann, adapted, "chair", again, id="q2")
    assert made["parts"] == [{"type": "text", "text": "A chair."}]
    [request] = await asked(ann, upstream, again)
    assert [message["role"] for message in request["body"]["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]


async def test_a_tool_that_is_to_be_called_again_has_failed(
    ann: Http, adapted: Server, upstream: str, words: str
) -> None:
    question = await script(ann, upstream, words, *call("c1", '{"what": "nothing"}'))
    await script(ann, upstream, question + "+", {"say": "What, then?"}, {"finish": "stop"})
    made = await reply(ann, adapted, "nothing", question)
    told = made["parts"][0]
    assert told.get("error", told.get("result")) == "Say what to order."
    assert made["parts"][1]["text"] == "What, then?"


async def test_an_output_that_is_not_text_is_data(
    ann: Http, adapted: Server, upstream: str, words: str, adapter: str
) -> None:
    given = '{"city": "Ulm", "celsius": 20}'
    answers = {
        "pydantic_ai": call("c1", given, "final_result"),
        "openai_agents": [{"say": given}, {"finish": "stop"}],
        "langgraph": call("c1", given, "Answer"),
    }
    question = await script(ann, upstream, words, *answers[adapter])
    made = await reply(ann, adapted, "warm", question, agent="thermometer")
    assert made["status"] == "complete", made
    last = made["parts"][-1]
    assert (last["type"], last["data"]) == ("data-output", {"city": "Ulm", "celsius": 20})


async def test_an_agent_of_the_framework_hands_off_to_another(
    ann: Http, adapted: Server, upstream: str, words: str, adapter: str
) -> None:
    if adapter != "openai_agents":
        pytest.skip("only the OpenAI Agents SDK has hand-offs of its own")
    question = await script(ann, upstream, words, {"say": "One moment. "}, *call("c1", "{}", "transfer_to_refunds"))
    await script(ann, upstream, question + "+", {"say": "Refunded."}, {"finish": "stop"})
    made = await reply(ann, adapted, "handed-off", question, agent="desk")
    assert made["status"] == "complete", made
    assert [part["type"] for part in made["parts"]] == ["text", "agent", "text"]
    assert made["parts"][1] == {"type": "agent", "name": "refunds", "step": 1}
    assert made["model"] == "desk"


async def test_a_provider_that_refuses_is_an_error_without_its_words(
    ann: Http, adapted: Server, upstream: str, words: str
) -> None:
    question = await script(ann, upstream, words, {"refuse": REFUSAL})
    made = await reply(ann, adapted, "refused", question)
    assert made["error"] == {"kind": "unauthenticated", "message": "The model's key is missing or wrong."}


async def decided(http: Http, adapted: Server, chat: str, *decisions: dict[str, Any]) -> Any:
    """Decides about the calls that wait, in their order. Returns the reply, once it has ended or waits again."""
    waiting = await ended(http, adapted, chat)
    assert waiting["status"] == "waiting", waiting
    ids = [part["approval"]["id"] for part in waiting["parts"] if part.get("status") == "waiting"]
    body = {"decisions": [{"id": id, **decision} for id, decision in zip(ids, decisions, strict=True)]}
    async with http.post(f"{adapted.url}/api/chats/{chat}/approvals", json=body) as response:
        assert response.status == 200, await response.text()
    return await ended(http, adapted, chat)


async def test_a_tool_waits_for_approval(ann: Http, adapted: Server, upstream: str, words: str) -> None:
    question = await script(ann, upstream, words, {"say": "I buy. "}, *call("c1", '{"what": "desk"}', "buy"))
    await script(ann, upstream, question + "+", {"say": "Bought."}, {"finish": "stop"})
    waiting = await reply(ann, adapted, "desk", question)
    assert [part.get("status") for part in waiting["parts"]] == [None, "waiting"]
    made = await decided(ann, adapted, "desk", {"approved": True})
    assert made["status"] == "complete", made
    assert [part["type"] for part in made["parts"]] == ["text", "tool", "text"]
    assert "desk" in made["parts"][1]["result"]
    assert made["parts"][2] == {"type": "text", "text": "Bought.", "step": 1}


async def test_a_tool_is_denied(ann: Http, adapted: Server, upstream: str, words: str) -> None:
    question = await script(ann, upstream, words, *call("c1", '{"what": "yacht"}', "buy"))
    await script(ann, upstream, question + "+", {"say": "Then not."}, {"finish": "stop"})
    await reply(ann, adapted, "yacht", question)
    made = await decided(ann, adapted, "yacht", {"approved": False, "reason": "Too dear."})
    assert made["status"] == "complete", made
    assert (made["parts"][0]["status"], made["parts"][1]["text"]) == ("denied", "Then not.")
    request = (await asked(ann, upstream, question))[-1]
    [told] = [message["content"] for message in request["body"]["messages"] if message["role"] == "tool"]
    assert told.endswith("Too dear.")


async def test_arguments_that_cannot_be_shown_are_not_approved(
    ann: Http, adapted: Server, upstream: str, words: str
) -> None:
    question = await script(ann, upstream, words, *call("c1", '{"what": "secret", "x": NaN}', "buy"))
    await script(ann, upstream, question + "+", {"say": "Never mind."}, {"finish": "stop"})
    made = await reply(ann, adapted, "secret", question)
    assert made["status"] != "waiting", made
    assert not any(part.get("status") == "complete" for part in made["parts"])


async def test_tools_with_and_without_approval_are_called_at_once(
    ann: Http, adapted: Server, upstream: str, words: str, adapter: str
) -> None:
    refuses = adapter != "langgraph"  # whose middleware tells the model of a denial first, which our upstream rejects
    calls = [
        {"call": {"index": index, "id": f"c{index}", "name": name, "arguments": f'{{"what": "{name} {index}"}}'}}
        for index, name in enumerate(("order", "buy", "buy"))
    ]
    question = await script(ann, upstream, words, *calls, {"finish": "tool_calls"})
    await script(ann, upstream, question + "+", *call("c4", '{"what": "last"}', "buy"))
    await script(ann, upstream, question + "++", {"say": "All."}, {"finish": "stop"})
    waiting = await reply(ann, adapted, "all", question)
    assert [part["status"] for part in waiting["parts"] if part["name"] == "buy"] == ["waiting", "waiting"]
    waiting = await decided(ann, adapted, "all", {"approved": True}, {"approved": not refuses})
    statuses = [part["status"] for part in waiting["parts"]]
    assert sorted(statuses) == ["complete", "complete", "denied" if refuses else "complete", "waiting"], waiting
    made = await decided(ann, adapted, "all", {"approved": True})
    assert (made["status"], made["parts"][-1].get("text")) == ("complete", "All."), made


async def test_a_reply_is_stopped_and_keeps_its_text(ann: Http, adapted: Server, upstream: str, words: str) -> None:
    question = await script(ann, upstream, words, {"say": "Once upon"}, {"wait": words}, {"finish": "stop"})
    async with ann.post(f"{adapted.url}/api/chat", json=ui_question("stopped", question)) as response:
        await read_until(response, "Once upon")
        async with ann.post(f"{adapted.url}/api/chats/stopped/stop") as stopped:
            assert stopped.status == 200
    made = await ended(ann, adapted, "stopped")
    await open_gate(ann, upstream, words)
    assert (made["status"], made["parts"]) == ("stopped", [{"type": "text", "text": "Once upon"}])
