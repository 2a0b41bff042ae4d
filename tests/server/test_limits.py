"""The limits for one client: every answer here comes from a real server that continues to serve others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state

Http = aiohttp.ClientSession
MIB = 1 << 20


@pytest.fixture(scope="module")
def crowded() -> Iterator[Server]:
    with Server.serving(f"{ROOT / 'tests/apps/crowded.py'}:app", env={"CROWDED_INSTANCES": "1200"}) as server:
        yield server


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("application/json", 200),
        ("Application/JSON ; Charset=UTF8", 200),
        ('application/json; charset="utf-8"; profile="a=b"', 200),
        ("application/json; x=" + '"' * 7_000, 200),
        ("application/json" + " " * 7_000 + "; x", 200),
        ("application/json" + ";" * 7_000, 200),
        ("application/json; charset*=utf-16''utf-8", 415),
        ("application/json; charset*0=utf-16", 415),
        ("application/json; charset=utf-7", 415),
        ("application/jsonp", 415),
        ("text/plain", 415),
        ("", 415),
    ],
)
async def test_a_media_type_is_read_in_one_pass(header: str, status: int, server: Server, http: Http) -> None:
    body = json.dumps({"type": "board/counted", "payload": {"by": 0}}).encode()
    async with http.post(f"{server.url}/dispatch", data=body, headers={"Content-Type": header}) as response:
        assert response.status == status, await response.text()


@pytest.mark.parametrize(
    ("header", "status"),
    [("{}", 304), ('W/{}, "other"', 304), ('"other",{}', 304), ("*", 304), ('"other"', 200), ("W/" * 4_000, 200)],
)
async def test_an_etag_is_compared(header: str, status: int, server: Server, http: Http) -> None:
    async with http.get(f"{server.url}/state") as response:
        etag = response.headers["ETag"].removeprefix("W/")
    async with http.get(f"{server.url}/state", headers={"If-None-Match": header.format(etag)}) as response:
        assert response.status == status


async def test_a_body_of_too_many_values_is_refused(server: Server, http: Http) -> None:
    body = b'{"type":"board/counted","payload":{"by":[' + b"[]," * 300_000 + b"0]}}"
    async with http.post(f"{server.url}/dispatch", data=body, headers={"Content-Type": "application/json"}) as response:
        assert response.status == 400
        assert "more than 50,000 values" in (await response.json())["detail"]


async def test_a_large_state_is_the_same_in_portions(crowded: Server, http: Http) -> None:
    body = await get_state(http, crowded.url, "slices=big,tick,many/1")
    assert body["slices"]["big"]["text"] == ["x" * (1 << 16)] * 230
    assert body["versions"].keys() == body["slices"].keys() == {"big", "tick", "many/1"}
    assert (await get_state(http, crowded.url, "slices=presence/*"))["slices"] == {}


def unread(server: Server, path: str) -> socket.socket:
    """A connection that has asked for something and read one byte of the answer."""
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.settimeout(20)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert connection.recv(1)
    return connection


@pytest.mark.parametrize("path", ["/state?slices=big", "/stream/state?slices=big"])
async def test_what_nobody_reads_is_bounded_and_given_back(path: str, crowded: Server, http: Http) -> None:
    """Fifty clients request a new version of 15 MB each: without a limit they would hold 750 MB."""
    before = crowded.resident()
    clients = []
    for _ in range(50):
        clients.append(await asyncio.to_thread(unread, crowded, path))
        assert (await dispatch(http, crowded.url, "big/renewed"))[0] == 200
    assert crowded.resident() - before < 450 * MIB
    for client in clients:
        client.close()
    await eventually(lambda: crowded.resident() - before < 150 * MIB, seconds=60)
    assert len((await get_state(http, crowded.url, "slices=big"))["slices"]["big"]["text"]) == 230


@pytest.mark.slow
async def test_large_changes_leave_nothing_but_history(http: Http) -> None:
    """For a thousand readers who take nothing. Of 54 MB of changes, `memory:` keeps all, and the readers keep none."""
    with Server.serving(f"{ROOT / 'tests/apps/crowded.py'}:app", env={"CROWDED_INSTANCES": "1200"}) as server:
        before = server.resident()
        clients = [unread(server, "/stream/state?slices=rows") for _ in range(1_000)]
        for begin in range(0, 60, 4):
            texts = (chr(ord("a") + number % 26) * 900_000 for number in range(begin, begin + 4))
            sending = (dispatch(http, server.url, "rows/annotated", {"text": text}) for text in texts)
            assert [status for status, _ in await asyncio.gather(*sending)] == [200] * 4
        for client in clients:
            client.close()
        await eventually(lambda: server.resident() - before < 130 * MIB, seconds=60)


async def test_large_changes_reach_everybody_in_order_also_those_who_come_in_between(
    crowded: Server, http: Http
) -> None:
    """A megabyte for forty is written in portions. The plain client fails if a change is missing or comes twice."""
    clients = [PlainClient(crowded.port, "slices=rows,tick").connect() for _ in range(24)]
    for round_ in range(3):
        sending = [
            dispatch(http, crowded.url, "rows/annotated", {"text": str(round_) * 900_000}),
            dispatch(http, crowded.url, "tick/ticked", {"at": float(round_)}),
        ]
        late = asyncio.to_thread(PlainClient(crowded.port, "slices=rows,tick").connect)
        *answers, client = await asyncio.gather(*sending, late)
        clients.append(client)
        position = max((answer["position"] for _, answer in answers), key=lambda text: int(text.split(".")[0]))
        for client in clients:
            await asyncio.to_thread(client.read_to, position)
    state = await get_state(http, crowded.url, "slices=rows,tick")
    for client in clients:
        assert (client.state, client.reasons) == (state["slices"], ["start"])
        client.close()


async def test_a_handler_that_writes_too_often_is_stopped_and_changes_nothing(crowded: Server, http: Http) -> None:
    before = await get_state(http, crowded.url, "slices=rows")
    status, answer = await dispatch(http, crowded.url, "rows/shuffled", {"seed": 1})
    assert (status, answer["code"]) == (413, "too_large")
    assert answer["detail"].startswith(
        "the handler of rows for rows/shuffled does too much: it changes more than 15,000 "
    )
    assert await get_state(http, crowded.url, "slices=rows") == before
    assert (await dispatch(http, crowded.url, "rows/annotated", {"text": "after"}))[0] == 200


async def test_readers_who_are_owed_too_much_receive_what_they_missed_at_once(crowded: Server, http: Http) -> None:
    """Twelve megabytes for everybody, faster than they are written. No reader misses anything or gets it twice."""
    clients = [PlainClient(crowded.port, "slices=rows,tick").connect() for _ in range(12)]
    sending = [
        dispatch(http, crowded.url, "rows/annotated", {"text": chr(ord("a") + number) * 900_000})
        for number in range(14)
    ]
    answers = await asyncio.gather(*sending)
    position = max((answer["position"] for _, answer in answers), key=lambda text: int(text.split(".")[0]))
    for client in clients:
        await asyncio.to_thread(client.read_to, position)
    state = await get_state(http, crowded.url, "slices=rows,tick")
    for client in clients:
        assert client.state == state["slices"]
        assert set(client.reasons) <= {"start", "lagged"}
        client.close()


async def test_more_instances_than_a_snapshot_holds_can_be_resumed(crowded: Server, http: Http) -> None:
    halves = [",".join(f"many/{n}" for n in range(begin, begin + 600)) for begin in (0, 600)]
    states = [await get_state(http, crowded.url, f"slices={names}") for names in halves]
    clients = [PlainClient(crowded.port, f"slices=many/*,room/{n}") for n in range(20)]
    for client in clients:
        client.versions = states[0]["versions"] | states[1]["versions"]
        client.dial()
        client.ask(states[0]["position"])
    for client in clients:  # each fails unless it is sent the versions that it holds
        await asyncio.to_thread(client.answered)
        [resumed] = await asyncio.to_thread(client.read_until, lambda frame: frame.event == "state.resumed")
        assert len(resumed.data["versions"]) == 1_200
        client.close()
