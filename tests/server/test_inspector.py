"""The inspector's routes: where there are any, and who sees what by them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream import Store, create_app
from tests.support import MODES, ROOT, PlainClient, Server, dispatch
from tests.support.exchange import Answer, exchange
from tests.support.usage import wrong_usage

INSPECTED = f"{ROOT / 'tests/apps/inspected.py'}:app"
BOARD = f"{ROOT / 'tests/apps/board.py'}:store"
INSPECTOR = ROOT / "statestream/browser/inspector"
CHIEF, ANN = "boss:chief", "ann"
OPERATORS = ("/inspect/readers", "/inspect/weights")
ROUTES = ("/inspect", "/inspect/landmarks", "/inspect/js/statestream.js", "/inspect/js/inspector/page.js", *OPERATORS)


def inspected(inspect: str = "", **env: str) -> Server:
    return Server("serve", INSPECTED, env={"INSPECT": inspect, "PYTHONPATH": str(ROOT), **env})


@pytest.fixture(params=[MODES[0], MODES[1]])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = inspected("chief", JOURNAL=f"sqlite:///{tmp_path / 'journal.db'}")
    server.mode = request.param
    with server:
        yield server


def ask(server: Server, path: str, token: str | None = None, **headers: str) -> Answer:
    credentials = {} if token is None else {"Authorization": f"Bearer {token}"}
    return exchange(server.port, "GET", path, {**credentials, **{n.replace("_", "-"): v for n, v in headers.items()}})


def read(server: Server, path: str, token: str | None = None) -> Any:
    answer = ask(server, path, token)
    assert answer.status == 200, answer
    return json.loads(answer.body)


# where there is an inspector


def test_on_this_machine_there_is_one_for_whoever_asks_directly() -> None:
    with Server.serving(BOARD) as server:
        for path in ROUTES:
            assert ask(server, path).status == 200, path
            for header in ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via"):
                assert ask(server, path, **{header: "x"}).code == "not_found", path


@pytest.mark.parametrize("options", [("--host", "0.0.0.0", "--insecure"), ("--allowed-host", "live.example.org")])
def test_where_others_can_reach_the_server_it_must_be_switched_on(options: tuple[str, ...]) -> None:
    with Server("serve", BOARD, *options) as server:
        assert {ask(server, path).status for path in ROUTES} == {404}
    with Server("serve", BOARD, *options, "--inspect") as server:
        assert {ask(server, path, X_Forwarded_For="192.0.2.1").status for path in ROUTES} == {200}


def test_it_can_be_switched_off() -> None:
    with Server("serve", BOARD, "--no-inspect") as server:
        assert {ask(server, path).status for path in ROUTES} == {404}
    assert "--inspect" in wrong_usage("serve", INSPECTED, "--inspect")


def test_wrong_settings_are_explained() -> None:
    for wrong in ("yes", 1, lambda identity, key: True, lambda identity, state: True):
        with pytest.raises(TypeError, match="inspect"):
            create_app(Store([]), inspect=wrong)  # type: ignore[arg-type]


def test_the_page_is_strict_about_what_it_loads() -> None:
    with Server.serving(BOARD) as server:
        page = ask(server, "/inspect")
        policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["connect-src"] == "'self'"
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert " style=" not in page.body.decode()
        modules = {path.name for path in INSPECTOR.glob("*.js")}
        assert {ask(server, f"/inspect/js/inspector/{name}").status for name in modules} == {200}
        assert ask(server, "/inspect/js/inspector/none.js").code == "not_found"
        assert ask(server, "/inspect", If_None_Match=page.headers["ETag"]).status == 304
    imported = {name for path in INSPECTOR.glob("*.js") for name in re.findall(r' from "(.+?)"', path.read_text())}
    assert all(name.startswith(("./", "../")) for name in imported)


# who sees what


def test_the_page_is_for_everybody_and_what_it_shows_for_those_with_the_right() -> None:
    with inspected("chief") as server:
        assert ask(server, "/inspect").status == ask(server, "/inspect", "ann").status == 200
        assert ask(server, "/inspect/js/inspector/page.js").status == 200
        for path in OPERATORS:
            assert (ask(server, path).code, ask(server, path, ANN).code) == ("unauthenticated", "forbidden")
            assert ask(server, path, CHIEF).status == 200
    with inspected("yes") as server:
        assert {ask(server, path, CHIEF).code for path in OPERATORS} == {"forbidden"}  # nobody has the right
    with inspected("chief", OPEN="1") as server:
        assert {ask(server, path).code for path in OPERATORS} == {"forbidden"}
    with inspected("yes", OPEN="1") as server:
        assert {ask(server, path).status for path in OPERATORS} == {200}


async def test_readers_are_shown_with_what_their_viewer_may_read(guarded: Server) -> None:
    tokens = {"ann": "ann", "boss": CHIEF, "nobody": None}
    followed = [
        ("nobody", "slices=board"),
        ("ann", "slices=board,diary/ann"),
        ("ann", "slices=diary/*"),
        ("boss", "slices=*"),
    ]
    with ExitStack() as stack:
        for name, query in followed:
            reader = stack.enter_context(PlainClient(guarded.port, query, token=tokens[name]))
            reader.read_until(lambda frame: frame.event == "state.initial")
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer ann"}) as ann:
            status, _ = await dispatch(ann, guarded.url, "diary/written", {"text": "secret"}, key="ann")
            assert status == 200
        answer = read(guarded, "/inspect/readers", CHIEF)
        found = {(each["subject"], tuple(each["slices"])): each for each in answer["readers"]}
        assert set(found) == {(None, ("board",)), ("ann", ("board",)), ("boss", ("board", "payroll", "room/*"))}
        alone, mixed = found[None, ("board",)], found["ann", ("board",)]
        assert alone["sent_bytes"] > 0
        assert alone["lag_changes"] == alone["waiting_bytes"] == 0
        assert mixed["sent_bytes"] is mixed["waiting_bytes"] is None
        assert (alone["state"], answer["more"]) == ("live", False)


async def test_a_reader_who_does_not_read_is_behind() -> None:
    with inspected("yes", OPEN="1") as server, PlainClient(server.port, "slices=board") as reader:
        reader.read_until(lambda frame: frame.event == "state.initial")
        async with aiohttp.ClientSession() as http:
            for n in range(20):
                big = {"name": "big", "value": str(n) + "x" * 900_000}
                assert (await dispatch(http, server.url, "board/noted", big))[0] == 200
        [found] = read(server, "/inspect/readers")["readers"]
        assert found["lag_changes"] > 0
        assert found["waiting_bytes"] > 1000
        assert found["slices"] == ["board"]


async def test_weights_are_of_what_their_viewer_may_read(guarded: Server) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {CHIEF}"}) as boss:
        for n in range(5):
            assert (await dispatch(boss, guarded.url, "room/joined", {"name": "x" * 100}, key=str(n)))[0] == 200
        assert (await dispatch(boss, guarded.url, "diary/written", {"text": "secret"}, key="ann"))[0] == 200
    found = read(guarded, "/inspect/weights", CHIEF)
    by_name = {each["slice"]: each for each in found["slices"]}
    assert set(by_name) == {"board", "payroll", "room/*"}
    rooms = by_name["room/*"]
    assert (rooms["instances"], rooms["loaded"], rooms["changes"]) == (5, 5, 5)
    assert 500 < rooms["memory_bytes"] < 1000
    assert rooms["history_bytes"] > rooms["memory_bytes"]
    assert found["whole"] is True


VIEWED = """
import itertools, os, time
from statestream import Slice, Store, create_app
from statestream.auth import anyone
from tests.apps.by_name import auth

board = Slice("board", initial={"count": 0}, read=anyone, dispatch=anyone)
calls = itertools.count(1)

@board.action
def counted(state, *, by: int):
    state["count"] += by

@board.view()
def slowly(state):
    time.sleep(float(os.environ.get("SECONDS", "0")))
    return {"call": next(calls)}

app = create_app(Store([board]), auth=auth, inspect=anyone)
"""


def viewed(tmp_path: Path, **env: str) -> Server:
    """A server whose only slice shows how often its view was called."""
    program = tmp_path / "viewed.py"
    program.write_text(VIEWED)
    return Server("serve", f"{program}:app", env={"PYTHONPATH": str(ROOT), **env})


async def count(server: Server, times: int) -> None:
    actions = [{"type": "board/counted", "payload": {"by": 1}}] * times
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}/dispatch", json={"actions": actions}) as response,
    ):
        assert response.status == 200


async def test_weighing_calls_no_view(tmp_path: Path) -> None:
    with viewed(tmp_path) as server:
        await count(server, 50)
        before = read(server, "/state")["slices"]["board"]["call"]
        [found] = read(server, "/inspect/weights")["slices"]
        assert (found["slice"], found["changes"]) == ("board", 51)  # it begins with one
        await count(server, 1)
        assert read(server, "/state")["slices"]["board"]["call"] == before + 1


async def test_others_have_a_turn_while_a_view_shows_the_past(tmp_path: Path) -> None:
    with viewed(tmp_path, SECONDS="0.02") as server:
        await count(server, 100)
        async with aiohttp.ClientSession() as http:

            async def past() -> list[bytes]:
                async with http.get(f"{server.url}/history") as response:
                    return (await response.read()).splitlines()

            reading = asyncio.create_task(past())
            for _ in range(5):
                async with http.get(f"{server.url}/openapi.json") as response:
                    assert response.status == 200
            assert not reading.done()
            assert len(await reading) == 101


async def test_of_readers_who_follow_many_slices_some_are_shown(guarded: Server) -> None:
    with ExitStack() as stack:
        for begin in (0, 600):
            names = ",".join(f"room/{n}" for n in range(begin, begin + 600))
            reader = stack.enter_context(PlainClient(guarded.port, f"slices={names}", token="ann"))
            reader.read_until(lambda frame: frame.event == "state.initial")
        answer = read(guarded, "/inspect/readers", CHIEF)
        assert sorted(len(each["slices"]) + each["others"] for each in answer["readers"]) == [400, 600]
        assert answer["more"] is True
        assert [each["sent_bytes"] is None for each in answer["readers"]].count(True) == 1


async def test_landmarks_lead_to_every_change(tmp_path: Path) -> None:
    with inspected("yes", OPEN="1", JOURNAL=f"sqlite:///{tmp_path / 'journal.db'}") as server:
        async with aiohttp.ClientSession() as http:
            for _ in range(13):
                actions = [{"type": "board/counted", "payload": {"by": 1}}] * 100
                async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
                    assert response.status == 200
        found = read(server, "/inspect/landmarks")
        assert found["earliest"] == "0.0"
        lines = [json.loads(line) for line in ask(server, "/history").body.splitlines()]
        assert lines[-1]["position"] == found["position"]
        for landmark in found["checkpoints"]:
            after = [json.loads(line) for line in ask(server, f"/history?after={landmark}&limit=1").body.splitlines()]
            assert after[0]["version"] == int(landmark.split(".")[0]) + 1


def test_the_documents_describe_the_routes_of_the_inspector() -> None:
    with Server.serving(BOARD) as server:
        paths = set(read(server, "/openapi.json")["paths"])
        assert {"/inspect", "/inspect/landmarks", "/inspect/readers", "/inspect/weights"} <= paths
    with Server("serve", BOARD, "--no-inspect") as server:
        assert not [path for path in read(server, "/openapi.json")["paths"] if "inspect" in path]
