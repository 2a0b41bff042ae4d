"""The page on authentication, used as its reader would: each authenticator guards the page's board."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import statestream
from statestream import StreamRefused
from tests.support import Server
from tests.support.issuer import issuer
from tests.support.logins import claims, jwk, new_key, signed
from tests.support.pages import terminals_of, write_files
from tests.support.typed import Desk

PAGE = "howto/authenticate.md"
Http = aiohttp.ClientSession


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(PAGE, tmp_path)


def guarded(folder: Path, auth: str) -> Server:
    return Server("serve", f"{folder / 'board.py'}:store", "--auth", f"{folder / auth}", "--host", "0.0.0.0")


async def added(http: Http, url: str, headers: dict[str, str]) -> tuple[int, Any]:
    body = {"type": "board/task_added", "payload": {"id": "1", "title": "Ship it"}}
    async with http.post(f"{url}/dispatch", json=body, headers=headers) as response:
        return response.status, await response.json()


async def test_a_token_is_made_and_used(folder: Path, http: Http) -> None:
    [make], [_, use], _ = terminals_of(PAGE)
    made = subprocess.run(["bash", "-ec", make], cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    token = made.stdout.strip()
    assert re.fullmatch("[0-9a-f]{64}", token)
    program = folder / "auth.py"
    program.write_text(program.read_text().replace('Path("tokens', f'Path("{folder}/tokens'))
    with guarded(folder, "auth.py:tokens") as server:
        typed = use.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
        ran = subprocess.run(["bash", "-ec", typed], env=os.environ | {"TOKEN": token}, capture_output=True, check=True)
        assert b'"board"' in ran.stdout
        async with statestream.connect(server.url, slices=["board"], token=token, cause="full") as stream:
            assert stream.state["board"]["tasks"][0]["title"] == "Ship it"
        with pytest.raises(StreamRefused) as refused:
            await statestream.connect(server.url, slices=["board"]).__aenter__()
        assert refused.value.status == 401


async def test_a_login_services_tokens_are_accepted(folder: Path, http: Http) -> None:
    key = new_key("RS256")
    async with issuer(jwk(key, "RS256", kid="1")) as source:
        program = folder / "people.py"
        program.write_text(program.read_text().replace("https://login.example/.well-known/jwks.json", source.url))
        with guarded(folder, "people.py:people") as server:
            for roles, status in ((["editor"], 200), ([], 403)):
                token = signed(claims(iss="https://login.example/", roles=roles), key, "RS256", kid="1")
                assert (await added(http, server.url, {"Authorization": f"Bearer {token}"}))[0] == status


async def test_a_proxys_identity_is_accepted(folder: Path, http: Http) -> None:
    with guarded(folder, "proxied.py:people") as server:
        ada = {"X-Forwarded-User": "ada", "X-Forwarded-Groups": "editor"}
        assert (await added(http, server.url, ada))[0] == 200
        connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with aiohttp.ClientSession(connector=connector) as elsewhere:
            assert (await added(elsewhere, server.url, ada))[0] == 401


async def test_an_applications_own_sessions_are_accepted(folder: Path, http: Http) -> None:
    program = folder / "sessions.py"
    program.write_text(program.read_text().replace("3f1c…", "3f1c"))
    with guarded(folder, "sessions.py:people") as server:
        assert (await added(http, server.url, {"Cookie": "session=3f1c"}))[0] == 200
        status, problem = await added(http, server.url, {"Cookie": "session=old"})
        assert (status, problem["detail"]) == (401, "This session has ended. Please log in again.")
        assert (await added(http, server.url, {}))[0] == 401


async def test_an_open_server_is_served_to_all_with_the_option(folder: Path) -> None:
    [[serve]] = terminals_of(PAGE)[2:]
    desk = Desk(folder)
    async with desk.types(serve) as server:
        await server.says(f"serving on http://0.0.0.0:{desk.port}$")
        await server.interrupt()
