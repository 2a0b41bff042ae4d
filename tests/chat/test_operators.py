"""What operators see of replies that have not ended, and how they stop them: over HTTP and with `statestream runs`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from statestream.chat.models import Usage
from statestream.chat.operators.run_list import listed_runs
from statestream.chat.prices import Budget, Price, Spending
from tests.support import ROOT, Server, eventually
from tests.support.chats import ended, read_chat, read_until, ui_question
from tests.support.nursery import finished
from tests.support.ran import Ran
from tests.support.running import Running

AGENCY = f"{ROOT / 'tests/apps/agency.py'}:app"
OPERATOR = {"Authorization": f"Bearer {quote('olga:operator')}"}
HEADER = ("-H", f"Authorization: {OPERATOR['Authorization']}")
Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs') / 'journal.db'}"


@pytest.fixture(scope="module")
def server(journal: str) -> Iterator[Server]:
    with Server.serving(AGENCY, env={"JOURNAL": journal}) as running:
        yield running


@pytest.fixture
async def ann() -> AsyncIterator[Http]:
    async with Http(headers={"Authorization": "Bearer ann"}) as http:
        yield http


async def begin(http: Http, server: Server, chat: str) -> aiohttp.ClientResponse:
    """Asks an agent that does not end by itself. Returns once it says something."""
    response = await http.post(f"{server.url}/api/chat", json=ui_question(chat, "Hello?", agent="patient"))
    await read_until(response, "I wait")
    return response


async def run(*arguments: str) -> Ran:
    ran = await asyncio.to_thread(finished, "runs", *arguments, COLUMNS="200")
    assert "Traceback" not in ran.err
    return ran


async def test_operators_list_and_stop_replies_of_chats_to_which_they_do_not_belong(ann: Http, server: Server) -> None:
    response = await begin(ann, server, "listed")
    reply = (await read_chat(ann, server, "listed"))["messages"][-1]
    async with ann.get(f"{server.url}/api/runs", headers=OPERATOR) as answer:
        [found] = (await answer.json())["runs"]
    assert found == {
        "chat": "listed",
        "reply": reply["id"],
        "state": "running",
        "model": "patient",
        "node": reply["run"]["node"],
        "since": reply["created_at"],
        "status": "Waiting",
    }
    for body, stopped in (({"reply": "another"}, False), ({}, True), ({}, False)):
        async with ann.post(f"{server.url}/api/runs/listed/stop", json=body, headers=OPERATOR) as answer:
            assert await answer.json() == {"success": True, "stopped": stopped}
        if stopped:
            await eventually(lambda: _status(ann, server, "listed", "stopped"))
    response.close()


async def _status(http: Http, server: Server, chat: str, status: str) -> bool:
    return bool((await read_chat(http, server, chat))["messages"][-1]["status"] == status)


async def test_only_operators_see_and_stop_runs(ann: Http, server: Server) -> None:
    async with ann.get(f"{server.url}/api/runs") as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")
    async with ann.post(f"{server.url}/api/runs/listed/stop") as answer:
        assert (answer.status, (await answer.json())["code"]) == (403, "forbidden")
    async with ann.post(f"{server.url}/api/runs/nowhere/stop", headers=OPERATOR) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "not_found")


async def test_the_command_lists_from_the_server_and_from_its_journal_and_stops(
    ann: Http, server: Server, journal: str
) -> None:
    response = await begin(ann, server, "ordered")
    reply = (await read_chat(ann, server, "ordered"))["messages"][-1]["id"]
    table = await run("list", server.url, *HEADER)
    heading, row = table.out.splitlines()
    assert heading.split() == ["chat", "reply", "state", "model", "node", "age", "tokens", "status"]
    assert row.split()[:4] == ["ordered", reply, "running", "patient"]
    assert row.endswith("Waiting")
    [of_server] = json.loads((await run("list", server.url, "--json", *HEADER)).out)
    [of_journal] = json.loads((await run("list", "--journal", journal, "--json")).out)
    assert of_server == of_journal

    assert (await run("stop", server.url, "ordered", "another", *HEADER)).code == 1
    stopped = await run("stop", server.url, "ordered", reply, *HEADER)
    assert (stopped.code, stopped.out) == (0, "stopped\n"), stopped
    assert (await ended(ann, server, "ordered"))["status"] == "stopped"
    response.close()
    assert (await run("list", "--journal", journal)).out == "no reply is in progress or waiting\n"


async def test_the_command_watches(ann: Http, server: Server) -> None:
    watching = await Running.started("runs", "list", server.url, "--watch", "--json", *HEADER)
    assert watching.stdout is not None
    assert json.loads(await watching.stdout.readline()) == []
    response = await begin(ann, server, "watched")
    while not (found := json.loads(await watching.stdout.readline())):
        pass
    assert found[0]["chat"] == "watched"
    watching.kill()
    await watching.communicate()
    await run("stop", server.url, "watched", *HEADER)
    await ended(ann, server, "watched")
    response.close()


async def test_what_is_wrong_is_one_sentence(server: Server, tmp_path: Path) -> None:
    nobody = await run("list", server.url)
    assert (nobody.code, nobody.err.count("\n")) == (1, 1)
    assert "no operator" in nobody.err or "credentials" in nobody.err, nobody
    for arguments in ((), (server.url, "--journal", "sqlite:///x.db")):
        assert (await run("list", *arguments)).code == 2
    assert "no file" in (await run("list", "--journal", f"sqlite:///{tmp_path}/none.db")).err


def test_a_waiting_reply_is_as_old_as_its_wait_and_its_tokens_are_summed() -> None:
    def message(status: str, **more: Any) -> dict[str, Any]:
        reply = {"role": "assistant", "status": status, "parts": [], "model": "m", "created_at": 5, "updated_at": 9}
        return {**reply, "id": f"r-{status}", "run": {"id": "1"}, **more}

    states: dict[str, Any] = {
        "a": {"messages": [message("waiting", usage={"input": 3, "output": 4}, cost=0.5)]},
        "b": {"messages": [message("streaming", usage={"input": 1, "output": 1})]},
        "c": {"messages": [message("complete")]},
        "d": {"messages": []},
    }
    used = Spending({"m": Price(input=1_000_000, output=1)}, Budget(), "m")
    used.add(Usage(input=10, output=0))
    found = listed_runs(states, states.__getitem__, lambda reply: used if reply == "r-streaming" else None)
    assert [(run["chat"], run["state"], run["since"], run["usage"]) for run in found] == [
        ("b", "running", 5, {"input": 11, "output": 1, "reasoning": 0, "cached": 0}),
        ("a", "waiting", 9, {"input": 3, "output": 4}),
    ]
    assert [run.get("cost") for run in found] == [10.0, 0.5]
