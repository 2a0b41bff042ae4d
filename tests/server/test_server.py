"""POST /dispatch and GET /state over HTTP: every answer, every error, and what nobody should send."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, PlainClient, Server, dispatch, get_state

Http = aiohttp.ClientSession
JSON = {"Content-Type": "application/json"}


async def post(http: Http, server: Server, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async with http.post(f"{server.url}/dispatch", data=io.BytesIO(body), headers=headers or JSON) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        return response.status, await response.json(content_type=None)


async def test_a_dispatch_answers_with_what_changed(server: Server, http: Http) -> None:
    status, body = await dispatch(http, server.url, "board/counted", {"by": 2}, id="a")
    assert status == 200
    assert body == {
        "id": "a",
        "position": body["position"],
        "duplicate": False,
        "changes": [{"slice": "board", "version": 3}, {"slice": "counter", "version": 4}],
    }
    assert body["position"].startswith("4.")
    _, again = await dispatch(http, server.url, "board/counted", {"by": 2}, id="a")
    assert again == body | {"duplicate": True}
    nothing = await dispatch(http, server.url, "board/counted", {"by": 0})
    assert nothing[1]["changes"] == []


async def test_several_actions_are_one_request(server: Server, http: Http) -> None:
    actions = [{"type": "board/counted", "payload": {}}, {"type": "room/joined", "payload": {"name": "x"}, "key": "1"}]
    status, body = await post(
        http, server, json.dumps({"actions": actions, "id": "x", "expect": {"room/1": 0}}).encode()
    )
    assert status == 200
    assert [c["slice"] for c in body["changes"]] == ["board", "counter", "room/1"]


ERRORS: list[tuple[Any, int, str]] = [
    ({"type": "board/none", "payload": {}}, 404, "unknown_action"),
    ({"type": "board/counted", "payload": {}, "expect": {"nothing": 1}}, 404, "unknown_slice"),
    ({"type": "board/counted", "payload": {}, "expect": {"room": 1}}, 404, "unknown_slice"),
    ({"type": "board/counted", "payload": {}, "expect": {"board": 0}}, 409, "version_conflict"),
    ({"type": "board/refused", "payload": {"why": "full"}}, 409, "refused"),
    ({"type": "board/counted", "payload": {"by": "1"}}, 422, "invalid_payload"),
    ({"type": "board/counted", "payload": {"by": 1.5}}, 422, "invalid_payload"),
    ({"type": "board/counted", "payload": {"by": True}}, 422, "invalid_payload"),
    ({"type": "board/task_added", "payload": {"id": "1"}}, 422, "invalid_payload"),
    ({"type": "board/counted", "payload": {"other": 1}}, 422, "invalid_payload"),
    ({"type": "board/broken", "payload": {}}, 500, "handler_failed"),
    ({"type": "board/not_json", "payload": {}}, 500, "handler_failed"),
    ({"type": "board/counted", "payload": {}, "key": "1"}, 400, "malformed"),
    ({"type": "room/joined", "payload": {"name": "x"}}, 400, "malformed"),
    ({"type": "room/joined", "payload": {"name": "x"}, "key": "a/b"}, 400, "malformed"),
    ({"type": "room/joined", "payload": {"name": "x"}, "key": "%2f"}, 400, "malformed"),
    ({"type": "room/joined", "payload": {"name": "x"}, "key": "k" * 129}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "id": ""}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "id": "a b"}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "id": "x" * 129}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "expect": {"board": -1}}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "expect": {"board": True}}, 400, "malformed"),
    ({"type": "board/counted", "payload": {}, "more": 1}, 400, "malformed"),
    ({"type": "board/counted"}, 400, "malformed"),
    ({"type": "board/counted", "payload": []}, 400, "malformed"),
    ({"type": 1, "payload": {}}, 400, "malformed"),
    ({"actions": []}, 400, "malformed"),
    ({"actions": [{"type": "board/counted", "payload": {}, "id": "x"}]}, 400, "malformed"),
    ({"actions": [{"type": "board/counted", "payload": {}}] * 1001}, 400, "malformed"),
    ([], 400, "malformed"),
    (None, 400, "malformed"),
    ("text", 400, "malformed"),
]


async def test_every_error_has_its_code_and_changes_nothing(server: Server, http: Http) -> None:
    before = await get_state(http, server.url)
    for body, status, code in ERRORS:
        got, problem = await post(http, server, json.dumps(body).encode())
        assert (got, problem["code"]) == (status, code), (body, problem)
        assert problem["status"] == status
        assert problem["detail"]
        assert "secret" not in json.dumps(problem)
    assert await get_state(http, server.url) == before


async def test_what_only_the_server_changes_is_forbidden(http: Http) -> None:
    with Server.serving(str(ROOT / "examples/chat.py:app"), env={"OPENAI_API_KEY": ""}) as server:
        for action in ("chat/asked", "chat/grew", "chat/ended", "chat/created"):
            status, problem = await dispatch(http, server.url, action, {}, key="1")
            assert (status, problem["code"]) == (403, "forbidden")


async def test_a_refusal_carries_the_handlers_own_code(server: Server, http: Http) -> None:
    _, problem = await dispatch(http, server.url, "board/refused", {"why": "full"})
    assert (problem["reason"], problem["detail"]) == ("full", "The board says no.")


async def test_an_id_stands_for_one_request(server: Server, http: Http) -> None:
    await dispatch(http, server.url, "board/counted", {"by": 1}, id="x")
    status, problem = await dispatch(http, server.url, "board/counted", {"by": 2}, id="x")
    assert (status, problem["code"]) == (409, "action_id_reused")
    status, body = await dispatch(http, server.url, "board/counted", {"by": 1}, id="x", expect={"board": 77})
    assert (status, body["duplicate"]) == (200, True)


def action(payload: str) -> bytes:
    return b'{"type":"board/counted","payload":' + payload.encode("utf-8", "surrogatepass") + b"}"


BAD_JSON = [
    b"", b"{", b"{}x", b"nul", b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b'{"type":"a","type":"b","payload":{}}',
    action('{"by":NaN}'), action('{"by":Infinity}'), action('{"by":1e400}'), action('{"by":9007199254740992}'),
    action('{"by":' + "9" * 5000 + "}"), action('{"by":18446744073709551616}'), action('{"by":"\\ud800"}'),
    action('{"by":"\ud800"}'), action('{"__proto__":1}'), action('{"a":{"constructor":{"prototype":1}}}'),
    action('{"a":1,"a":2}'), action("[" * 70 + "]" * 70), action("[" * 100_000 + "]" * 100_000),
    action('{"a":' * 900 + "1" + "}" * 900),
]  # fmt: skip


async def test_what_breaks_the_json_limits_is_malformed(server: Server, http: Http) -> None:
    for body in BAD_JSON:
        status, problem = await post(http, server, body)
        assert (status, problem["code"]) == (400, "malformed"), body[:80]
        assert len(problem["detail"]) < 300
    status, _ = await dispatch(http, server.url, "board/counted")
    assert status == 200


async def test_bodies_have_a_type_and_a_limit(server: Server, http: Http) -> None:
    good = action("{}")
    for type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-7", "nonsense"):
        status, problem = await post(http, server, good, {"Content-Type": type})
        assert (status, problem["code"]) == (415, "unsupported_media_type")
    for body, headers in [
        (b" " * (1 << 20) + good, JSON),
        (gzip.compress(b" " * (20 << 20) + good), JSON | {"Content-Encoding": "gzip"}),
    ]:
        status, problem = await post(http, server, body, headers)
        assert (status, problem["code"]) == (413, "too_large")
    assert (await post(http, server, gzip.compress(good), JSON | {"Content-Encoding": "gzip"}))[0] == 200
    assert (await post(http, server, good + b" " * ((1 << 20) - len(good))))[0] == 200
    status, problem = await post(http, server, good, JSON | {"Content-Encoding": "zz"})
    assert (status, problem["code"]) == (415, "unsupported_media_type")
    status, problem = await post(http, server, b"not gzip", JSON | {"Content-Encoding": "gzip"})
    assert (status, problem["code"]) == (400, "malformed")


async def test_the_state_comes_with_an_etag(server: Server, http: Http) -> None:
    await dispatch(http, server.url, "room/joined", {"name": "x"}, key="1")
    async with http.get(f"{server.url}/state?slices=board,room/1,room/none") as response:
        body, etag = await response.json(), response.headers["ETag"]
    assert set(body) == {"position", "slices", "versions"}
    assert set(body["slices"]) == {"board", "room/1"}
    await dispatch(http, server.url, "room/joined", {"name": "x"}, key="elsewhere")
    url = f"{server.url}/state?slices=board,room/1,room/none"
    async with http.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
        assert await response.read() == b""
    await dispatch(http, server.url, "board/counted")
    async with http.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 200
        assert response.headers["ETag"] != etag


async def test_the_state_has_its_errors_and_a_star(server: Server, http: Http) -> None:
    for query, status, code in [
        ("slices=nothing", 404, "unknown_slice"),
        ("slices=Bad", 400, "malformed"),
        ("slices=*,Bad", 400, "malformed"),
    ]:
        async with http.get(f"{server.url}/state?{query}") as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (status, code)
    async with http.get(f"{server.url}/state", headers={"If-None-Match": "*"}) as response:
        assert response.status == 304


async def test_what_http_itself_refuses_is_a_problem_too(server: Server, http: Http) -> None:
    for method, path, status, code in [
        ("GET", "/none", 404, "not_found"),
        ("PUT", "/state", 405, "method_not_allowed"),
    ]:
        async with http.request(method, server.url + path) as response:
            assert (response.status, (await response.json(content_type="application/problem+json"))["code"]) == (
                status,
                code,
            )
            assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_the_answer_comes_after_the_announcement(server: Server, http: Http) -> None:
    """A snapshot that begins after the answer includes what was answered."""
    for _ in range(50):
        _, body = await dispatch(http, server.url, "board/counted")
        with PlainClient(server.port) as client:
            assert next(client.frames()).data["position"] == body["position"]


RAW = [
    b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello",
    b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"GET /state HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    b"GET /state HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n",
    b"nonsense\r\n\r\n",
]


async def test_broken_requests_are_answered_with_400(server: Server, http: Http) -> None:
    for raw in RAW:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(raw)
            assert b" 400 " in (await asyncio.to_thread(connection.recv, 1000)).split(b"\r\n")[0], raw[:60]
    assert (await dispatch(http, server.url, "board/counted"))[0] == 200


async def test_many_requests_on_one_connection(server: Server) -> None:
    body = action("{}")
    head = (
        b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall((head + body) * 50)
        received = b""
        while received.count(b'"duplicate":false') < 50:
            data = await asyncio.to_thread(connection.recv, 1 << 16)
            assert data, received[-500:]
            received += data


@pytest.mark.parametrize("prefix", ["", "/live"])
async def test_the_application_can_be_a_part_of_another(prefix: str) -> None:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    from statestream import Slice, Store, create_app

    part = Slice("part", initial={"n": 0})

    @part.action
    def counted(state: Any) -> None:
        state["n"] += 1

    app = create_app(Store([part]), max_body=100)
    if prefix:
        outer = web.Application()
        outer.add_subapp(prefix, app)
        app = outer
    async with TestClient(TestServer(app)) as client:
        body = {"type": "part/counted", "payload": {}}
        assert (await client.post(f"{prefix}/dispatch", json=body)).status == 200
        assert (await (await client.get(f"{prefix}/state")).json())["slices"] == {"part": {"n": 1}}
        problem = await client.post(f"{prefix}/dispatch", json={})
        assert (await problem.json(content_type=None))["code"] == "malformed"
        assert (await client.post(f"{prefix}/dispatch", json=body | {"key": "x" * 100})).status == 413
        response = await client.get(f"{prefix}/stream/state")
        assert b"state.initial" in await response.content.readuntil(b"\n\n")
        response.close()


@pytest.mark.parametrize("mode", ["handed off", "handed off, asyncio"])
@pytest.mark.slow
async def test_a_client_that_does_not_read_cannot_keep_the_server_from_ending(http: Http, mode: str) -> None:
    server = Server.serving()
    server.mode = mode
    with server:
        await dispatch(http, server.url, "board/task_added", {"id": "1", "title": "x" * 900_000})
        with socket.create_connection(("127.0.0.1", server.port)) as stalled:
            stalled.sendall(
                b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20
            )  # more than the kernel takes by itself
            stalled.recv(1)
            async with asyncio.timeout(60):  # without a hand, it takes until the client reads
                assert await asyncio.to_thread(server.stop) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_history_of_large_changes_costs_a_page_of_memory(
    sqlite_server: Server, http: aiohttp.ClientSession
) -> None:
    """A hundred changes of 900 kB: a page by their number alone would be all of them."""
    for n in range(100):
        await dispatch(http, sqlite_server.url, "board/filled", {"size": 900_000 + n})
    Path(f"/proc/{sqlite_server.pid}/clear_refs").write_text("5")  # the peak begins anew
    before, size = sqlite_server.resident(), 0
    async with http.get(f"{sqlite_server.url}/history") as response:
        async for part in response.content.iter_any():
            size += len(part)
    assert size > 90_000_000
    assert sqlite_server.resident("VmHWM") - before < 45_000 << 10
