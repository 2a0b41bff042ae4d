"""Agents that hand a reply over to another agent: what that one is told, and who answers from then on."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from statestream.chat.messages import text_of
from tests.support import Server
from tests.support.chats import ended, read_until, received, ui_question, ui_reply

Http = aiohttp.ClientSession
NOTE = "They ask for an invoice."
HANDED = f"[triage hands this over to you, billing: {NOTE}]"
SPOKEN = [("assistant", "Let me see. "), ("tool", "an invoice"), ("assistant", "[Nothing more was said.]")]


async def ask(http: Http, team: Server, chat: str, text: str, *, id: str = "q1", **more: Any) -> Any:
    body = ui_question(chat, text, **more)
    body["message"]["id"] = id
    return await ui_reply(http, team, body)


def turns(*turns: tuple[str, str]) -> str:
    return str(list(turns))


async def test_the_other_agent_is_told_everything_and_answers_from_then_on(ann: Http, team: Server) -> None:
    reply = await ask(ann, team, "handed", "my bill", agent="triage")
    assert (reply["status"], reply["model"]) == ("complete", "billing")
    assert [part["type"] for part in reply["parts"]] == ["text", "tool", "agent", "text"]
    assert reply["parts"][2] == {"type": "agent", "name": "billing", "by": "triage", "note": NOTE, "step": 1}
    told = turns(("user", "my bill"), *SPOKEN, ("user", HANDED))
    assert reply["parts"][3] == {"type": "text", "text": f"Billing: triage ({NOTE}), {told}", "step": 1}
    next_one = await ask(ann, team, "handed", "and now?", id="q2")
    assert next_one["model"] == "billing"
    assert next_one["parts"][0]["text"].startswith("Billing: nobody, [('user', 'my bill'), ")
    third = await ask(ann, team, "handed", "and then?", id="q3")
    assert third["model"] == "billing"


async def test_a_chat_in_which_nobody_has_handed_over_asks_its_first_agent(ann: Http, team: Server) -> None:
    await ask(ann, team, "direct", "x", agent="billing")
    body = ui_question("direct", "y")
    body["message"]["id"] = "q2"
    async with ann.post(f"{team.url}/api/chat", json=body) as response:
        await read_until(response, "2 ")
        async with ann.post(f"{team.url}/api/chats/direct/stop"):
            pass
    assert (await ended(ann, team, "direct"))["model"] == "counter"


async def test_an_agent_that_says_nothing_hands_over_the_question_alone(ann: Http, team: Server) -> None:
    reply = await ask(ann, team, "silently", "silently", agent="triage")
    told = turns(("user", f"silently\n\n{HANDED}"))
    assert [part["type"] for part in reply["parts"]] == ["agent", "text"]
    assert reply["parts"][1]["text"] == f"Billing: triage ({NOTE}), {told}"


async def test_another_answer_begins_with_the_agent_that_was_asked(ann: Http, team: Server) -> None:
    first = await ask(ann, team, "again", "my bill", agent="triage")
    body = ui_question("again", "my bill", trigger="regenerate-message", messageId=first["id"])
    async with ann.post(f"{team.url}/api/chat", json=body) as response:
        assert "Let me see" in (await received(response)).text
    assert (await ended(ann, team, "again"))["parts"][2]["by"] == "triage"


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("nowhere", "unknown_agent", "There is no agent biling here; did you mean billing?"),
        ("in circles", "too_many_steps", "The agents kept handing over without answering."),
        ("too early", "failed", "The agent handed over although one of its calls waits for approval."),
    ],
)
async def test_a_hand_over_that_leads_nowhere_ends_the_reply(
    ann: Http, team: Server, text: str, kind: str, sentence: str
) -> None:
    reply = await ask(ann, team, text.replace(" ", "-"), text, agent="triage")
    assert reply["error"] == {"kind": kind, "message": sentence}


async def test_the_agent_that_has_taken_over_continues_after_approval(ann: Http, team: Server) -> None:
    waiting = await ask(ann, team, "approving", "approve", agent="triage")
    assert (waiting["status"], waiting["model"]) == ("waiting", "billing")
    body = {"decisions": [{"id": waiting["parts"][-1]["approval"]["id"], "approved": False}]}
    async with ann.post(f"{team.url}/api/chats/approving/approvals", json=body) as response:
        assert response.status == 200
    reply = await ended(ann, team, "approving")
    told = turns(("user", "approve"), *SPOKEN, ("user", HANDED))
    assert reply["parts"][-1]["text"] == f"['2'] triage ({NOTE}), {told}"


async def test_the_agent_that_has_taken_over_continues_after_a_stop(ann: Http, team: Server) -> None:
    async with ann.post(f"{team.url}/api/chat", json=ui_question("stop", "wait", agent="triage")) as response:
        await read_until(response, "Billing")
        async with ann.post(f"{team.url}/api/chats/stop/stop") as stopped:
            assert stopped.status == 200
    first = await ended(ann, team, "stop")
    async with ann.post(f"{team.url}/api/chats/stop/continue", json={"message": first["id"]}) as response:
        assert response.status == 200
    reply = await ended(ann, team, "stop")
    assert (reply["model"], len(reply["parts"])) == ("billing", 4)
    assert text_of(reply).startswith(text_of(first) + f"Billing after ‘{text_of(first)}’: triage ({NOTE}), ")
    assert "Continue exactly where you stopped." in text_of(reply)


async def test_every_protocol_says_which_agent_speaks(ann: Http, team: Server) -> None:
    await ask(ann, team, "spoken", "my bill", agent="triage")
    said = {"name": "billing", "by": "triage", "note": NOTE}
    async with ann.get(f"{team.url}/api/chat/spoken") as response:
        message = (await response.json())["messages"][-1]
    assert {"type": "data-agent", "data": said} in message["parts"]
    assert message["metadata"]["model"] == "billing"
    run = {"threadId": "spoken", "runId": "r", "messages": []}
    async with ann.post(f"{team.url}/ag-ui", json=run) as response:
        assert '"activityType":"agent","content":{"name":"billing","by":"triage"' in (await received(response)).text
    async with ann.ws_connect(f"{team.url}/ws") as socket:
        question = {"type": "message", "content": "wait", "session_id": "phases", "agent": "triage"}
        await socket.send_json(question)
        names = set()
        async for item in socket:
            frame = item.json()
            names.add((frame.get("agentName"), frame["metadata"].get("agent")))
            if "Billing" in frame.get("chunk", ""):
                break
        assert names == {(None, None), ("triage", None), ("triage", "billing")}
    async with ann.post(f"{team.url}/api/chats/phases/stop") as stopped:
        assert stopped.status == 200
