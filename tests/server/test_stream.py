"""The stream from outside: a real server, raw sockets, and what the protocol says about every frame.

`make soak` adds the other modes of what hardly depends on who owns the sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from statestream.core.names import escape_key
from tests.support import BOARD, ROOT, PlainClient, Server, dispatch, eventually, get_state
from tests.support.modes import in_one_mode
from tests.support.often import often

pytestmark = pytest.mark.usefixtures("each_mode")

QUICK = f"{ROOT / 'tests/apps/quick.py'}:app"
Http = aiohttp.ClientSession


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Server]:
    """Little history, on SQLite, with a heartbeat of 400 ms."""
    env = {"JOURNAL": str(tmp_path / "j.db"), "HEARTBEAT": "0.4", "MAX_READERS": "3", "PYTHONPATH": str(ROOT)}
    with Server.serving(QUICK, env=env) as running:
        yield running


def first(client: PlainClient) -> Any:
    return next(client.frames())


def gone_away(client: PlainClient) -> PlainClient:
    """A client that has the state, and is not there while more happens."""
    first(client.connect())
    client.close()
    return client


async def act(http: Http, server: Server, type: str, payload: Any = None, **more: Any) -> Any:
    status, body = await dispatch(http, server.url, type, payload, **more)
    assert status == 200, body
    return body


# frames


async def test_the_first_frame_is_the_state(server: Server) -> None:
    with PlainClient(server.port, "") as client:
        frame = first(client)
    assert client.status == 200
    for header in (
        "Content-Type: text/event-stream; charset=utf-8",
        "Cache-Control: no-store, no-transform",
        "X-Accel-Buffering: no",
        "X-Content-Type-Options: nosniff",
    ):
        assert header.lower() in client.head.lower()  # an ASGI server writes names in lower case
    assert set(frame.data) == {"type", "reason", "position", "slices", "versions", "heartbeat", "retry", "timestamp"}
    assert frame.data["slices"] == {"board": {"tasks": [], "count": 0}, "counter": 0}
    assert frame.data["versions"] == {"board": 1, "counter": 2}
    assert (frame.data["reason"], frame.data["heartbeat"]) == ("start", 15000)
    assert frame.id == frame.data["position"]
    assert abs(frame.data["timestamp"] - time.time() * 1000) < 60_000


@in_one_mode
async def test_a_key_may_be_any_text_in_its_one_spelling(server: Server, http: Http) -> None:
    key = escape_key("Łódź 1/2")
    assert key == "%C5%81%C3%B3d%C5%BA%201%2F2"
    await act(http, server, "room/joined", {"name": "Ada"}, key=key)
    with PlainClient(server.port, f"slices=room/{quote(key)}") as client:
        assert first(client).data["slices"] == {f"room/{key}": {"members": ["Ada"]}}
    truth = await get_state(http, server.url, f"slices=room/{quote(key)}")
    assert list(truth["versions"]) == [f"room/{key}"]


async def test_updates_say_what_changed_and_why(server: Server, http: Http) -> None:
    await act(http, server, "board/task_added", {"id": "1", "title": "first " * 30})
    with PlainClient(server.port, "slices=board") as brief, PlainClient(server.port, "slices=board&cause=full") as full:
        for client in (brief, full):
            client.read_until(lambda f: f.event == "state.initial")
        payload = {"id": "2", "title": "é"}
        body = await act(http, server, "board/task_added", payload, id="mine")
        one, other = (c.read_until(lambda f: f.event == "state.update")[-1] for c in (brief, full))
    assert set(one.data) == {"type", "slice", "from", "version", "patches", "cause", "timestamp"}
    operation = {"op": "add", "path": "/tasks/1", "value": payload | {"done": False}}
    assert one.data["patches"] == other.data["patches"] == [operation]
    assert one.data["version"] == body["changes"][0]["version"]
    assert one.id == body["position"]
    assert one.data["cause"] == {"type": "board/task_added", "id": "mine"}
    assert other.data["cause"] == {"type": "board/task_added", "id": "mine", "payload": payload}


async def test_instances_come_with_a_value_and_go_with_removed(server: Server, http: Http) -> None:
    with PlainClient(server.port, "slices=room/*") as client:
        assert first(client).data["slices"] == {}
        await act(http, server, "room/joined", {"name": "Ada"}, key="42")
        await act(http, server, "room/closed", key="42")
        last = await act(http, server, "room/joined", {"name": "Bob"}, key="42")
        frames = client.read_until(lambda f: f.id == last["position"])
    kinds = [(set(f.data) & {"patches", "value", "removed"}, f.data["from"]) for f in frames]
    assert kinds == [({"value"}, 0), ({"removed"}, 3), ({"value"}, 0)]
    assert client.state == {"room/42": {"members": ["Bob"]}}


async def test_a_reader_gets_what_it_asked_for_and_nothing_else(server: Server, http: Http) -> None:
    await act(http, server, "room/joined", {"name": "a"}, key="1")
    queries = ["slices=board", "slices=room/1,counter", "slices=room/*", "slices=*", "", "slices=board&slices=counter"]
    clients = [PlainClient(server.port, query).connect() for query in queries]
    await act(http, server, "room/joined", {"name": "b"}, key="2")
    await act(http, server, "room/joined", {"name": "b"}, key="1")
    last = await act(http, server, "board/counted")
    for client in clients:
        if "room/*" not in client.target:
            client.read_to(f"{int(last['position'].split('.')[0]) - 1}.x")
    clients[2].read_until(lambda f: f.data.get("slice") == "room/1")
    held = [set(client.state) for client in clients]
    assert held == [
        {"board"},
        {"room/1", "counter"},
        {"room/1", "room/2"},
        {"board", "counter", "room/1", "room/2"},
        {"board", "counter"},
        {"board", "counter"},
    ]
    for client in clients:
        client.close()


NOT_FOLLOWED = [
    ("slices=nothing", 404, "unknown_slice"),
    ("slices=room", 404, "unknown_slice"),
    ("slices=board/1", 404, "unknown_slice"),
    ("slices=board/*", 404, "unknown_slice"),
    ("slices=Board", 400, "malformed"),
    ("slices=", 400, "malformed"),
    ("slices=room/a%20b", 400, "malformed"),
    ("slices=room/%2561", 400, "malformed"),
    ("slices=" + ",".join(["board"] * 1001), 400, "malformed"),
    ("cause=loud", 400, "malformed"),
]


@in_one_mode
async def test_what_cannot_be_followed_is_refused_at_once(server: Server, http: Http) -> None:
    for query, status, code in NOT_FOLLOWED:
        async with http.get(f"{server.url}/stream/state?{query}") as response:
            body = await response.json(content_type="application/problem+json")
            assert (response.status, body["status"], body["code"]) == (status, status, code), query


@in_one_mode
async def test_only_get_is_a_stream(server: Server, http: Http) -> None:
    for method in ("HEAD", "POST", "PUT"):
        async with http.request(method, f"{server.url}/stream/state") as response:
            assert response.status == 405


async def test_heartbeats_move_a_quiet_cursor_on(quick: Server, http: Http) -> None:
    with PlainClient(quick.port, "slices=room/quiet") as client:
        first(client)
        last = await act(http, quick, "board/counted")
        frame = client.read_until(lambda f: f.event == "heartbeat" and f.id == last["position"])[-1]
        assert set(frame.data) == {"type", "position", "timestamp"}
        began = time.monotonic()
        client.read_until(lambda f: f.event == "heartbeat")
        assert time.monotonic() - began < 14.0  # less than the heartbeat that nobody has changed


# cursors


async def resumed_with(server: Server, cursor: str, query: str = "slices=*", header: str = "Last-Event-ID") -> Any:
    client = PlainClient(server.port, query)
    client.connect(cursor=cursor, header=header)
    frame = json_of(client)
    client.close()
    return frame


def json_of(client: PlainClient) -> Any:
    """The first frame, without applying it: the client holds nothing that it could be checked against."""
    while b"\n\n" not in client._buffer:
        client._more()
    block = client._buffer.split(b"\n\n", 1)[0].decode()
    return json.loads(block.split("data: ", 1)[1])


UNREADABLE = ["0", "-1", "now", "1e3", "+1.abc", "²", "1.", ".abc", "01.abc", "1.a-b", "9" * 400, "1." + "a" * 7000]
UNREADABLE += ["1.é", "0.abc", "\xff", f"{2**53}.abc", "1.abc 1.abc", "1.abc,1.abc"]


@in_one_mode
async def test_an_unreadable_cursor_starts_anew_with_the_reason(server: Server) -> None:
    for cursor in UNREADABLE:
        assert (await resumed_with(server, cursor))["reason"] == "invalid", cursor


@in_one_mode
async def test_a_cursor_of_another_history_is_forked(server: Server) -> None:
    for cursor in ("1.foreign", f"{2**53 - 1}.abc", "99.abc"):
        assert (await resumed_with(server, cursor))["reason"] == "forked", cursor


@in_one_mode
async def test_no_cursor_is_a_start_and_the_header_wins(server: Server, http: Http) -> None:
    body = await act(http, server, "board/counted")
    assert (await resumed_with(server, ""))["reason"] == "start"
    by_query = await resumed_with(server, "", query=f"slices=*&after={body['position']}")
    assert by_query["type"] == "state.resumed"
    both = await resumed_with(server, body["position"], query="slices=*&after=nonsense")
    assert both["type"] == "state.resumed"
    neither = await resumed_with(server, "nonsense", query=f"slices=*&after={body['position']}")
    assert neither["reason"] == "invalid"


async def test_the_start_of_the_history_is_a_cursor(server: Server) -> None:
    client = PlainClient(server.port, "slices=*").connect(cursor="0.0")
    client.read_until(lambda f: f.id.startswith("2."))
    assert client.versions == {"board": 1, "counter": 2}
    client.close()


@in_one_mode
async def test_a_trimmed_cursor_is_expired_and_the_floor_is_honoured(quick: Server, http: Http, tmp_path: Path) -> None:
    positions = [(await act(http, quick, "room/joined", {"name": "x"}, key="1"))["position"] for _ in range(60)]
    quick.stop()
    quick.start()
    reasons = [(await resumed_with(quick, position)).get("reason", "resumed") for position in positions]
    kept = reasons.index("resumed")
    assert 0 < kept <= 40
    assert set(reasons[:kept]) == {"expired"}
    assert set(reasons[kept:]) == {"resumed"}
    earliest = int(positions[kept].split(".")[0])  # checkpoints are made every ten changes
    assert earliest % 10 == 0, "the oldest honoured position is a checkpoint: the last trimmed change"


async def test_a_restart_is_resumed_without_a_snapshot(sqlite_server: Server, http: Http) -> None:
    client = PlainClient(sqlite_server.port).connect()
    await act(http, sqlite_server, "board/task_added", {"id": "1", "title": "a"})
    first(client)
    sqlite_server.kill()
    for _ in client.frames():
        pass  # what was on its way
    sqlite_server.start()
    await act(http, sqlite_server, "board/task_added", {"id": "2", "title": "b"})
    client.connect()
    truth = await get_state(http, sqlite_server.url)
    client.read_to(truth["position"])
    assert client.state == truth["slices"]
    assert client.reasons == ["start"]
    client.close()


@in_one_mode
async def test_a_memory_journal_that_restarts_is_another_history(server: Server, http: Http) -> None:
    client = PlainClient(server.port).connect()
    first(client)
    server.kill()
    server.start()
    client.connect()
    assert first(client).data["reason"] == "forked"
    client.close()


async def test_a_long_absence_is_one_catch_up(server: Server, http: Http) -> None:
    await act(http, server, "board/filled", {"size": 20_000})
    client = gone_away(PlainClient(server.port))
    await act(http, server, "room/joined", {"name": "x"}, key="gone")
    await act(http, server, "room/closed", key="gone")
    for n in range(100):
        await act(http, server, "board/task_added", {"id": str(n), "title": "t"})
        await act(http, server, "room/joined", {"name": str(n)}, key=str(n % 3))
    client.connect()
    truth = await get_state(http, server.url)
    frames = client.read_until(lambda f: f.event == "state.catchup")
    assert [f.event for f in frames] == ["state.resumed", "state.catchup"]
    assert client.state == truth["slices"]
    assert client.versions == truth["versions"]
    updates = {u["slice"]: u for u in frames[-1].data["updates"]}
    assert "patches" in updates["board"], "smaller than 20 kB of value"
    assert "value" in updates["room/0"], "the instance is new"
    assert "room/gone" not in updates
    client.close()


@in_one_mode
async def test_a_catch_up_that_costs_more_than_the_state_is_the_state(server: Server, http: Http) -> None:
    client = gone_away(PlainClient(server.port, "slices=counter"))
    for _ in range(100):
        await act(http, server, "counter/added", {"by": 1})
    client.connect()
    assert first(client).data["reason"] == "lagged"
    assert client.state == {"counter": 100}
    client.close()


@in_one_mode
async def test_of_what_was_replaced_again_and_again_only_the_last_comes(server: Server, http: Http) -> None:
    client = gone_away(PlainClient(server.port, "slices=board"))
    for n in range(100):
        await act(http, server, "board/filled", {"size": 3_000 + n})
    await act(http, server, "board/filled", {"size": 1})
    client.connect()
    truth = await get_state(http, server.url, "slices=board")
    client.read_to(truth["position"])
    assert client.state == truth["slices"]
    assert client.bytes < 5_000
    client.close()


@in_one_mode
async def test_a_restored_backup_is_another_history(sqlite_server: Server, http: Http, tmp_path: Path) -> None:
    server, journal = sqlite_server, tmp_path / "journal.db"
    await act(http, server, "board/counted")
    server.stop()
    shutil.copy(journal, tmp_path / "backup.db")
    server.start()
    newest = (await act(http, server, "board/counted"))["position"]
    server.stop()
    shutil.copy(tmp_path / "backup.db", journal)
    with pytest.raises(RuntimeError, match=r"acknowledged.* delete"):
        server.start()
    journal.with_name("journal.db-head").unlink()
    server.start()
    assert (await resumed_with(server, newest))["reason"] == "forked"
    await act(http, server, "board/counted", {"by": 7})
    frame = await resumed_with(server, newest)
    assert frame["reason"] == "forked", "the same number, another history"
    assert frame["slices"]["counter"] == 8


@in_one_mode
async def test_a_journal_that_is_away_ends_only_what_needs_it(tmp_path: Path, http: Http) -> None:
    flag = tmp_path / "flag"
    env = {"JOURNAL": str(tmp_path / "j.db"), "FLAG": str(flag), "PYTHONPATH": str(ROOT)}
    with Server.serving(f"{ROOT / 'tests/apps/flagged.py'}:app", env=env) as server:
        old = (await act(http, server, "board/counted"))["position"]
        server.stop()
        server.start()
        flag.touch()  # a cursor that is not in memory is judged by the journal
        with PlainClient(server.port) as fresh:
            assert first(fresh).data["reason"] == "start"
            await act(http, server, "board/counted")
            assert first(fresh).event == "state.update"
        came_back = PlainClient(server.port).connect(cursor="99.abc")
        [end] = list(came_back.frames())
        assert (end.data["reason"], end.data["retry"] > 0) == ("unavailable", True)
        flag.unlink()
        assert (await resumed_with(server, old))["type"] == "state.resumed"


async def fill(http: Http, server: Server, count: int) -> list[tuple[str, Any]]:
    """Positions and the whole state at each of them."""
    states = []
    for n in range(count):
        action = [("board/task_added", {"id": str(n), "title": "t" * 80}), ("room/joined", {"name": "x"})][n % 2]
        more = {"key": str(n % 3)} if n % 2 else {}
        body = await act(http, server, *action, **more)
        states.append((body["position"], (await get_state(http, server.url))["slices"]))
    return states


async def bulk(http: Http, server: Server, count: int) -> None:
    """More changes than a server that starts takes into memory."""
    for _ in range(count // 500):
        actions = [{"type": "room/joined", "payload": {"name": "x"}, "key": str(n % 5)} for n in range(500)]
        async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
            assert response.status == 200


async def test_a_cursor_that_is_no_longer_in_memory_is_read_from_the_journal(sqlite_server: Server, http: Http) -> None:
    server = sqlite_server
    await act(http, server, "board/filled", {"size": 90_000})  # the state costs more than catching up
    client = PlainClient(server.port).connect()
    first(client)
    await bulk(http, server, 2_500)
    server.kill()
    server.start()
    client.connect()
    truth = await get_state(http, server.url)
    assert client.read_until(lambda f: f.id == truth["position"])[0].event == "state.resumed"
    assert client.state == truth["slices"]
    assert client.reasons == ["start"]
    client.close()


@in_one_mode
async def test_from_the_earliest_every_change_comes_by_itself(sqlite_server: Server, http: Http) -> None:
    server = sqlite_server
    await bulk(http, server, 2_500)
    states = await fill(http, server, 150)
    server.stop()
    server.start()  # with the newest in memory only: the rest comes from the journal
    client = PlainClient(server.port, "slices=*&after=earliest").connect()
    start = first(client)
    assert (start.data["reason"], start.data["position"], start.data["slices"]) == ("start", "0.0", {})
    client.read_some(99_000)
    client.cut()
    client.connect()
    frames = client.read_until(lambda f: f.id == states[-1][0])
    assert frames[0].event == "state.resumed"
    assert {frame.event for frame in frames[1:]} == {"state.update"}
    assert [version for _, version in client.applied] == list(range(1, 2_653))
    assert client.state == states[-1][1]
    await act(http, server, "board/counted")
    client.read_until(lambda f: f.event == "state.update")
    client.close()


@in_one_mode
async def test_the_earliest_is_where_trimming_stopped(quick: Server, http: Http) -> None:
    states = dict(await fill(http, quick, 80))
    for _ in range(2):
        client = PlainClient(quick.port, "slices=*&after=earliest").connect()
        start = first(client)
        assert start.data["slices"] == states[start.data["position"]]
        client.read_to(list(states)[-1])
        assert client.state == list(states.values())[-1]
        client.close()
        quick.stop()
        quick.start()


@in_one_mode
async def test_the_state_and_the_history_of_the_past(quick: Server, http: Http) -> None:
    states = dict(await fill(http, quick, 80))
    seen: list[int] = []
    for position, slices in reversed(states.items()):  # so that trimming in the meantime changes nothing
        async with http.get(f"{quick.url}/state?slices=*&at={position}") as response:
            body = await response.json(content_type=None)
            seen.append(response.status)
            assert body["slices"] == slices if response.status == 200 else body["code"] == "position_expired"
    assert seen == sorted(seen)
    assert seen.count(200) >= 20
    for at, status, code in [
        ("1.x", 410, "position_expired"),
        ("9999.x", 410, "position_forked"),
        ("x", 400, "malformed"),
    ]:
        for path in (f"/state?slices=*&at={at}", f"/history?slices=*&after={at}"):
            async with http.get(quick.url + path) as response:
                problem = await response.json(content_type=None)
                assert (response.status, problem["code"]) == (status, code)
    async with http.get(f"{quick.url}/history?slices=*&cause=full") as response:
        assert response.content_type == "application/x-ndjson"
        lines = [json.loads(line) for line in (await response.text()).splitlines()]
    versions = [line["version"] for line in lines]
    assert versions == list(range(versions[0], versions[0] + len(versions)))
    assert lines[-1]["position"] == list(states)[-1]
    assert lines[-1]["cause"]["payload"] == {"name": "x"}
    middle = lines[5]["position"]
    async with http.get(f"{quick.url}/history?slices=*&after={middle}&limit=3") as response:
        few = [json.loads(line)["version"] for line in (await response.text()).splitlines()]
    assert few == versions[6:9]
    async with http.get(f"{quick.url}/history?slices=board&limit=0") as response:
        assert await response.read() == b""
    async with http.get(f"{quick.url}/history?limit=-1") as response:
        assert response.status == 400


# slow readers, many readers, the end


async def test_a_reader_that_does_not_read_is_brought_up_exactly(server: Server, http: Http) -> None:
    slow = PlainClient(server.port).connect()
    quick = PlainClient(server.port).connect()
    first(slow)
    reading = asyncio.create_task(asyncio.to_thread(lambda: list(quick.frames())))
    for n in range(150):
        await act(http, server, "board/filled", {"size": 100_000 + n})
        await act(http, server, "room/joined", {"name": "x"}, key="1")
    truth = await get_state(http, server.url)
    await asyncio.to_thread(slow.read_to, truth["position"])
    assert slow.state == truth["slices"]
    assert slow.bytes < 15_000_000, "it was caught up, not sent 15 MB of old values"
    await eventually(lambda: quick.versions == truth["versions"])
    assert quick.state == truth["slices"]
    slow.close()
    server.stop()
    await reading


@in_one_mode
async def test_a_store_is_served_with_the_heartbeat_and_the_readers_of_the_command() -> None:
    few = Server("serve", BOARD, "--heartbeat", "0.2", "--max-subscribers", "1")
    with few as server, PlainClient(server.port) as client:
        assert first(client).data["heartbeat"] == 200
        assert first(client).event == "heartbeat"
        with PlainClient(server.port) as one_more:
            assert first(one_more).data["reason"] == "busy"


async def test_the_last_reader_that_fits_is_served_and_the_next_is_told_busy(quick: Server) -> None:
    clients = [PlainClient(quick.port).connect() for _ in range(3)]
    for client in clients:
        assert first(client).event == "state.initial"
    one_more = PlainClient(quick.port).connect()
    [end] = list(one_more.frames())
    assert (end.event, end.data["reason"], end.id) == ("stream.end", "busy", None)
    assert one_more.status == 200
    assert 0 < end.data["retry"] <= 10_000
    clients[0].cut()

    def served() -> bool:
        with PlainClient(quick.port) as again:
            return first(again).event == "state.initial"

    await eventually(served)
    for client in clients:
        client.close()


async def test_a_shutdown_is_said_to_everyone(server: Server) -> None:
    clients = [PlainClient(server.port).connect() for _ in range(20)]
    for client in clients:
        first(client)
    began = time.monotonic()
    assert server.stop() == ""
    for client in clients:
        *_, end = client.frames()
        assert (end.event, end.data["reason"]) == ("stream.end", "shutdown")
    assert time.monotonic() - began < 10  # a bound on a hang: a default aiohttp shutdown takes two minutes


async def test_chunked_streams_end_cleanly(server: Server, http: Http) -> None:
    async with http.get(f"{server.url}/stream/state") as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert b"state.initial" in await response.content.readuntil(b"\n\n")
        ending = asyncio.create_task(asyncio.to_thread(server.stop))
        rest = await response.content.read()
        await ending
        assert rest.count(b"event: stream.end") == 1


@in_one_mode
async def test_too_much_for_one_snapshot_is_refused(server: Server, http: Http) -> None:
    for start in range(0, 1000, 100):
        actions = [{"type": "room/joined", "payload": {"name": "x"}, "key": str(start + n)} for n in range(100)]
        async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
            assert response.status == 200
    for path in ("/stream/state?slices=*", "/state?slices=*"):
        async with http.get(server.url + path) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (413, "too_large")
    async with http.get(f"{server.url}/stream/state?slices=room/*") as response:
        assert response.status == 200
    late = PlainClient(server.port).connect(cursor="7.foreign")
    [end] = list(late.frames())
    assert end.data == {"type": "stream.end", "reason": "too_large"}


async def test_readers_that_leave_are_forgotten(server: Server) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))

    with PlainClient(server.port) as client:
        first(client)
    base = await eventually(descriptors)
    for turn in range(300):
        with PlainClient(server.port, "slices=room/*" if turn % 2 else "slices=*") as client:
            if turn % 3:
                first(client)
            if turn % 5 == 0:
                client.cut()
    await eventually(lambda: descriptors() <= base)


# the main proof


def cut_and_resume(server: Server, cuts: int, seed: int, done: threading.Event, query: str) -> PlainClient:
    """Reads a random number of bytes, is cut, comes back with its last id, again and again; then reads to the end."""
    chance = random.Random(seed)
    client = PlainClient(server.port, query)
    for _ in range(cuts):
        client.connect(timeout=1.0)
        [size] = chance.choices([1, 30, 200, 700, 3_000, 20_000], [6, 6, 6, 6, 6, 1])
        client.read_some(size + chance.randrange(200))
        client.cut()
        if done.is_set():
            break
    return client


@pytest.mark.long
@pytest.mark.chance
@pytest.mark.parametrize("query", ["slices=*", "slices=board,room/1,room/2"])
async def test_cut_anywhere_a_client_ends_with_the_servers_state(sqlite_server: Server, http: Http, query: str) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    done = threading.Event()
    server, cuts = sqlite_server, often(40)
    readers = [
        asyncio.create_task(asyncio.to_thread(cut_and_resume, server, cuts, seed + n, done, query)) for n in range(6)
    ]

    def step() -> tuple[str, Any, dict[str, str]]:
        key = str(chance.randrange(4))
        choices: list[tuple[str, Any, dict[str, str]]] = [
            ("board/task_added", {"id": key, "title": "t" * chance.randrange(60)}, {}),
            ("board/task_moved", {"at": chance.randrange(9), "to": chance.randrange(9)}, {}),
            ("board/counted", {}, {}),
            ("room/joined", {"name": "n"}, {"key": key}),
            ("room/closed", {}, {"key": key}),
            ("board/cleared", {}, {}),
        ]
        return chance.choices(choices, weights=[30, 20, 10, 30, 9, 1])[0]

    async def write() -> None:
        while not all(task.done() for task in readers):
            type, payload, more = step()
            await act(http, server, type, payload, **more)

    try:
        await asyncio.gather(write(), write())
    finally:
        done.set()
    clients = await asyncio.gather(*readers)
    truth = await get_state(http, server.url, query)
    for client in clients:
        client.connect()
        await asyncio.to_thread(client.read_to, truth["position"])
        assert client.state == truth["slices"], f"seed {seed}"
        assert client.versions == truth["versions"], f"seed {seed}"
        assert set(client.reasons) <= {"start", "lagged"}, client.reasons
        client.close()
    print(f"{sum(len(c.applied) for c in clients)} updates applied once each over {cuts * 6} cuts")


@pytest.mark.chance
async def test_readers_that_join_under_load_match(sqlite_server: Server, http: Http) -> None:
    server, stop = sqlite_server, asyncio.Event()

    async def write(n: int) -> None:
        while not stop.is_set():
            await act(http, server, "board/task_added", {"id": str(n), "title": "x"})
            await act(http, server, "room/joined", {"name": "x"}, key=str(n))

    writers = [asyncio.create_task(write(n)) for n in range(8)]
    clients = []
    for _ in range(min(often(50), 1_000)):
        client = PlainClient(server.port)
        await asyncio.to_thread(client.connect)
        clients.append(client)
    stop.set()
    await asyncio.gather(*writers)
    truth = await get_state(http, server.url)
    for client in clients:
        await asyncio.to_thread(client.read_to, truth["position"])
        assert client.state == truth["slices"]
        assert client.versions == truth["versions"]
        assert client.reasons == ["start"]
        client.close()


@in_one_mode
async def test_a_stream_goes_on_while_the_journal_is_locked(tmp_path: Path, http: Http) -> None:
    path = tmp_path / "j.db"
    env = {"JOURNAL": str(path), "HEARTBEAT": "0.4", "PYTHONPATH": str(ROOT)}
    with Server.serving(QUICK, env=env) as server, PlainClient(server.port) as client:
        first(client)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, body = await dispatch(http, server.url, "board/counted", id="again")
        assert (status, body["code"]) == (503, "unavailable")
        client.read_until(lambda f: f.event == "heartbeat")
        other.execute("ROLLBACK")
        other.close()
        after = await act(http, server, "board/counted", id="again")
        client.read_to(after["position"])
        assert client.state["counter"] == 1


@in_one_mode
@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="mounts a file system, which takes root on Linux"
)
async def test_a_full_disk_stops_writing_and_nothing_else(tmp_path: Path, http: Http) -> None:
    """The server's own name space has a small file system where its journal is."""
    script = f'mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec "$@"'
    env = {"JOURNAL": str(tmp_path / "j.db"), "HEARTBEAT": "0.4", "PYTHONPATH": str(ROOT)}
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    with Server.serving(QUICK, env=env, prefix=prefix) as server, PlainClient(server.port) as client:
        first(client)
        answers = []
        while not answers or answers[-1] == 200:
            body = {"type": "board/filled", "payload": {"size": 20_000 + len(answers)}}
            async with http.post(f"{server.url}/dispatch", json=body) as response:
                answers.append(response.status)
                retry_after = response.headers.get("Retry-After")
        assert (answers[-1], retry_after) == (503, "1")
        client.read_until(lambda f: f.event == "heartbeat")
        truth = await get_state(http, server.url)
        client.read_to(truth["position"])
        assert client.state == truth["slices"]
        assert len(truth["slices"]["board"]["filler"]) == 20_000 + len(answers) - 2, (
            "the last one that was acknowledged"
        )


async def test_half_a_request_holds_nobody_up(server: Server, http: Http) -> None:
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(
        b"POST /dispatch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    await act(http, server, "board/counted")
    half.close()
