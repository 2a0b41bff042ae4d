"""The identity that a proxy sets: from the proxy only, whatever the request says about addresses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.auth import ProxyHeader
from statestream.server.peer import address_of
from tests.support import ROOT, Server
from tests.support.logins import login_server, who

USER, GROUPS = "X-Forwarded-User", "X-Forwarded-Groups"
FORGED = {"X-Forwarded-For": "127.0.0.9", "Forwarded": "for=127.0.0.9", "X-Real-IP": "127.0.0.9"}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """127.0.0.9 and the network 127.1.0.0/16 are the proxy; the tests choose where they come from."""
    server = login_server(f'ProxyHeader("{USER}", proxies=["127.0.0.9", "127.1.0.0/16"], roles="{GROUPS}")').start()
    yield server
    log = server.stop()
    assert all(
        re.fullmatch(r"login_failed reason=\w+ method=GET route=/me peer=[\d.]+", line) for line in log.splitlines()
    ), log
    assert "login_failed reason=peer method=GET route=/me peer=127.0.0.1\n" in log
    assert "canary" not in log


async def asked(url: str, source: str, headers: Any) -> tuple[int, Any]:
    connector = aiohttp.TCPConnector(local_addr=(source, 0), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        return await who(http, url, headers)


@pytest.mark.parametrize("source", ["127.0.0.9", "127.1.2.3"])
async def test_the_proxys_header_is_the_identity(running: Server, source: str) -> None:
    status, found = await asked(running.url, source, {USER: "ada", GROUPS: "editor, admin,,"})
    assert (status, found["subject"], found["roles"]) == (200, "ada", ["admin", "editor"])
    assert (await asked(running.url, source, {USER: "ada"}))[1]["roles"] == []


@pytest.mark.parametrize("headers", [{}, {USER: ""}, {GROUPS: "admin"}])
async def test_without_the_header_nobody_asks(running: Server, headers: Any) -> None:
    assert await asked(running.url, "127.0.0.9", headers) == (200, None)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.90", "127.2.0.1"])
@pytest.mark.parametrize("headers", [{USER: "canary"}, {USER: ""}, {GROUPS: "admin"}, {USER: "canary"} | FORGED])
async def test_from_anybody_else_it_is_refused(running: Server, source: str, headers: Any) -> None:
    status, problem = await asked(running.url, source, headers)
    assert (status, problem["code"]) == (401, "unauthenticated")
    assert "only the proxy may send" in problem["detail"]
    assert "canary" not in str(problem)


async def test_anybody_else_without_the_header_is_nobody(running: Server) -> None:
    assert await asked(running.url, "127.0.0.1", FORGED) == (200, None)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([(USER, "ada"), (USER, "canary")], "one header X-Forwarded-User, got 2"),
        ([(USER, "ada"), (GROUPS, "a"), (GROUPS, "admin")], "one header X-Forwarded-Groups, got 2"),
        ([(USER, "canary" * 11)], "1 to 64 characters"),
        ([(USER, "ad\xada")], "without control characters"),
        ([(USER, "ada"), (GROUPS, "a,ad\xadmin")], "the roles of an identity"),
    ],
)
async def test_a_header_that_cannot_be_used_is_refused(running: Server, headers: Any, words: str) -> None:
    status, problem = await asked(running.url, "127.0.0.9", headers)
    assert status == 401
    assert words in problem["detail"]


PROGRAM = """
import asyncio, sys
from aiohttp import web
sys.path.insert(0, {apps!r})
from logins import app

async def main():
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    await web.UnixSite(runner, {path!r}).start()
    print("serving on unix:0", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_unix_socket_has_to_be_named(tmp_path: Path, trusted: bool) -> None:
    """It has no address: neither is it everybody, nor is it loopback."""
    path = str(tmp_path / "socket")
    (tmp_path / "program.py").write_text(PROGRAM.format(apps=str(ROOT / "tests/apps"), path=path))
    proxies = ["unix"] if trusted else ["127.0.0.0/8", "::1"]
    auth = {"AUTH": f'ProxyHeader("{USER}", proxies={proxies})', "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | auth, text=True) as process:
        try:
            assert process.stdout
            assert "serving" in process.stdout.readline()
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as http:
                status, found = await who(http, "http://localhost", {USER: "ada"})
        finally:
            process.kill()
    assert (status, found.get("subject"), found.get("code")) == (
        (200, "ada", None) if trusted else (401, None, "unauthenticated")
    )


def test_addresses_are_compared_as_what_they_are() -> None:
    assert address_of("::ffff:10.0.0.5") == address_of("10.0.0.5")
    assert address_of("fe80::1%eth0") == address_of("fe80::1")


@pytest.mark.parametrize(
    ("header", "proxies", "words"),
    [
        ("X User", ["10.0.0.1"], "the name of a header"),
        ("", ["10.0.0.1"], "the name of a header"),
        (USER, [], "as a list"),
        (USER, "10.0.0.1", "as a list"),
        (USER, ["0.0.0.0/0"], "means everybody"),
        (USER, ["::/0"], "means everybody"),
        (USER, ["10.0.0.1/8"], "host bits set"),
        (USER, ["proxy.example"], "an address or a network"),
    ],
)
def test_a_proxy_that_cannot_be_known_is_explained(header: str, proxies: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        ProxyHeader(header, proxies=proxies)
