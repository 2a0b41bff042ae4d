"""Fixtures that several files share. A real server is a process; in-process tests are for the pure core."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import settings

from tests.support import FRONT, ROOT, Server
from tests.support.asgi_exceptions import why_not
from tests.support.browser import chromium
from tests.support.modes import TRIED
from tests.support.node import Node
from tests.support.often import often
from tests.support.ordering import longest_first
from tests.support.plain_client import CLIENTS, PlainClient
from tests.support.provider import started

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a background job of a shell, nohup: programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in the Makefile, for those who call pytest themselves
# Tests reach no host whose certificate an authority of the system has signed, but each process would read all of those.
os.environ.setdefault("SSL_CERT_FILE", str(ROOT / "tests/support/authority.pem"))
settings.register_profile("default", print_blob=True, deadline=None, max_examples=often(60))
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests start first, so that no worker is left with one of them at the end.

    If an ASGI server serves, tests that do not apply to it are skipped.
    """
    for item in items:
        if FRONT != "statestream" and (reason := why_not(item.nodeid, FRONT)):
            item.add_marker(pytest.mark.skip(reason=reason))
    longest = [item for item in items if item.get_closest_marker("long")]
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    items[:] = longest_first(items, longest, workers)


_open_before: set[PlainClient] = set()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    _open_before.update(CLIENTS)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Closes plain clients that a test which failed has left open.

    This comes before the event loop of the test ends, which waits for the threads that read them.
    """
    for client in set(CLIENTS) - _open_before:
        client.close()
    _open_before.clear()


@pytest.fixture(params=TRIED)
def each_mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs once with each way in which a server can own its sockets."""
    monkeypatch.setattr(Server, "mode", request.param)
    mode: str = request.param
    return mode


@pytest.fixture
def server() -> Iterator[Server]:
    """The board application on a memory journal."""
    with Server.serving() as running:
        yield running


@pytest.fixture
def sqlite_server(tmp_path: Path) -> Iterator[Server]:
    """The board application on a SQLite journal."""
    with Server.serving(journal=f"sqlite:///{tmp_path / 'journal.db'}") as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True)  # servers are killed: a kept connection would lie
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


@pytest.fixture(scope="module")
def browser() -> Iterator[Node]:
    """Chromium, driven by tests/node/browser.mjs. It goes on with the next module, without the windows of this one."""
    running = chromium()
    yield running
    if not running.is_lost:
        running.ask("clear")


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    """The URL of our own provider, which answers as a test scripts it. No request may break its rules."""
    for url in started(sys.executable, "-m", "tests.support.upstream"):
        yield url
        with urllib.request.urlopen(f"{url}/requests") as response:
            requests = json.load(response)
        assert [request["wrong"] for request in requests if request["wrong"]] == []
