"""Tool calls that people have to approve: by whom, from where and when they are decided, and what runs then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import statestream
from statestream import Store
from statestream.chat import Chat, Decision, Question
from statestream.chat.models import CallPiece, Finish, Piece, ToolSpec, Turn
from tests.support import Server, eventually
from tests.support.approvals import Http, approvals, call, decide, orders, serving, waiting
from tests.support.chats import ended, invite, post, read_chat, received, ui_question, user
from tests.support.provider import script


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with serving(upstream) as running:
        yield running


@pytest.fixture(scope="module")
def named(upstream: str) -> Iterator[Server]:
    """A server on which people have names."""
    with serving(upstream, AUTH="1") as running:
        yield running


def person(token: str) -> Http:
    return Http(headers={"Authorization": f"Bearer {token}"}, connector=aiohttp.TCPConnector(force_close=True))


async def calls_run(http: Http, server: Server) -> list[str]:
    async with http.get(f"{server.url}/state", params={"slices": "ordered"}) as response:
        return list((await response.json())["slices"]["ordered"]["calls"])


async def finished(http: Http, server: Server, chat: str) -> Any:
    """The reply, once it neither grows nor waits."""

    async def whole() -> Any:
        message = (await read_chat(http, server, chat))["messages"][-1]
        return message if message["status"] not in ("streaming", "waiting") else None

    return await eventually(whole)


async def paused_again(http: Http, server: Server, chat: str) -> Any:
    """The reply, once it waits for exactly one decision that nobody has made yet."""

    async def waits() -> Any:
        message = (await read_chat(http, server, chat))["messages"][-1]
        return message if message["status"] == "waiting" and len(approvals(message)) == 1 else None

    return await eventually(waits)


async def passed(seconds: float) -> None:
    """Time passes: whether nothing happens in it is what is tested."""
    await asyncio.sleep(seconds)


def text_of(message: Any) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


async def test_a_call_runs_once_somebody_has_approved_it(server: Server, upstream: str, http: Http) -> None:
    reply = await waiting(http, server, "approve", await orders(http, upstream, "approve one", 11))
    assert [(part["type"], part.get("status")) for part in reply["parts"]] == [("text", None), ("tool", "waiting")]
    [id] = approvals(reply)
    assert not any(run.startswith("11 ") for run in await calls_run(http, server))
    assert await decide(http, server, "approve", {"id": id, "approved": True}) == (200, {"reply": reply["id"]})
    done = await ended(http, server, "approve")
    assert (done["id"], done["status"], text_of(done)) == (reply["id"], "complete", "I order. Done.")
    tool = done["parts"][1]
    assert (tool["status"], tool["result"]) == ("complete", "ordered 11")
    assert tool["approval"] == {"id": id, "approved": True}
    assert (done["parts"][2].get("step"), done["run"]["id"] != reply["run"]["id"]) == (1, True)
    assert "11 for None by call_11 in approve" in await calls_run(http, server)
    # whoever repeats that is told the same, and nothing runs again
    assert await decide(http, server, "approve", {"id": id, "approved": True}) == (200, {"reply": reply["id"]})
    status, problem = await decide(http, server, "approve", {"id": id, "approved": False})
    assert (status, problem["reason"]) == (409, "decided")
    assert len([run for run in await calls_run(http, server) if run.startswith("11 ")]) == 1


async def test_a_call_that_was_denied_does_not_run_and_the_model_is_told_why(
    server: Server, upstream: str, http: Http
) -> None:
    question = await orders(http, upstream, "deny one", 12, then="I leave it.")
    reply = await waiting(http, server, "deny", question)
    [id] = approvals(reply)
    await decide(http, server, "deny", {"id": id, "approved": False, "reason": "Too dear."})
    done = await ended(http, server, "deny")
    assert text_of(done) == "I order. I leave it."
    assert (done["parts"][1]["status"], done["parts"][1]["approval"]["approved"]) == ("denied", False)
    assert not any(run.startswith("12 ") for run in await calls_run(http, server))
    async with http.get(f"{upstream}/requests", params={"question": question}) as response:
        [told] = [message for message in (await response.json())[-1]["body"]["messages"] if message["role"] == "tool"]
    assert told["content"] == "A person has denied this call. Too dear."


async def test_the_reply_goes_on_when_all_calls_are_decided(server: Server, upstream: str, http: Http) -> None:
    reply = await waiting(http, server, "both", await orders(http, upstream, "order two", 21, 22))
    first, second = approvals(reply)
    await decide(http, server, "both", {"id": first, "approved": True})
    state = await read_chat(http, server, "both")
    assert state["messages"][-1]["status"] == "waiting"
    assert state["messages"][-1]["parts"][1]["status"] == "waiting"
    edited = {"id": second, "approved": True, "arguments": {"id": 23}}
    assert (await decide(http, server, "both", {**edited, "arguments": {"id": "no number"}}))[1][
        "reason"
    ] == "unfit_arguments"
    assert (await decide(http, server, "both", edited))[0] == 200
    done = await ended(http, server, "both")
    assert [part["result"] for part in done["parts"] if part["type"] == "tool"] == ["ordered 21", "ordered 23"]
    assert [json.loads(part["arguments"]) for part in done["parts"] if part["type"] == "tool"] == [
        {"id": 21},
        {"id": 23},
    ]


async def test_who_approves_with_other_arguments_than_somebody_before_is_told(
    server: Server, upstream: str, http: Http
) -> None:
    reply = await waiting(http, server, "other", await orders(http, upstream, "order others", 24, 25))
    first = approvals(reply)[0]
    assert (await decide(http, server, "other", {"id": first, "approved": True}))[0] == 200
    status, problem = await decide(http, server, "other", {"id": first, "approved": True, "arguments": {"id": 99}})
    assert (status, problem["reason"]) == (409, "decided")
    same = {"id": first, "approved": True, "arguments": {"id": 24}}
    assert (await decide(http, server, "other", same))[0] == 200


async def test_of_many_who_decide_at_once_one_has_decided(server: Server, upstream: str, http: Http) -> None:
    reply = await waiting(http, server, "race", await orders(http, upstream, "race for it", 31))
    [id] = approvals(reply)
    answers = await asyncio.gather(
        *(decide(http, server, "race", {"id": id, "approved": number % 2 == 0}) for number in range(10))
    )
    kept = (await ended(http, server, "race"))["parts"][1]["approval"]["approved"]
    for number, (status, body) in enumerate(answers):
        assert (status == 200) is ((number % 2 == 0) is kept), body
    assert len([run for run in await calls_run(http, server) if run.startswith("31 ")]) == int(kept)


async def test_calls_that_need_no_approval_run_at_once_and_arguments_decide_who_must_approve(
    named: Server, upstream: str
) -> None:
    async with person("ann") as ann, person("bob:boss") as bob, person("eve:boss") as eve:
        calls = [call("small", "pay", 0, amount=5), call("large", "pay", 1, amount=500)]
        await script(ann, upstream, "pay both", *calls, {"finish": "tool_calls"})
        await script(ann, upstream, "pay both+", {"say": "Paid."}, {"finish": "stop"})
        reply = await waiting(ann, named, "pay", "pay both")
        assert reply["parts"][0]["result"] == "paid 5"
        [id] = approvals(reply)
        assert (reply["parts"][1]["approval"]["role"], "expires_at" in reply["parts"][1]["approval"]) == ("boss", True)
        status, problem = await decide(ann, named, "pay", {"id": id, "approved": True})
        assert (status, problem["code"]) == (403, "forbidden")
        assert (await decide(eve, named, "pay", {"id": id, "approved": True}))[0] == 404
        assert await invite(ann, named, "pay", "bob") == 200
        assert (await decide(bob, named, "pay", {"id": id, "approved": True}))[0] == 200
        done = await ended(ann, named, "pay")
    assert (done["parts"][1]["result"], done["parts"][1]["approval"]["by"]) == ("paid 500", "bob")


async def test_who_edits_arguments_needs_the_role_that_these_demand(named: Server, upstream: str) -> None:
    async with person("ann") as ann, person("ann:boss") as boss:
        await script(ann, upstream, "pay edited", call("medium", "pay", amount=80), {"finish": "tool_calls"})
        await script(ann, upstream, "pay edited+", {"say": "Paid."}, {"finish": "stop"})
        [id] = approvals(await waiting(ann, named, "edited", "pay edited"))
        edited = {"id": id, "approved": True, "arguments": {"amount": 5_000}}
        assert (await decide(ann, named, "edited", edited))[0] == 403
        assert (await decide(boss, named, "edited", edited))[0] == 200
        assert (await ended(ann, named, "edited"))["parts"][0]["result"] == "paid 5000"


async def test_a_tool_runs_for_whoever_has_approved_it(named: Server, upstream: str) -> None:
    async with person("ann") as ann, person("cleo") as cleo:
        reply = await waiting(ann, named, "for", await orders(ann, upstream, "order for me", 41))
        assert await invite(ann, named, "for", "cleo") == 200
        await decide(cleo, named, "for", {"id": approvals(reply)[0], "approved": True})
        await ended(ann, named, "for")
        assert "41 for cleo by call_41 in for" in await calls_run(ann, named)


async def test_each_call_runs_for_whoever_has_approved_it_and_the_rest_for_whoever_has_asked(
    named: Server, upstream: str
) -> None:
    async with person("ann") as ann, person("cleo:boss") as cleo:
        question = "order and look"
        calls = [call(42, index=0, id=42), call(43, index=1, id=43)]
        await script(ann, upstream, question, *calls, {"finish": "tool_calls"})
        await script(ann, upstream, f"{question}+", call("who", "whoami"), {"finish": "tool_calls"})
        await script(ann, upstream, f"{question}++", {"say": "Done."}, {"finish": "stop"})
        first, second = approvals(await waiting(ann, named, "lent", question))
        assert await invite(ann, named, "lent", "cleo") == 200
        await decide(ann, named, "lent", {"id": first, "approved": True})
        await decide(cleo, named, "lent", {"id": second, "approved": False})
        done = await finished(ann, named, "lent")
        assert "42 for ann by call_42 in lent" in await calls_run(ann, named)
        assert done["parts"][2]["result"] == "ann"


async def test_while_a_reply_waits_nobody_can_ask_but_anybody_can_stop_it(
    server: Server, upstream: str, http: Http
) -> None:
    reply = await waiting(http, server, "stop", await orders(http, upstream, "stop it", 51))
    answer = await post(http, server, "stop", user("And now?"))
    assert (answer.status, answer.problem["reason"]) == (409, "waiting")
    async with http.get(f"{server.url}/api/chat/stop/stream") as response:
        assert response.status == 204
    async with http.post(f"{server.url}/api/chats/stop/stop") as response:
        assert (await response.json())["stopped"] is True
    done = await ended(http, server, "stop")
    assert (done["status"], done["parts"][1]["status"]) == ("stopped", "error")
    status, problem = await decide(http, server, "stop", {"id": approvals(reply)[0], "approved": True})
    assert (status, problem["reason"]) == (409, "not_waiting")
    await script(http, upstream, "And now?", {"say": "Fine."}, {"finish": "stop"})
    assert (await post(http, server, "stop", user("And now?"))).text == "Fine."


async def test_a_reply_that_has_waited_long_enough_ends(upstream: str, http: Http) -> None:
    with serving(upstream, PATIENCE="0.2") as server:
        await script(http, upstream, "pay late", call("late", "pay", amount=500), {"finish": "tool_calls"})
        async with http.post(f"{server.url}/api/chat", json=ui_question("late", "pay late")) as response:
            await received(response)

        async def expired() -> Any:
            message = (await read_chat(http, server, "late"))["messages"][-1]
            return message if message["status"] == "error" else None

        reply = await eventually(expired)
        assert reply["error"] == {"kind": "expired", "message": "Nobody decided in time."}
        assert (await decide(http, server, "late", {"id": reply["parts"][0]["approval"]["id"], "approved": True}))[
            0
        ] == 409


async def test_only_calls_that_are_undecided_end_a_reply_that_waits(upstream: str, http: Http) -> None:
    with serving(upstream, PATIENCE="0.3") as server:
        calls = [call("limited", "pay", 0, amount=500), call(26, index=1, id=26)]
        await script(http, upstream, "pay and order", *calls, {"finish": "tool_calls"})
        await script(http, upstream, "pay and order+", call(27, id=27), {"finish": "tool_calls"})
        await script(http, upstream, "pay and order++", {"say": "Both."}, {"finish": "stop"})
        pay, first = approvals(await waiting(http, server, "limits", "pay and order"))
        assert (await decide(http, server, "limits", {"id": pay, "approved": True}))[0] == 200
        await passed(0.8)  # the time in which somebody had to decide about the payment
        assert (await decide(http, server, "limits", {"id": first, "approved": True}))[0] == 200
        [second] = approvals(await paused_again(http, server, "limits"))
        await passed(0.8)
        assert (await decide(http, server, "limits", {"id": second, "approved": True}))[0] == 200
        assert text_of(await finished(http, server, "limits")) == "Both."


@pytest.mark.parametrize("ending", ["terminated", "killed"])
async def test_it_waits_over_a_restart(upstream: str, http: Http, tmp_path: Path, ending: str) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = await orders(http, upstream, f"over a restart {ending}", 61)
    with serving(upstream, JOURNAL=journal) as server:
        reply = await waiting(http, server, "kept", question)
        if ending == "killed":
            server.kill()
    with serving(upstream, JOURNAL=journal) as server:
        assert (await decide(http, server, "kept", {"id": approvals(reply)[0], "approved": True}))[0] == 200
        assert (await ended(http, server, "kept"))["parts"][1]["result"] == "ordered 61"


async def test_what_was_decided_of_many_survives_a_restart(upstream: str, http: Http, tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = await orders(http, upstream, "half decided", 62, 63)
    with serving(upstream, JOURNAL=journal) as server:
        first, second = approvals(await waiting(http, server, "half", question))
        assert (await decide(http, server, "half", {"id": first, "approved": True}))[0] == 200
        server.kill()
    with serving(upstream, JOURNAL=journal) as server:
        assert (await decide(http, server, "half", {"id": second, "approved": False}))[0] == 200
        done = await finished(http, server, "half")
        assert [part["status"] for part in done["parts"] if part["type"] == "tool"] == ["complete", "denied"]


async def test_it_is_decided_on_another_node(upstream: str, http: Http, tmp_path: Path) -> None:
    """The node that has asked is lost, and what it has left waiting is no reply in progress."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = await orders(http, upstream, "on another node", 71)
    with serving(upstream, JOURNAL=journal) as here, serving(upstream, JOURNAL=journal) as there:
        reply = await waiting(http, here, "moved", question)
        here.kill()
        assert (await decide(http, there, "moved", {"id": approvals(reply)[0], "approved": True}))[0] == 200
        done = await ended(http, there, "moved")
        assert (done["status"], done["parts"][1]["result"]) == ("complete", "ordered 71")


async def test_who_was_killed_while_the_tool_ran_does_not_run_it_again(
    upstream: str, http: Http, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    question = "killed in the continuation"
    await script(http, upstream, question, call(81, id=81), {"finish": "tool_calls"})
    await script(http, upstream, f"{question}+", {"say": "So far"}, {"wait": "never"})
    with serving(upstream, JOURNAL=journal) as server:
        reply = await waiting(http, server, "cut", question)
        await decide(http, server, "cut", {"id": approvals(reply)[0], "approved": True})

        async def said() -> bool:
            return (
                text_of((await read_chat(http, server, "cut"))["messages"][-1]) != ""
                or len((await read_chat(http, server, "cut"))["messages"][-1]["parts"]) == 2
            )

        await eventually(said)
        server.kill()
    with serving(upstream, JOURNAL=journal) as server:
        done = await ended(http, server, "cut")
        assert (done["error"]["kind"], done["parts"][0]["result"]) == ("interrupted", "ordered 81")
        assert len([run for run in await calls_run(http, server) if run.startswith("81 ")]) == 1


async def test_state_tells_every_window_that_a_chat_waits(named: Server, upstream: str) -> None:
    async with person("dan") as dan:
        question = await orders(dan, upstream, "seen in the state", 91)
        async with statestream.connect(named.url, slices=["chats/dan", "chat/seen"], token="dan") as stream:
            reply = await waiting(dan, named, "seen", question)
            await stream.wait_for(lambda state: state["chats/dan"]["chats"].get("seen", {}).get("status") == "waiting")
            await decide(dan, named, "seen", {"id": approvals(reply)[0], "approved": True})
            await stream.wait_for(lambda state: state["chats/dan"]["chats"].get("seen", {}).get("status") == "idle")
            assert stream.state["chat/seen"]["messages"][-1]["parts"][1]["approval"]["by"] == "dan"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"decisions": []}, 400),
        ({"decisions": [{"id": "x", "approved": "yes"}]}, 400),
        ({"decisions": [{"id": "x", "approved": True}]}, 404),
        ({"decisions": [{"id": "r:0", "approved": True}]}, 404),
        ({"decisions": [{"id": "r:99999999999", "approved": True}]}, 404),
        ({"decisions": [{"id": "a:0", "approved": True}, {"id": "b:0", "approved": True}]}, 400),
        ({"decisions": [{"id": "a:0", "approved": True, "reason": "x" * 2_001}]}, 400),
    ],
)
async def test_bad_decisions_are_refused(server: Server, http: Http, upstream: str, body: Any, status: int) -> None:
    await script(http, upstream, "hello there", {"say": "Hello."}, {"finish": "stop"})
    await ui_answer(http, server)
    async with http.post(f"{server.url}/api/chats/bad/approvals", json=body) as response:
        assert response.status == status, await response.text()


async def ui_answer(http: Http, server: Server) -> None:
    async with http.post(f"{server.url}/api/chat", json=ui_question("bad", "hello there")) as response:
        await received(response)


# in a program


class Buyer:
    """A model that buys what it is asked about, and says so."""

    name = "buyer"

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        if turns[-1].role == "tool":
            yield turns[-1].text
            yield Finish(reason="stop")
        else:
            yield CallPiece(name="buy", arguments=json.dumps({"what": turns[-1].text}))
            yield Finish(reason="tool_calls")

    async def close(self) -> None:
        pass


async def test_a_program_decides() -> None:
    chat = Chat(model=Buyer(), titles=False)

    @chat.tool(approval=True)
    async def buy(what: str) -> str:
        return f"bought {what}"

    async with Store(chat.slices) as store, chat.conversations(store) as conversations:
        key = await conversations.create()

        async def status() -> str:
            return str((await conversations.find(key))["messages"][-1]["status"])

        reply = await conversations.ask(key, Question.text("a book"))
        await eventually(lambda: _is(status(), "waiting"))
        edited = Decision(id=f"{reply}:0", approved=True, arguments={"what": "a pen"})
        assert await conversations.calls.decide(key, [edited]) == reply
        await eventually(lambda: _is(status(), "complete"))
        assert (await conversations.find(key))["messages"][-1]["parts"][1]["text"] == "bought a pen"


async def _is(found: Awaitable[str], expected: str) -> bool:
    return await found == expected


# agents


@pytest.fixture(scope="module")
def agency(upstream: str) -> Iterator[Server]:
    with serving(upstream, AGENTS="1", AUTH="1") as running:
        yield running


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"approved": True, "arguments": {"id": 8}}, "ann let me buy 8, not 7."),
        ({"approved": False, "reason": "too dear"}, "Then not 7: too dear."),
    ],
)
async def test_an_agent_asks_for_approval_and_continues(agency: Server, decision: dict[str, Any], said: str) -> None:
    chat = f"agent-{decision['approved']}"
    async with person("ann") as ann:
        reply = await waiting(ann, agency, chat, "Buy me a book")
        assert (await decide(ann, agency, chat, {"id": approvals(reply)[0], **decision}))[0] == 200
        done = await ended(ann, agency, chat)
    assert (done["status"], text_of(done)) == ("complete", f"I have found a book. {said}")
    assert done["parts"][1]["status"] == ("complete" if decision["approved"] else "denied")
