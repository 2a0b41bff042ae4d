"""The tests of the server, with an ASGI server as the front door: some of them here, all by `make asgi`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.asgi_exceptions import EXCEPTIONS, UNDER

SERVER, STREAM, LIFETIMES = (f"tests/server/test_{name}.py::test_" for name in ("server", "stream", "lifetimes"))
CHOSEN = {
    "uvicorn": (
        f"{SERVER}the_answer_comes_after_the_announcement",
        f"{STREAM}the_first_frame_is_the_state",
        f"{STREAM}a_reader_that_does_not_read_is_brought_up_exactly",
        f"{STREAM}readers_that_leave_are_forgotten",
        f"{LIFETIMES}a_revocation_ends_what_is_open_and_survives_a_restart[on transports]",
    ),
    "hypercorn": (
        f"{STREAM}updates_say_what_changed_and_why",
        f"{STREAM}heartbeats_move_a_quiet_cursor_on",
        f"{STREAM}a_shutdown_is_said_to_everyone",
        f"{LIFETIMES}a_revocation_ends_what_is_open_and_survives_a_restart[on transports]",
    ),
}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", CHOSEN)
def test_the_front_door_is_the_same(server: str) -> None:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not soak", *CHOSEN[server]]
    done = subprocess.run(
        command, cwd=ROOT, env=outer | {"SERVED_BY": server}, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout, done.stdout


def test_each_exception_is_a_test_that_exists() -> None:
    for name in EXCEPTIONS | UNDER["hypercorn"]:
        path, _, test = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        functions = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not test or re.split(r"\[", test)[0] in functions, name
