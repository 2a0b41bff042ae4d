"""Limits of one identity or address: as much as is allowed, one more is refused, and later it is allowed again."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support import MODES, ROOT, PlainClient, Server, eventually

Http = aiohttp.ClientSession
APP = f"{ROOT / 'tests/apps/limited.py'}:app"


FORBIDDEN = {"type": "file", "mediaType": "text/html", "url": "data:text/html,x"}


def limited(mode: str = MODES[0], journal: str = "memory:", **limits: float | None) -> Server:
    server = Server("serve", APP, env={"LIMITS": json.dumps(limits), "JOURNAL": journal})
    server.mode = mode
    return server


def bearer(subject: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {subject}"}


async def counted(http: Http, server: Server, limit: str) -> float:
    return await server.metric(http, f'limited_total{{limit="{limit}"}}')


async def refusal(response: aiohttp.ClientResponse, code: str) -> int:
    """Checks that a request was refused by a limit. Returns the seconds after which to try again."""
    assert response.status == 429, await response.text()
    assert (await response.json(content_type=None))["code"] == code
    return int(response.headers["Retry-After"])


async def dispatched(http: Http, server: Server, subject: str, body: Any) -> aiohttp.ClientResponse:
    async with http.post(f"{server.url}/dispatch", json=body, headers=bearer(subject)) as response:
        await response.read()
        return response


@pytest.fixture(params=MODES[:2])
def two_streams(request: pytest.FixtureRequest) -> Iterator[Server]:
    with limited(request.param, streams_per_identity=2) as server:
        yield server


async def test_an_identity_has_so_many_streams(two_streams: Server, http: Http) -> None:
    server = two_streams
    clients = [PlainClient(server.port, token="ann").connect() for _ in range(2)]
    with PlainClient(server.port, token="ann") as third:
        assert third.status == 429
        assert "\r\nretry-after: 5\r\n" in third.head.lower() + "\r\n"
    async with http.get(f"{server.url}/stream/state", headers=bearer("ann")) as response:
        assert await refusal(response, "too_many_streams") == 5
    assert await counted(http, server, "streams_per_identity") == 2
    assert await server.metric(http, "streams_of_identities") == 2
    with PlainClient(server.port, token="bob") as other, PlainClient(server.port) as nobody:
        assert (other.status, nobody.status) == (200, 200)
    assert (await dispatched(http, server, "ann", {"type": "board/counted", "payload": {}})).status == 200
    clients[0].close()

    async def room() -> bool:
        return await server.metric(http, "streams_of_identities") == 1

    await eventually(room)
    with PlainClient(server.port, token="ann") as again:
        assert again.status == 200
    clients[1].close()

    async def nothing() -> bool:
        return await server.metric(http, "streams_of_identities") == 0

    await eventually(nothing)


@asynccontextmanager
async def held(http: Http, server: Server, kind: str) -> AsyncIterator[Any]:
    """Something of a kind that one identity holds open."""
    if kind == "stream":
        async with http.get(f"{server.url}/stream/state", headers=bearer("ann")) as response:
            yield response
    elif kind == "follow":
        body = {"threadId": "t", "runId": "r", "messages": [], "tools": [], "context": [], "state": {}}
        body["forwardedProps"] = {}
        async with http.post(f"{server.url}/ag-ui?follow=1", json=body, headers=bearer("ann")) as response:
            yield response
    else:
        async with http.ws_connect(f"{server.url}/{kind}", headers=bearer("ann")) as socket:
            yield socket


async def test_streams_and_sockets_of_chats_count_too(two_streams: Server, http: Http) -> None:
    kinds = ("stream", "ws", "api/chat", "follow")
    for first, second in zip(kinds, kinds[1:] + kinds[:1], strict=True):
        async with AsyncExitStack() as open_:
            for kind in (first, second):
                await open_.enter_async_context(held(http, two_streams, kind))
            for path in ("stream/state", "ws", "api/chat"):
                upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
                headers = bearer("ann") | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} | upgrade
                async with http.get(f"{two_streams.url}/{path}", headers=headers) as response:
                    await refusal(response, "too_many_streams")

        async def nothing() -> bool:
            return await two_streams.metric(http, "streams_of_identities") == 0

        await eventually(nothing)


@pytest.mark.parametrize("mode", MODES[:2])
async def test_an_address_has_so_many_streams_whoever_opens_them(mode: str, http: Http) -> None:
    with limited(mode, streams_per_address=3) as server:
        clients = [PlainClient(server.port, token=name) for name in ("ann", "bob")] + [PlainClient(server.port)]
        for client in clients:
            client.connect()
        for name in ("cora", None):
            with PlainClient(server.port, token=name) as fourth:
                assert fourth.status == 429
        assert await counted(http, server, "streams_per_address") == 2
        for client in clients[1:]:  # one of an identity, one of nobody
            client.close()

        async def room() -> bool:
            with PlainClient(server.port) as one, PlainClient(server.port, token="ann") as two:
                return (one.status, two.status) == (200, 200)

        await eventually(room)
        clients[0].close()


async def test_streams_that_are_refused_at_once_are_given_back(http: Http) -> None:
    with limited(streams_per_identity=1) as server:
        for query in ("slices=nothing", "slices=*&after=bad", "cause=bad"):
            with PlainClient(server.port, query, token="ann") as client:
                assert client.status in (200, 400, 404)
        assert (await dispatched(http, server, "ann", {"type": "board/counted", "payload": {}})).status == 200

        async def nothing() -> bool:
            return await server.metric(http, "streams_of_identities") == 0

        await eventually(nothing)


async def test_an_identity_dispatches_so_many_actions(http: Http) -> None:
    with limited(dispatches_per_second=1, dispatch_burst=5) as server:
        one = {"type": "board/counted", "payload": {}}
        answers = [await dispatched(http, server, "ann", one) for _ in range(2)]
        answers.append(await dispatched(http, server, "ann", {"actions": [one, one, one]}))
        assert [answer.status for answer in answers] == [200, 200, 200]
        refused = await dispatched(http, server, "ann", one)
        assert await refusal(refused, "rate_limited") == 1
        assert await counted(http, server, "dispatches") == 1
        assert (await dispatched(http, server, "bob", one)).status == 200

        async def again() -> bool:
            return (await dispatched(http, server, "ann", one)).status == 200

        await eventually(again)


async def test_tickets_count_as_dispatches(http: Http) -> None:
    """Each is two changes of the journal."""
    with limited(dispatches_per_second=0.01, dispatch_burst=3) as server:
        for _ in range(3):
            async with http.post(f"{server.url}/tickets", headers=bearer("ann")) as response:
                assert response.status == 204
        async with http.post(f"{server.url}/tickets", headers=bearer("ann")) as response:
            assert await refusal(response, "rate_limited") > 50
            assert "Set-Cookie" not in response.headers
        async with http.post(f"{server.url}/tickets", headers=bearer("bob")) as response:
            assert response.status == 204
        assert await counted(http, server, "dispatches") == 1


async def test_a_request_of_many_actions_is_paid_for_afterwards(http: Http) -> None:
    with limited(dispatches_per_second=10, dispatch_burst=10) as server:
        one = {"type": "board/counted", "payload": {}}
        assert (await dispatched(http, server, "ann", {"actions": [one] * 500})).status == 200
        refused = await dispatched(http, server, "ann", one)
        assert 45 <= await refusal(refused, "rate_limited") <= 50


async def test_refusals_of_other_limits_are_counted(http: Http) -> None:
    with limited() as server:
        answer = await dispatched(http, server, "ann", {"type": "board/counted", "payload": {"x": "x" * 100_000}})
        assert answer.status == 413
        assert await counted(http, server, "body") == 1


async def test_a_head_that_does_not_arrive_and_an_idle_connection_are_ended(http: Http) -> None:
    server = limited()
    server.env["SERVE"] = json.dumps({"KEEPALIVE_SECONDS": 0.5})
    with server:
        with socket.create_connection(("127.0.0.1", server.port)) as late:
            late.settimeout(20)
            late.sendall(b"GET /state HTTP/1.1\r\nHost: ")
            answer = b"".join(iter(lambda: late.recv(1 << 16), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"Connection: close" in head
        assert json.loads(body)["code"] == "request_timeout"
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            idle.settimeout(20)
            idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b"".join(iter(lambda: idle.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert [await counted(http, server, limit) for limit in ("head_time", "idle")] == [1, 1]


async def test_the_streams_of_a_process_are_counted_when_it_is_full(http: Http) -> None:
    server = limited()
    server.env["MAX_SUBSCRIBERS"] = "2"
    with server:
        clients = [PlainClient(server.port, token=name).connect() for name in ("ann", "bob")]
        with PlainClient(server.port, token="cora") as third:
            [end] = third.read_until(lambda frame: frame.event == "stream.end")
            assert (end.data["reason"], end.data["retry"] > 0) == ("busy", True)
        assert await counted(http, server, "streams") == 1
        assert await server.metric(http, "streams_of_identities") == 2
        for client in clients:
            client.close()

        async def room() -> bool:
            with PlainClient(server.port, token="cora") as again:
                return next(again.frames()).event == "state.initial"

        await eventually(room)


async def test_without_limits_nothing_is_refused(http: Http) -> None:
    with limited(streams_per_identity=None, dispatches_per_second=None) as server:
        clients = [PlainClient(server.port, token="ann").connect() for _ in range(110)]
        one = {"type": "board/counted", "payload": {}}
        answers = await asyncio.gather(*(dispatched(http, server, "ann", {"actions": [one] * 300}) for _ in range(3)))
        assert {client.status for client in clients} == {answer.status for answer in answers} == {200}
        for client in clients:
            client.close()


async def test_an_identity_creates_so_many_instances(http: Http) -> None:
    with limited(instances_per_hour=5) as server:

        def entering(*keys: str) -> Any:
            return {"actions": [{"type": "room/entered", "payload": {}, "key": key} for key in keys]}

        answers = [await dispatched(http, server, "ann", entering("a", "b", "a"))]
        answers.append(await dispatched(http, server, "ann", entering("a", "b")))  # creates nothing
        answers += await asyncio.gather(*(dispatched(http, server, "ann", entering(key)) for key in "cdefg"))
        refused = [answer for answer in answers if answer.status != 200]
        assert len(refused) == 2
        assert 700 < int(refused[0].headers["Retry-After"]) <= 720
        assert await counted(http, server, "instances") == 2
        for subject, keys in (("ann", "a"), ("bob", "xyz")):
            assert (await dispatched(http, server, subject, entering(*keys))).status == 200
        async with http.get(f"{server.url}/state?slices=room/*", headers=bearer("ann")) as response:
            assert len((await response.json())["slices"]) == 8  # what was refused has left nothing


async def test_empty_chats_count_as_instances(http: Http) -> None:
    with limited(instances_per_hour=4) as server:
        answers = []
        for _ in range(6):
            async with http.post(f"{server.url}/api/chats", headers=bearer("ann")) as response:
                answers.append((response.status, response.headers.get("Retry-After")))
        assert answers[0] == (201, None)
        assert answers[-1][0] == 429
        assert int(answers[-1][1] or 0) > 60
        body = {"type": "room/entered", "payload": {}, "key": "a"}
        assert await refusal(await dispatched(http, server, "ann", body), "rate_limited") > 60
        async with http.post(f"{server.url}/api/chats", headers=bearer("bob")) as response:
            assert response.status == 201


@pytest.mark.parametrize("mode", MODES[:2])
async def test_a_stream_ends_when_it_is_old_and_resumes(mode: str, http: Http) -> None:
    with limited(mode, stream_seconds=0.5) as server, PlainClient(server.port, token="ann") as ann:
        frames = ann.read_until(lambda frame: frame.event == "stream.end")
        assert frames[-1].data["reason"] == "aged"
        assert frames[-1].data["retry"] > 0
        ann.connect()
        [resumed] = ann.read_until(lambda frame: frame.event == "state.resumed")
        assert resumed.event == "state.resumed"
        assert await server.metric(http, 'streams_ended_total{reason="aged"}') == 1


async def asked(http: Http, server: Server, subject: str, number: int) -> aiohttp.ClientResponse:
    """Asks in a chat of its own, and waits for the reply."""
    body = {"id": f"{subject}{number}", "messages": [{"role": "user", "content": "well?"}]}
    async with http.post(f"{server.url}/api/chat", json=body, headers=bearer(subject)) as response:
        await response.read()
        return response


async def test_an_identity_has_so_many_replies_in_a_day(http: Http) -> None:
    with limited(runs_per_day=3) as server:
        assert [(await asked(http, server, "ann", number)).status for number in range(3)] == [200] * 3
        refused = await asked(http, server, "ann", 3)
        assert refused.status == 429
        assert 28_000 < int(refused.headers["Retry-After"]) <= 28_800
        assert await refused.text() == "You have used all the replies that you may have in a day. Try again in 8 hours."
        assert (await asked(http, server, "bob", 0)).status == 200
        assert await counted(http, server, "runs") == 1


async def test_what_begins_no_reply_does_not_count(http: Http) -> None:
    with limited(runs_per_day=2) as server:
        bodies = [{"id": "a", "messages": [{"id": "q", "role": "user", "content": "well?"}]}] * 3  # a repeat
        bodies.append({"id": "b", "messages": [{"role": "user", "parts": [FORBIDDEN]}]})
        bodies.append({"id": "c", "messages": [{"role": "user", "content": "well?"}]})
        statuses = []
        for body in bodies:
            async with http.post(f"{server.url}/api/chat", json=body, headers=bearer("ann")) as response:
                await response.read()
                statuses.append(response.status)
        assert statuses == [200, 200, 200, 409, 200]
        assert (await asked(http, server, "ann", 3)).status == 429


async def test_questions_at_the_same_time_count_too(http: Http) -> None:
    with limited(runs_per_day=3) as server:
        answers = await asyncio.gather(*(asked(http, server, "ann", number) for number in range(8)))
        assert sorted(answer.status for answer in answers) == [200] * 3 + [429] * 5


async def test_every_protocol_says_so_in_its_own_form(http: Http) -> None:
    sentence = "You have used all the replies that you may have in a day. Try again in 24 hours."
    with limited(runs_per_day=1) as server:
        assert (await asked(http, server, "ann", 0)).status == 200
        message = {"type": "message", "content": "well?", "session_id": "c"}
        async with http.ws_connect(f"{server.url}/ws", headers=bearer("ann")) as socket:
            await socket.send_json(message)
            refused = json.dumps([await socket.receive_json(timeout=60) for _ in range(3)])
            assert sentence in refused
            assert "rate_limited" in refused
        async with http.ws_connect(f"{server.url}/api/chat", headers=bearer("ann")) as socket:
            posted = {"id": "d", "messages": [{"role": "user", "content": "well?"}]}
            await socket.send_json({"type": "send", "requestId": "1", **posted})
            assert sentence in json.dumps(await socket.receive_json(timeout=60))
        body = {"threadId": "t", "runId": "r", "tools": [], "context": [], "state": {}, "forwardedProps": {}}
        body["messages"] = [{"id": "1", "role": "user", "content": "well?"}]
        async with http.post(f"{server.url}/ag-ui", json=body, headers=bearer("ann")) as response:
            assert sentence in (text := await response.text())
            assert "rate_limited" in text
        posted = {"messages": [{"role": "user", "content": "and?"}]}
        async with http.post(f"{server.url}/api/chats/ann0/stream", json=posted, headers=bearer("ann")) as response:
            assert await refusal(response, "rate_limited") > 80_000
        assert await counted(http, server, "runs") == 4


async def test_an_identity_uses_so_many_tokens_in_a_day(http: Http) -> None:
    with limited(tokens_per_day=20) as server:
        assert [(await asked(http, server, "ann", number)).status for number in range(2)] == [200] * 2
        refused = await asked(http, server, "ann", 2)
        assert (refused.status, await counted(http, server, "tokens")) == (429, 1)
        assert "tokens" in await refused.text()


async def test_an_identity_has_replies_of_such_a_cost_in_a_day(http: Http) -> None:
    with limited(cost_per_day=0.2) as server:
        assert [(await asked(http, server, "ann", number)).status for number in range(2)] == [200] * 2
        refused = await asked(http, server, "ann", 2)
        assert (refused.status, await counted(http, server, "cost")) == (429, 1)
        assert "have cost as much" in await refused.text()
