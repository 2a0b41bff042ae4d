"""GET /openapi.json: valid, complete for its reader, and true by schemathesis, which asks the server what it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from aiohttp import web
from openapi_spec_validator import validate

from statestream import Slice, Store, create_app
from statestream.auth import JWT, AnyOf, Authenticator, ProxyHeader, Tokens
from statestream.core.errors import StatestreamError
from statestream.server.security import Security
from statestream.server.tickets import COOKIE
from tests.apps.by_name import auth as by_name
from tests.apps.contracted import ADA, CHIEF, app
from tests.support import ROOT, Server
from tests.support.exchange import JSON, exchange
from tests.support.schemathesis_hooks import CHAT, QUESTION

DESCRIBED = f"{ROOT / 'tests/apps/described.py'}:store"
EMBEDDED = f"{ROOT / 'tests/apps/embedded.py'}:app"
GUARDED = f"{ROOT / 'tests/apps/guarded.py'}:app"
CONTRACTED = f"{ROOT / 'tests/apps/contracted.py'}:app"
EXAMPLES = 6
UNENDING = ("follow", "connect", "connect_ui")
"""The operations that schemathesis leaves out: a stream that does not end, and WebSockets."""
PATHS = {"PYTHONPATH": str(ROOT)}
KEY = "X-API-Key"


@pytest.fixture(scope="module")
def described() -> Iterator[Server]:
    with Server.serving(DESCRIBED) as running:
        yield running


@pytest.fixture(scope="module")
def contracted() -> Iterator[Server]:
    with Server.serving(CONTRACTED, env=PATHS) as running:
        yield running


def document(server: Server, under: str = "", token: str | None = None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = exchange(server.port, "GET", f"{under}/openapi.json", headers)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return json.loads(answer.body)


def operations(found: Any) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation for path, item in found["paths"].items() for method, operation in item.items()
    }


def test_it_is_openapi_and_names_every_route(described: Server) -> None:
    found = document(described)
    validate(found)
    assert found["openapi"].startswith("3.1.")
    assert "securitySchemes" not in found["components"]
    assert not any("security" in operation for operation in operations(found).values())
    statuses = found["paths"]["/dispatch"]["post"]["responses"]
    assert {"200", "400", "403", "404", "409", "413", "415", "421", "422", "429", "500", "503"} <= set(statuses)
    assert "401" not in statuses
    assert "forbidden_origin" in statuses["403"]["description"]


def test_no_route_of_an_application_is_missing(contracted: Server) -> None:
    """What its router has is what the document has: of the state, of health, of tickets and of every chat protocol."""
    found = document(contracted, token=ADA)
    validate(found)
    assert set(operations(found)) == set(routed(app))
    names = [operation["operationId"] for operation in operations(found).values()]
    assert len(names) == len(set(names))


def routed(served: web.Application) -> Iterator[tuple[str, str]]:
    for route in served.router.routes():
        assert route.resource is not None
        yield route.method, route.resource.canonical


def kinds(kind: type[StatestreamError] = StatestreamError) -> Iterator[type[StatestreamError]]:
    for each in kind.__subclasses__():
        yield each
        yield from kinds(each)


def test_every_code_that_the_server_can_answer_is_named(contracted: Server) -> None:
    """Those of the classes of errors, those of the page about the protocol, and those that the source writes out."""
    found = {
        (int(status), name["$ref"].rpartition(".")[2])
        for operation in operations(document(contracted)).values()
        for status, response in operation["responses"].items()
        if "application/problem+json" in response.get("content", {})
        for schema in [response["content"]["application/problem+json"]["schema"]]
        for name in schema.get("anyOf", [schema])
    }
    raised = {
        (kind.status, kind.code)
        for kind in kinds()
        if kind.__module__ == StatestreamError.__module__ and kind.status >= 400 and kind.code != StatestreamError.code
    }
    page = (ROOT / "docs/protocol.md").read_text()
    written = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `(\w+)` \|", page, re.MULTILINE)}
    source = "\n".join(path.read_text() for path in (ROOT / "statestream/server").rglob("*.py"))
    plain = {(int(status), code) for status, code in re.findall(r"_problem\((\d{3}), \"(\w+)\"", source)}
    assert raised - {(500, "timed_out"), (500, "recording_failed")} <= found
    assert written <= found
    assert (408, "request_timeout") in plain <= found


def test_errors_are_problems_that_say_when_to_try_again(contracted: Server) -> None:
    for place, operation in operations(document(contracted)).items():
        for status, response in operation["responses"].items():
            if int(status) < 400 or place[0] == "HEAD":
                continue
            assert "application/problem+json" in response["content"], place
            headers = response.get("headers", {})
            assert ("Retry-After" in headers) == (status in ("429", "503")), (place, status)
            assert ("WWW-Authenticate" in headers) == (status == "401"), (place, status)


def test_each_operation_says_whose_credentials_it_takes(contracted: Server) -> None:
    found = document(contracted)
    assert found["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer"},
        "X-API-Key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "ticket": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": ANY},
    }
    said = {place: operation["security"] for place, operation in operations(found).items()}
    tokens: list[Any] = [{"bearer": []}, {"X-API-Key": []}]
    assert said["GET", "/health/live"] == said["HEAD", "/health/ready"] == []
    assert said["GET", "/state"] == said["POST", "/dispatch"] == said["GET", "/openapi.json"] == [{}, *tokens]
    assert said["GET", "/stream/state"] == [{}, *tokens, {"ticket": []}]
    assert said["POST", "/api/chat"] == said["POST", "/tickets"] == tokens
    assert said["GET", "/ws"] == said["GET", "/api/chat"] == [*tokens, {"ticket": []}]
    for (method, path), accepted in said.items():
        if accepted and {} not in accepted:
            place = re.sub(r"\{\w+\}", "one", path)
            answer = exchange(contracted.port, method, place, JSON, b"{}" if method == "POST" else b"")
            code = "unauthenticated" if method == "HEAD" else answer.code  # an answer to HEAD has no body
            assert (answer.status, code) == (401, "unauthenticated"), path


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (JWT(issuer="us", audience="board", algorithms=["HS256"], key=b"k" * 32), {"bearer"}),
        (ProxyHeader("X-User", proxies=["unix"]), {"X-User"}),
        (AnyOf(ProxyHeader("X-User", proxies=["unix"]), Tokens({ADA: {"subject": "ada"}})), {"X-User", "bearer", KEY}),
        (by_name, {"bearer"}),
    ],
    ids=["JWT", "ProxyHeader", "AnyOf", "a function"],
)
def test_the_schemes_are_those_of_the_authenticator(auth: Authenticator, headers: set[str]) -> None:
    served = create_app(Store([Slice("board", initial={})]), auth=auth)
    assert set(Security.of(served).schemes("apiKey")) == headers | {"ticket"}


def test_who_may_read_the_documents(contracted: Server) -> None:
    """Anybody, as far as they may know the slices; wrong credentials are wrong here, too."""
    for path in ("/openapi.json", "/asyncapi.json"):
        seen = {}
        for name, token in (("nobody", None), ("ada", ADA), ("the chief", CHIEF)):
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = exchange(contracted.port, "GET", path, headers)
            assert answer.status == 200
            seen[name] = answer.body.decode()
        wrong = exchange(contracted.port, "GET", path, {"Authorization": f"Bearer {ADA[::-1]}"})
        assert (wrong.status, wrong.code) == (401, "unauthenticated")
        assert "payroll" not in seen["nobody"] + seen["ada"]
        assert ("payroll/paid" in seen["the chief"]) == (path == "/openapi.json")
        assert "room/joined" not in seen["nobody"]
        assert not any(name in "".join(seen.values()) for name in ("chat/grew", "chat_people", "revocations"))


def test_payloads_are_described_by_the_annotations_of_their_handlers(described: Server) -> None:
    schemas = document(described)["components"]["schemas"]
    added = schemas["board.added.payload"]
    assert added["required"] == ["id"]
    assert added["properties"]["kind"]["enum"] == ["bug", "wish"]
    assert added["additionalProperties"] is False
    owner = added["$defs"]["Owner"]
    assert owner["properties"]["name"]["type"] == "string"
    assert schemas["board.added"]["description"] == "Adds a task."
    assert "key" in schemas["room.joined"]["required"]
    assert "key" not in schemas["board.added"]["properties"]
    assert schemas["room.value"]["properties"]["type"] == {"const": "room/value"}
    assert schemas["State.room"] == {}


def test_actions_that_nobody_may_dispatch_are_not_described(described: Server) -> None:
    text = json.dumps(document(described))
    assert "secret" not in text
    assert "audit/counted" not in text
    assert "State.audit" in text  # it may be read


def test_everybody_sees_the_actions_of_the_slices_that_they_may_know() -> None:
    with Server.serving(GUARDED, env={"PYTHONPATH": str(ROOT)}) as server:
        seen = {}
        for person in ("ann", "ann:editor", "ann:chief"):
            answer = exchange(server.port, "GET", "/openapi.json", {"Authorization": f"Bearer {person}"})
            schemas = json.loads(answer.body)["components"]["schemas"]
            seen[person] = {name.partition(".")[0] for name in schemas if name.endswith(".payload")}
        assert "roster" not in seen["ann"] | seen["ann:editor"]
        assert "salary" not in seen["ann:chief"]
        assert seen["ann:chief"] == seen["ann"] | {"roster"}
        assert "notice" in seen["ann"]
        found = document(server)
        validate(found)
        assert "204" in found["paths"]["/tickets"]["post"]["responses"]


def test_a_part_of_another_application_says_where_its_routes_are() -> None:
    with Server.serving(EMBEDDED, env={"UNDER": "/live", "PYTHONPATH": str(ROOT)}) as server:
        found = document(server, "/live")
        validate(found)
        assert found["servers"] == [{"url": "./"}]  # beside the document itself


@pytest.mark.long
@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing_in_the_state(tmp_path: Path, described: Server) -> None:
    explored(described, tmp_path, EXAMPLES)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing_behind_a_login(tmp_path: Path, contracted: Server) -> None:
    """Chats, tickets and everything else: with a token, and by checks of its own without one, or with a wrong one."""
    explored(contracted, tmp_path, EXAMPLES // 2, "--header", f"Authorization: Bearer {ADA}")


@pytest.mark.soak
def test_schemathesis_finds_nothing_in_many_examples(tmp_path: Path, contracted: Server) -> None:
    explored(contracted, tmp_path, 500, "--header", f"Authorization: Bearer {ADA}", seconds=3_500)


def explored(server: Server, folder: Path, examples: int, *options: str, seconds: int = 240) -> None:
    """Nothing is found by any of its checks, in all operations except UNENDING."""
    found = operations(document(server))
    if ("POST", "/api/chat") in found:  # what the hooks ask for
        question = {"id": CHAT, "messages": [QUESTION]}
        headers = {**JSON, "Authorization": f"Bearer {ADA}"}
        assert exchange(server.port, "POST", "/api/chat", headers, json.dumps(question).encode()).status == 200
    left_out = [operation["operationId"] for operation in found.values() if operation["operationId"] in UNENDING]
    support = ROOT / "tests/support"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", f"{support}/schemathesis.toml"]
    command += ["run", f"{server.url}/openapi.json", "--no-color", *options]
    command += [option for name in left_out for option in ("--exclude-operation-id", name)]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", **PATHS}
    ran = subprocess.run(command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True, timeout=seconds)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(found) - len(left_out)} selected / {len(found)} total" in ran.stdout
