"""Limits of one identity or address: as much as is allowed, one more is refused, and later it is allowed again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support import MODES, ROOT, PlainClient, Server, eventually

Http = aiohttp.ClientSession
APP = f"{ROOT / 'tests/apps/limited.py'}:app"


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
        assert "\r\nRetry-After: 5\r\n" in third.head + "\r\n"
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


async def test_without_limits_nothing_is_refused(http: Http) -> None:
    with limited(streams_per_identity=None, dispatches_per_second=None) as server:
        clients = [PlainClient(server.port, token="ann").connect() for _ in range(110)]
        one = {"type": "board/counted", "payload": {}}
        answers = await asyncio.gather(*(dispatched(http, server, "ann", {"actions": [one] * 300}) for _ in range(3)))
        assert {client.status for client in clients} == {answer.status for answer in answers} == {200}
        for client in clients:
            client.close()
