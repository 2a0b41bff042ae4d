"""DELETE /state/{slice}/{key}: who may erase what, and what everybody else is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server

Http = aiohttp.ClientSession
APP = f"{ROOT / 'tests/apps/erasable.py'}:app"


@pytest.fixture(scope="module")
def erasable() -> Iterator[Server]:
    with Server.serving(APP, env={"PYTHONPATH": str(ROOT)}) as running:
        yield running


async def send(http: Http, server: Server, who: str, method: str, path: str, **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {who}"} if who else {}
    async with http.request(method, f"{server.url}{path}", headers=headers | more.pop("headers", {}), **more) as answer:
        return answer.status, await answer.json(content_type=None)


async def write(http: Http, server: Server, who: str, name: str) -> None:
    family, _, key = name.partition("/")
    body = {"type": f"{family}/written", "key": key, "payload": {"text": "secret"}}
    assert (await send(http, server, who, "POST", "/dispatch", json=body))[0] == 200


async def test_a_rule_says_who_may_erase(http: Http, erasable: Server) -> None:
    for name in ("note/ann", "forum/1", "ledger/1"):
        await write(http, erasable, "ann", name)
    for who, name, expected in (
        ("", "note/ann", 401),
        ("bob", "note/ann", 403),
        ("ann", "note/ann", 200),
        ("ann", "note/ann", 200),
        ("ann", "forum/1", 403),
        ("", "forum/1", 401),
        ("bob:moderator", "forum/1", 200),
        ("bob:moderator", "ledger/1", 403),  # without a rule, nobody may
    ):
        status, body = await send(http, erasable, who, "DELETE", f"/state/{name}")
        assert status == expected, (who, name, body)
    _, left = await send(http, erasable, "ann", "GET", "/state?slices=note/ann,forum/1,ledger/1")
    assert set(left["slices"]) == {"ledger/1"}
    await write(http, erasable, "ann", "note/ann")
    _, left = await send(http, erasable, "ann", "GET", "/state?slices=note/ann")
    assert set(left["slices"]) == {"note/ann"}, "the name can be used again"


async def test_what_may_not_be_read_does_not_exist(http: Http, erasable: Server) -> None:
    """Neither an instance, nor a slice: the answers are those for what is not there."""
    await write(http, erasable, "ann", "note/ann")
    for mine, other in (("secret/1", "nothing/1"), ("note/ann", "note/nobody")):
        there, missing = [await send(http, erasable, "bob", "DELETE", f"/state/{name}") for name in (mine, other)]
        assert there[0] == missing[0]
        assert there[1]["code"] == missing[1]["code"]
    for path, expected in (("/state/board/1", 404), ("/state/note/%2A", 403), ("/state/note/a%00b", 403)):
        assert (await send(http, erasable, "bob", "DELETE", path))[0] == expected, path


async def test_a_page_of_another_origin_erases_nothing(http: Http, erasable: Server) -> None:
    headers = {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "cross-site"}
    status, body = await send(http, erasable, "ann", "DELETE", "/state/note/ann", headers=headers)
    assert (status, body["code"]) == (403, "forbidden_origin")


async def test_who_erased_is_in_the_audit_log(http: Http) -> None:
    server = Server.serving(APP, env={"PYTHONPATH": str(ROOT)}).start()
    await write(http, server, "ann", "note/ann")
    assert (await send(http, server, "ann", "DELETE", "/state/note/ann"))[0] == 200
    lines = [line for line in server.stop().splitlines() if "erased" in line]
    assert len(lines) == 1
    assert "slice=note" in lines[0]
    assert "note/ann" not in lines[0]
