"""A server whose application fails as it starts or ends: the command must not blame its address."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import Server
from tests.support.nursery import finished

PROGRAM = """
from aiohttp import web

from statestream import Slice, Store, create_app

app = create_app(Store([Slice("board", initial={})]))


async def failing(app: web.Application) -> None:
    raise OSError(28, "the disk of the application is full")


app.WHEN.append(failing)
"""


def program(folder: Path, when: str) -> str:
    (folder / "program.py").write_text(PROGRAM.replace("WHEN", when))
    return f"{folder / 'program.py'}:app"


def test_an_application_that_cannot_start_fails_by_its_own_error(tmp_path: Path) -> None:
    ran = finished("serve", program(tmp_path, "on_startup"), "--port", "0")
    assert (ran.code, ran.out) == (1, "")
    assert "OSError: [Errno 28] the disk of the application is full" in ran.err
    assert "cannot listen" not in ran.err


@pytest.mark.parametrize("when", ["on_shutdown", "on_cleanup"])
def test_an_application_that_cannot_end_fails_by_its_own_error(tmp_path: Path, when: str) -> None:
    server = Server.serving(program(tmp_path, when)).start()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    errors = server._ended()
    assert server.process.returncode == 1
    assert "OSError: [Errno 28] the disk of the application is full" in errors
    assert "cannot listen" not in errors
