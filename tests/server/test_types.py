"""Slices with types through the front door: refusals, the document for programs, and the clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
from openapi_spec_validator import validate

from statestream import connect, connect_sync
from tests.apps import typed
from tests.apps.contracted import ADA
from tests.support import ROOT, Server
from tests.support.exchange import JSON, Answer, exchange

TYPED = f"{ROOT / 'tests/apps/typed.py'}:store"
CONTRACTED = f"{ROOT / 'tests/apps/contracted.py'}:app"
PATHS = {"PYTHONPATH": str(ROOT)}
GUARDED = """
from statestream import create_app
from statestream.auth import Tokens
from tests.apps.typed import store

PEOPLE = {"chief": ["chief"], "both": ["chief", "viewer"], "nobody": []}
TOKENS = {f"token-of-{who}-0123456789-0123456789-0123456789": who for who in PEOPLE}
app = create_app(store, auth=Tokens({t: {"subject": who, "roles": PEOPLE[who]} for t, who in TOKENS.items()}))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving(TYPED, env=PATHS) as running:
        yield running


def dispatch(server: Server, type: str, payload: Any, **more: Any) -> Answer:
    return exchange(
        server.port, "POST", "/dispatch", JSON, json.dumps({"type": type, "payload": payload} | more).encode()
    )


def token_of(who: str) -> str:
    return f"token-of-{who}-0123456789-0123456789-0123456789"


def document(server: Server, who: str | None = None) -> Any:
    token = {} if who is None else {"Authorization": f"Bearer {token_of(who)}"}
    answer = exchange(server.port, "GET", "/openapi.json", token)
    assert answer.status == 200
    return json.loads(answer.body)


def test_a_value_of_another_type_is_refused_as_a_failure_of_its_handler(server: Server) -> None:
    for type, place in (("todo/added", "/items/"), ("board/miswritten", "/tasks/x")):
        answer = dispatch(server, type, {"text": "x", "done": "a secret"} if type == "todo/added" else {})
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"]) == (500, "handler_failed")
        assert f"does not fit its type: at {place}" in problem["detail"]
        assert "secret" not in problem["detail"]


SHUT = """
from typing import Any
from typing_extensions import TypedDict
from statestream import Slice, Store, create_app
from statestream.auth import Tokens, anyone, role

class Salary(TypedDict):
    euros: int

made = dict(initial={}, type=dict[str, Salary], validate=True)
shut = Slice("shut", read=role("chief"), dispatch=anyone, **made)
viewed = Slice("viewed", read=anyone, dispatch=anyone, **made)
hidden = Slice("hidden", hidden=True, **made)
opened = Slice("opened", read=anyone, dispatch=anyone, **made)

def paid(state: Any, *, euros: Any) -> None:
    state["somebody"] = {"euros": {1, 2} if euros == "not JSON" else euros}

for each in (shut, viewed, opened):
    each.action(paid)

@opened.action
def hid(state: Any, *, euros: Any) -> None: ...

hidden.on(hid)(paid)

@viewed.view()
def nothing(state: Any) -> int:
    return 0

people = Tokens({f"token-of-{who}-0123456789-0123456789-0123456789": {"subject": who, "roles": [who]}
                 for who in ("chief", "both")})
app = create_app(Store([shut, viewed, hidden, opened]), auth=people)
without = create_app(Store([viewed, hidden, opened]))
"""
IN_WRONG_PLACES = [
    ("app", None, "shut/paid", False), ("app", "both", "shut/paid", False), ("app", "chief", "shut/paid", True),
    ("app", "chief", "viewed/paid", False), ("app", "chief", "opened/paid", True),
    ("app", "chief", "opened/hid", False),
    ("without", None, "opened/paid", True), ("without", None, "opened/hid", False),
    ("without", None, "viewed/paid", False),
]  # fmt: skip


def test_who_may_not_read_a_value_learns_nothing_of_it_from_a_failure(tmp_path: Path) -> None:
    """Neither the names of its members, nor those that JSON cannot have, nor of a slice that they may not know."""
    (tmp_path / "app.py").write_text(SHUT)
    for name in ("app", "without"):
        with Server.serving(f"{tmp_path / 'app.py'}:{name}", env=PATHS) as server:
            for _, who, type, shown in (each for each in IN_WRONG_PLACES if each[0] == name):
                login = (
                    {} if who is None else {"Authorization": f"Bearer token-of-{who}-0123456789-0123456789-0123456789"}
                )
                for euros in ("many", "not JSON"):
                    body = json.dumps({"type": type, "payload": {"euros": euros}}).encode()
                    answer = exchange(server.port, "POST", "/dispatch", login | JSON, body)
                    assert answer.code == "handler_failed", answer.body
                    said = json.loads(answer.body)["detail"]
                    assert ("somebody" in said) == shown, (who, type, said)
                    assert "hidden" not in said


def test_the_document_describes_the_values_that_the_server_sends(server: Server) -> None:
    assert dispatch(server, "todo/added", {"text": "x"}).status == 200
    task = {"id": "12345678123456781234567812345678", "title": "x", "kind": "bug", "labels": ["a"]}
    assert dispatch(server, "board/put", {"task": task}).status == 200
    assert dispatch(server, "room/joined", {"name": "Ada"}, key="42").status == 200
    assert dispatch(server, "drawing/drew", {"shape": {"kind": "circle", "radius": 1}}).status == 200
    found = document(server)
    validate(found)
    body = found["paths"]["/state"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = {**body, "components": found["components"]}
    answer = exchange(server.port, "GET", "/state?slices=*")
    state = json.loads(answer.body)
    assert {"room/42", "board", "audit"} <= state["slices"].keys()
    jsonschema.validate(state, schema)
    for name, value in (("room/42", {"members": [{"name": 1}]}), ("board", {"tasks": []}), ("todo", [])):
        wrong = {**state, "slices": {**state["slices"], name: value}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert found["components"]["schemas"]["State.untyped"] == {}
    assert "secret" not in json.dumps(found)


def test_the_document_describes_what_its_reader_may_see(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(GUARDED)
    with Server.serving(f"{tmp_path / 'app.py'}:app", env=PATHS) as server:
        seen = {who: document(server, who)["components"]["schemas"] for who in ("chief", "both", "nobody")}
        seen["without"] = document(server)["components"]["schemas"]
    values = {who: {name for name in found if name.startswith("State.")} for who, found in seen.items()}
    assert values == {"chief": {"State.salary"}, "both": {"State.salary"}, "nobody": set(), "without": set()}
    assert "people" not in json.dumps(seen["chief"]["State.salary"])
    assert seen["both"]["State.salary"]["properties"] == {"people": {"type": "integer"}}


async def test_the_document_describes_chats_and_their_lists_as_they_are(http: aiohttp.ClientSession) -> None:
    login = {"Authorization": f"Bearer {ADA}"}
    question = {"id": "42", "messages": [{"role": "user", "content": "What is it?"}]}
    with Server.serving(CONTRACTED, env=PATHS) as server:
        async with http.post(f"{server.url}/api/chat", json=question, headers=login) as response:
            assert (await response.text()).rstrip().endswith("[DONE]")
        async with http.get(f"{server.url}/openapi.json", headers=login) as response:
            found = await response.json()
        async with http.get(f"{server.url}/state?slices=chat/*,chats/*", headers=login) as response:
            state = await response.json()
    assert {name.partition("/")[0] for name in state["slices"]} == {"chat", "chats"}
    body = found["paths"]["/state"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    schema = {**body, "components": found["components"]}
    jsonschema.validate(state, schema)
    for value in state["slices"].values():
        for each in value.get("messages", ()):
            each["status"] = "unheard of"
        for each in value.get("chats", {}).values():
            each["status"] = "unheard of"
    for name, value in state["slices"].items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**state, "slices": {name: value}}, schema)


async def test_clients_read_a_slice_by_its_declaration(server: Server) -> None:
    dispatch(server, "room/joined", {"name": "Ada"}, key="lobby")
    async with connect(server.url, slices="*") as stream:
        await stream.wait_for(lambda state: "room/lobby" in state, 30)
        lobby, board, todo = (
            stream.get(typed.room, "lobby"),
            stream.get(typed.board),
            stream.get(typed.todo),
        )
        assert lobby is not None
        assert [member.name for member in lobby.members] == ["Ada"]
        assert isinstance(board, typed.Board)
        assert todo is stream.state["todo"] is stream.get("todo")
        assert stream.get(typed.room, "elsewhere") is None
        assert stream.get(typed.secret) is None
        with pytest.raises(TypeError, match="a key beside room"):
            stream.get(typed.room)


def test_a_client_without_a_loop_reads_it_too(server: Server) -> None:
    with connect_sync(server.url) as stream:
        drawing = stream.get(typed.drawing)
        assert isinstance(drawing, typed.Group)
        assert stream.get("drawing") == stream.state["drawing"]
