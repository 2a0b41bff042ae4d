"""Subscribers in states that only timing brings about: forced here, in one process, on real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from statestream import Slice, Store, create_app
from statestream.broadcast import kept, sync_frames, synchronizer
from statestream.broadcast.budget import Budget
from statestream.broadcast.hub import Hub
from statestream.broadcast.sockets import Sockets
from statestream.broadcast.sync_frames import SyncFrames
from statestream.server.stream import HUB
from tests.support import eventually

Serve = Callable[..., Awaitable[tuple[Hub, int]]]


def large_store(size: int) -> Store:
    large, counter = Slice("large", initial={"text": "x" * size, "list": []}), Slice("counter", initial=0)

    @large.action
    def added(state: Any, *, text: str) -> None:
        state["list"].append(text)

    return Store([large, counter])


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves an application until the test ends, or until `runner.cleanup`; gives its hub and port."""
    runners: list[web.AppRunner] = []

    async def serving(app: web.Application) -> tuple[Hub, int]:
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return app[HUB], runner.addresses[0][1]

    serving.runners = runners  # type: ignore[attr-defined]
    yield serving
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def asking() -> Iterator[Callable[..., Awaitable[socket.socket]]]:
    made: list[socket.socket] = []

    async def ask(port: int, target: str = "/stream/state?slices=*") -> socket.socket:
        client = socket.socket()
        made.append(client)
        client.connect(("127.0.0.1", port))
        client.setblocking(False)
        request = f"GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(client, request.encode())
        return client

    yield ask
    for client in made:
        client.close()


@pytest.mark.parametrize("handoff", [True, False])
async def test_a_slow_reader_that_takes_something_is_brought_to_head(
    handoff: bool, serve: Serve, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes longer than a reader may be silent, and is never silent."""
    monkeypatch.setattr(synchronizer, "DRAIN_SECONDS", 0.5)
    hub, port = await serve(create_app(large_store(6_000_000), heartbeat=0.5, handoff=handoff))
    loop = asyncio.get_running_loop()
    client = await asking(port)
    await eventually(lambda: hub.behind == 1)
    for _ in range(9):
        await loop.sock_recv(client, 400_000)
        await asyncio.sleep(0.2)  # slow is what is tested
    tail = b""
    async with asyncio.timeout(60):
        while b"event: heartbeat\n" not in tail:
            data = await loop.sock_recv(client, 1 << 20)
            assert data, "it was disconnected"
            tail = (tail + data)[-2_000:]
    assert hub.counters.ended["unread"] == 0
    assert hub.behind == 0


@pytest.mark.parametrize("handoff", [True, False])
async def test_a_reader_that_takes_nothing_is_cut(
    handoff: bool, serve: Serve, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synchronizer, "DRAIN_SECONDS", 0.3)
    hub, port = await serve(create_app(large_store(12_000_000), handoff=handoff))
    await asking(port)
    await eventually(lambda: dict(hub.counters.ended) == {"unread": 1})
    assert hub.subscribers == 0


@pytest.mark.parametrize("handoff", [True, False])
async def test_the_end_is_said_once(handoff: bool, serve: Any, asking: Any) -> None:
    """To a reader whose last words still wait when everything is closed."""
    hub, port = await serve(create_app(large_store(6_000_000), handoff=handoff))
    client = await asking(port)
    await eventually(lambda: hub.behind == 1)
    [subscriber] = hub._subscribers
    hub._end(subscriber, "unavailable")
    await asyncio.sleep(0)
    closing = asyncio.create_task(serve.runners[0].cleanup())
    tail = b""
    while data := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
        tail = (tail + data)[-2_000:]
    await closing
    assert tail.count(b"event: stream.end") == 1
    assert dict(hub.counters.ended) == {"unavailable": 1}


async def test_readers_that_waited_for_the_journal_share_what_is_made_of_it(
    serve: Any, asking: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    large = Slice("large", initial={"text": "x" * 100_000, "list": []})

    @large.action
    def added(state: Any, *, text: str) -> None:
        state["list"].append(text)

    async with Store([large], journal=journal) as store:
        cursor = store.position
        for _ in range(3):
            await store.dispatch([added(text="y")] * 1_000)
    made: list[int] = []
    really = SyncFrames._continued
    monkeypatch.setattr(SyncFrames, "_continued", lambda self, *more: made.append(1) or really(self, *more))
    hub, port = await serve(create_app(Store([large], journal=journal)))
    for _ in range(50):
        await asking(port, f"/stream/state?after={cursor}")
    await eventually(lambda: hub.counters.began.total() == 50)
    assert len(made) == 1


async def test_what_is_kept_for_newcomers_is_bounded(serve: Any, asking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 8)
    monkeypatch.setattr(kept, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(sync_frames, "KEPT_SECONDS", 1e9)
    room = Slice("room", initial=0, keyed=True)
    hub, port = await serve(create_app(Store([Slice("huge", initial="x" * 2_000_000), room])))
    await asking(port, "/stream/state?slices=huge")
    for n in range(30):
        await asking(port, f"/stream/state?slices=room/{n}")
    await eventually(lambda: hub.counters.began.total() == 31)
    names = [key[0].selection.names for key in hub._synchronizer._frames._made._values]
    assert names == [frozenset({f"room/{n}"}) for n in range(22, 30)], "the newest, and not what is too large"


async def test_what_was_kept_for_newcomers_is_forgotten_if_none_comes(
    serve: Any, asking: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_frames, "KEPT_SECONDS", 0.05)
    hub, port = await serve(create_app(large_store(200_000)))
    await asking(port)
    await eventually(lambda: hub.counters.began.total() == 1)
    await eventually(lambda: not hub._synchronizer._frames._made)


@pytest.mark.parametrize("handoff", [True, False])
async def test_a_hub_may_be_cancelled_in_every_state(
    handoff: bool, serve: Any, asking: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub, port = await serve(create_app(large_store(6_000_000), heartbeat=0.2, handoff=handoff))
    for n in range(20):
        await asking(port, "/stream/state?slices=" + ("large", "counter")[n % 2])
    await eventually(lambda: hub.subscribers == 20 and hub.behind >= 10)
    await serve.runners[0].app.cleanup()
    gc.collect()
    assert len(hub.sockets) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are handed off on Linux")
async def test_a_child_may_fork_again(capfd: pytest.CaptureFixture[str]) -> None:
    sockets = Sockets(lambda owner: None, Budget())
    sockets.open()
    child = os.fork()
    if not child:
        grandchild = os.fork()
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)
    os.waitpid(child, 0)
    sockets.close()
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="sockets are handed off on Linux")
async def test_those_who_left_leave_no_cycle_behind(serve: Any, asking: Any) -> None:
    hub, port = await serve(create_app(large_store(10)))
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            client = await asking(port)
            await eventually(lambda: hub.subscribers == 1)
            [sink] = hub.sockets._sinks.values()
            client.close()
            await eventually(lambda: hub.subscribers == 0)
            assert sink.owner is None
    finally:
        gc.enable()
