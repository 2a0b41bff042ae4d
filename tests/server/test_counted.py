"""Requests, streams and replies are counted once, by how they ended; and calls that block the server are logged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support import PlainClient, Server, dispatch, eventually

Http = aiohttp.ClientSession
APP = """
import time
from typing import Any
from statestream import Slice, Store, create_app

shop = Slice("shop", initial={"orders": 0})

@shop.action
def ordered(state: Any, *, seconds: float = 0.0) -> None:
    time.sleep(seconds)
    state["orders"] += 1

@shop.action
def broken(state: Any) -> None:
    raise LookupError("secret payload")

def slow_listener(change: Any) -> None:
    time.sleep(0.3 if change.cause.type == "shop/ordered" and b'"seconds":0.3' in change.cause.payload else 0)

store = Store([shop])
store.on_change(slow_listener)
app = create_app(store, max_subscribers=2)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(APP)
    with Server("serve", f"{tmp_path / 'app.py'}:app") as server:
        yield server


async def counted(http: Http, server: Server, name: str) -> dict[str, int]:
    """The values of a metric by those of its label, without those at 0."""
    async with http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    pairs = re.findall(rf'^statestream_{name}_total\{{\w+="(\w+)"\}} (\d+)', text, re.MULTILINE)
    return {label: int(value) for label, value in pairs if value != "0"}


async def test_every_request_is_counted_once_by_how_it_ended(shop: Server, http: Http) -> None:
    await dispatch(http, shop.url, "shop/ordered")
    await dispatch(http, shop.url, "shop/ordered", {"much": 1})
    await dispatch(http, shop.url, "shop/ordred")
    await dispatch(http, shop.url, "shop/broken")
    for path in ("state", "state?slice=shop", "state?slices=shp", "stat", "dispatch", "history"):
        async with http.get(f"{shop.url}/{path}"):
            pass
    found = await counted(http, shop, "requests")
    assert found == {
        "ok": 3,
        "invalid_payload": 1,
        "unknown_action": 1,
        "handler_failed": 1,
        "malformed": 1,
        "unknown_slice": 1,
        "not_found": 1,
        "method_not_allowed": 1,
    }


async def test_every_stream_is_counted_once_by_how_it_ended(each_mode: str, shop: Server, http: Http) -> None:
    with PlainClient(shop.port) as first, PlainClient(shop.port) as second, PlainClient(shop.port) as third:
        for client in (first, second):
            client.read_until(lambda _, client=client: client.state)
        third.read_until(lambda _: True)
        await eventually(lambda: is_counted(http, shop, {"busy": 1}))
        second.close()
        await eventually(lambda: is_counted(http, shop, {"busy": 1, "left": 1}))
        assert await shop.metric(http, "subscribers") == 1
    await eventually(lambda: is_counted(http, shop, {"busy": 1, "left": 2}))


async def is_counted(http: Http, server: Server, wanted: dict[str, int]) -> bool:
    return await counted(http, server, "streams_ended") == wanted


async def test_a_slow_handler_and_a_slow_listener_are_named_and_counted(shop: Server, http: Http) -> None:
    assert (await dispatch(http, shop.url, "shop/ordered", {"seconds": 0.3}))[0] == 200
    found = await counted(http, shop, "slow_calls")
    assert set(found) == {"handler", "listener"}
    errors = shop.stop(slow_calls=True)
    assert re.search(r"the handler of shop for shop/ordered took [\d.]+ s, in which the server did", errors)
    assert re.search(r"the listener app\.slow_listener took [\d.]+ s", errors)
