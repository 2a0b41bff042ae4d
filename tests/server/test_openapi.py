"""GET /openapi.json: valid, complete for its reader, and true by schemathesis, which asks the server what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from tests.support import ROOT, Server
from tests.support.exchange import exchange

DESCRIBED = f"{ROOT / 'tests/apps/described.py'}:store"
EMBEDDED = f"{ROOT / 'tests/apps/embedded.py'}:app"
GUARDED = f"{ROOT / 'tests/apps/guarded.py'}:app"
EXAMPLES = 40


@pytest.fixture(scope="module")
def described() -> Iterator[Server]:
    with Server.serving(DESCRIBED) as running:
        yield running


def document(server: Server, under: str = "") -> Any:
    answer = exchange(server.port, "GET", f"{under}/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return json.loads(answer.body)


def test_it_is_openapi_and_names_every_route(described: Server) -> None:
    found = document(described)
    validate(found)
    assert found["openapi"].startswith("3.1.")
    assert set(found["paths"]) == {"/stream/state", "/dispatch", "/state", "/history", "/metrics", "/openapi.json"}
    statuses = found["paths"]["/dispatch"]["post"]["responses"]
    assert {"200", "400", "403", "404", "409", "413", "415", "421", "422", "500", "503"} <= set(statuses)
    assert "forbidden_origin" in statuses["403"]["description"]


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


def test_actions_that_nobody_may_dispatch_are_not_described(described: Server) -> None:
    text = json.dumps(document(described))
    assert "secret" not in text
    assert "audit" not in text


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


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path, described: Server) -> None:
    """All of its checks. The stream is left out, because it does not end."""
    support = ROOT / "tests/support"
    command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", f"{support}/schemathesis.toml"]
    command += ["run", f"{described.url}/openapi.json", "--exclude-path", "/stream/state", "--no-color"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.support.whole_numbers", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=tmp_path, env=os.environ | hooks, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "5 selected / 6 total" in ran.stdout
