"""The log of a server: one line for each request, stream, refusal and run, with ids and figures and no content."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import BOARD, ROOT, PlainClient, Server, dispatch, eventually

Http = aiohttp.ClientSession
APP = """
import os
from statestream import Refused, Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.models import Finish, Usage

class Model:
    name = "counted"

    async def answer(self, turns, tools, settings):
        yield "canary in a reply"
        yield Usage(input=10, output=3)
        yield Finish(reason="stop")

    async def close(self):
        pass

board = Slice("board", initial={"title": ""})

@board.action
def named(state, *, title: str):
    if title == "no":
        raise Refused("no", "canary in a sentence")
    state["title"] = title

chat = Chat(model=Model(), titles=False)
app = create_app(Store([board, *chat.slices]), max_subscribers=2, handoff=os.environ["HANDOFF"] == "1")
chat.setup(app)
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def target(tmp_path: Path) -> str:
    (tmp_path / "app.py").write_text(APP)
    return f"{tmp_path / 'app.py'}:app"


@pytest.fixture
def server(target: str) -> Iterator[Server]:
    with Server("serve", target, "--access-log", "--log-format", "json") as running:
        yield running


def written(server: Server) -> list[dict[str, Any]]:
    """The lines of a server that is stopped now."""
    return [json.loads(line) for line in server.stop().splitlines()]


def of(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line.get("event") == event]


async def test_each_request_has_one_line_with_ids(server: Server, http: Http) -> None:
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    body = {"type": "board/named", "payload": {"title": "t"}}
    async with http.post(f"{server.url}/dispatch", json=body, headers=headers) as response:
        done = await response.json()
    await dispatch(http, server.url, "board/named", {"title": "no"})
    async with http.get(f"{server.url}/state?slices=nope"):
        pass
    async with http.get(f"{server.url}/nowhere/at/all"):
        pass
    lines = of(written(server), "request")
    shown = [(line["method"], line.get("route"), line["status"], line["outcome"]) for line in lines]
    assert shown == [
        ("POST", "/dispatch", 200, "ok"),
        ("POST", "/dispatch", 409, "refused"),
        ("GET", "/state", 404, "unknown_slice"),
        ("GET", None, 404, "not_found"),
    ]
    assert {line["logger"] for line in lines} == {"statestream.access"}
    assert len({line["request"] for line in lines}) == 4
    assert (lines[0]["id"], lines[0]["position"]) == (done["id"], done["position"])
    assert lines[0]["trace"] == TRACE
    assert all(line["peer"] == "127.0.0.1" and 0 < line["seconds"] < 60 for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)


async def test_no_line_has_content(server: Server, http: Http) -> None:
    headers = {"Authorization": "Bearer canary", "X-API-Key": "canary", "traceparent": "canary", "Referer": "canary"}
    headers |= {"User-Agent": "canary", "X-Forwarded-For": "canary", "Last-Event-ID": "canary"}
    more = {"headers": headers, "cookies": {"session": "canary"}}
    for path in ("state?slices=canary", "state?canary=1", "canary", "api/chats/canary", "history?after=canary"):
        async with http.get(f"{server.url}/{path}", **more):
            pass
    for payload in ({"title": "canary"}, {"canary": "canary"}, {"title": "no"}):
        async with http.post(f"{server.url}/dispatch", json={"type": "board/named", "payload": payload}, **more):
            pass
    async with http.post(f"{server.url}/dispatch", data=b"canary {", **more):
        pass
    async with http.post(f"{server.url}/dispatch", json={"type": "canary/canary", "payload": {}}, **more):
        pass
    async with http.get(f"{server.url}/stream/state?slices=board,chat/canary", **more) as stream:
        await stream.content.readline()
    async with http.post(f"{server.url}/api/chats") as response:
        key = (await response.json())["id"]
    question = {"messages": [{"role": "user", "content": "canary"}]}
    async with http.post(f"{server.url}/api/chats/{key}/stream", json=question, **more) as response:
        assert "canary" in await response.text()
    with socket.create_connection(("127.0.0.1", server.port)) as garbage:
        garbage.sendall(b"canary canary\r\n\r\n")
        garbage.recv(100)
    errors = server.stop()
    assert "canary" not in errors
    lines = [json.loads(line) for line in errors.splitlines()]
    assert len(of(lines, "request")) == 12
    assert [line["reason"] for line in of(lines, "refusal")] == ["BadHttpMethod"]


async def test_a_stream_has_one_line_when_it_has_ended(each_mode: str, server: Server, http: Http) -> None:
    with PlainClient(server.port) as first, PlainClient(server.port) as second, PlainClient(server.port) as third:
        sizes = []
        for client in (first, second, third):
            client.read_until(lambda _: True)
        await dispatch(http, server.url, "board/named", {"title": "t" * 5000})
        first.read_until(lambda _: first.state["board"]["title"] != "")
        sizes.append(first.bytes - len(first.head) - 4)
        first.close()

        async def has_left() -> bool:
            return await server.metric(http, 'streams_ended_total{reason="left"}') == 1

        await eventually(has_left)
        lines = written(server)
    streams = of(lines, "stream")
    assert [line["reason"] for line in streams] == ["busy", "left", "shutdown"]
    assert streams[1]["bytes"] == sizes[0]
    assert all(line["bytes"] > 0 for line in streams)
    assert all(line["route"] == "/stream/state" and 0 < line["seconds"] < 60 for line in streams)
    assert len({line["stream"] for line in streams}) == 3
    assert [line for line in of(lines, "request") if line["route"] == "/stream/state"] == []


async def test_a_run_has_one_line_and_its_request_another(server: Server, http: Http) -> None:
    async with http.post(f"{server.url}/api/chats") as response:
        key = (await response.json())["id"]
    question = {"messages": [{"role": "user", "content": "hello"}]}
    async with http.post(f"{server.url}/api/chats/{key}/stream", json=question) as response:
        await response.text()

    async def has_ended() -> bool:
        return await server.metric(http, 'replies_total{end="complete"}') == 1

    await eventually(has_ended)
    lines = written(server)
    [run] = of(lines, "run")
    assert (run["chat"], run["model"], run["end"]) == (key, "counted", "complete")
    assert (run["input"], run["output"], run["pieces"]) == (10, 3, 1)
    assert {"reply", "duration_ms", "first_piece_ms"} <= run.keys()
    assert [line["chat"] for line in of(lines, "request") if line["route"] == "/api/chats/{id}/stream"] == [key]


async def test_text_has_the_same_lines(target: str, http: Http) -> None:
    with Server("serve", target, "--access-log") as server:
        await dispatch(http, server.url, "board/named", {"title": "t"})
        [line] = server.stop().splitlines()
    stamp, level, event, *fields = line.split(" ")
    assert (level, event, stamp[-1]) == ("INFO", "request", "Z")
    assert {"method=POST", "route=/dispatch", "status=200", "outcome=ok"} <= set(fields)


async def test_without_options_only_denials_are_logged(target: str, http: Http) -> None:
    with Server("serve", target) as silent:
        await dispatch(http, silent.url, "board/named", {"title": "t"})
        assert silent.stop() == ""
    with Server("serve", target) as denying:
        assert (await dispatch(http, denying.url, "chat/created", {}, key="1"))[0] == 403
        [line] = denying.stop().splitlines()
    assert line == "refused reason=forbidden method=POST route=/dispatch peer=127.0.0.1"


AUTHENTICATED = """
from statestream import Slice, Store, create_app
from statestream.core.errors import Unauthenticated
from statestream.core.rules import signed_in
from statestream.server import audit

async def auth(request):
    if request.headers.get("Authorization") == "Bearer right":
        return None
    raise Unauthenticated("canary", kind="unknown_token")

app = create_app(Store([Slice("board", initial={}, read=signed_in)]), auth=auth)
audit.revoked("ada", by="root")
"""


async def test_a_failed_login_has_one_line_and_so_has_a_revocation(tmp_path: Path, http: Http) -> None:
    (tmp_path / "app.py").write_text(AUTHENTICATED)
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        for token in ("right", "canary"):
            async with http.get(f"{server.url}/state", headers={"Authorization": f"Bearer {token}"}):
                pass
        lines = server.stop().splitlines()
    assert lines == [
        "revoked subject=ada by=root",
        "login_failed reason=unknown_token method=GET route=/state peer=127.0.0.1",
    ]


async def test_a_log_that_nobody_reads_stops_nothing() -> None:
    command = (sys.executable, "-m", "statestream", "serve", BOARD, "--port", "0", "--access-log")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        room = 64 << 10
        with socket.create_connection(("127.0.0.1", port)) as connection:
            request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for _ in range(room // 100):  # far more lines than a pipe holds
                connection.sendall(request)
                while not (answer := connection.recv(1 << 16)).endswith(b"}"):
                    assert answer
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
        assert process.stderr.read().startswith("20")


def test_the_default_is_left_to_programs_that_configure_logging(tmp_path: Path) -> None:
    """A program of its own sees structured lines as text, with whatever handlers it has."""
    program = """
import logging
from statestream.server.log_line import line
logging.basicConfig(format="%(name)s %(message)s", level=logging.INFO)
logging.getLogger("statestream.access").info(line("request", outcome="ok", subject='Ada "L" x=1', none=None))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == 'statestream.access request outcome=ok subject="Ada \\"L\\" x=1"\n'
