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

CHOSEN = {
    "uvicorn": (
        "tests/server/test_server.py",
        "tests/server/test_stream.py::test_the_first_frame_is_the_state",
        "tests/server/test_stream.py::test_a_reader_that_does_not_read_is_brought_up_exactly",
        "tests/server/test_stream.py::test_a_restart_is_resumed_without_a_snapshot",
        "tests/server/test_stream.py::test_the_last_reader_that_fits_is_served_and_the_next_is_told_busy",
        "tests/server/test_stream.py::test_readers_that_leave_are_forgotten",
        "tests/server/test_edge.py::test_a_request_that_does_not_arrive_is_told_to_come_back",
        "tests/server/test_lifetimes.py",
    ),
    "hypercorn": (
        "tests/server/test_stream.py::test_updates_say_what_changed_and_why",
        "tests/server/test_stream.py::test_heartbeats_move_a_quiet_cursor_on",
        "tests/server/test_stream.py::test_a_shutdown_is_said_to_everyone",
        "tests/server/test_lifetimes.py",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("server", CHOSEN)
def test_the_front_door_is_the_same(server: str) -> None:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not soak", *CHOSEN[server]]
    done = subprocess.run(
        command, cwd=ROOT, env=outer | {"SERVED_BY": server}, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout


def test_each_exception_is_a_test_that_exists() -> None:
    for name in EXCEPTIONS | UNDER["hypercorn"]:
        path, _, test = name.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        functions = {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not test or re.split(r"\[", test)[0] in functions, name
