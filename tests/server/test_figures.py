"""Histograms and gauges of a real server: each part of the way of a change is measured once."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import aiohttp
import pytest

from statestream.core.histogram import Histogram
from tests.support import PlainClient, Server, dispatch, eventually

Http = aiohttp.ClientSession
CHAT = """
from statestream import Store, create_app
from statestream.chat import Chat, Timeouts
from statestream.chat.models import Finish, ModelFailed, Usage

class Model:
    name = "counted"

    async def answer(self, turns, tools, settings):
        if "fail" in turns[-1].text:
            raise ModelFailed("rate_limit", "Wait.")
        for piece in ("a", "b", "c"):
            yield piece
        yield Usage(input=10, output=3)
        yield Finish(reason="stop")

    async def close(self):
        pass

chat = Chat(model=Model(), titles=False)
app = create_app(Store([*chat.slices]))
chat.setup(app)
"""


async def test_each_step_of_a_change_is_measured(sqlite_server: Server, http: Http) -> None:
    server = sqlite_server
    with PlainClient(server.port) as first, PlainClient(server.port) as second:
        for client in (first, second):
            client.read_until(lambda _, client=client: client.state)
        for number in range(5):
            await dispatch(http, server.url, "board/task_added", {"id": str(number), "title": "t"})
        await dispatch(http, server.url, "board/task_added", {"id": "0", "title": "t", "no": 1})  # reaches no handler
        for client in (first, second):
            client.read_until(lambda _, client=client: len(client.state["board"]["tasks"]) == 5)
        counts = [await server.metric(http, f"{name}_seconds_count") for name in ("handler", "journal_append")]
        assert counts == [5, 5]
        assert await server.metric(http, "dispatch_seconds_count") == 6, "a refusal is an answer, too"
        assert await server.metric(http, "commit_to_socket_seconds_count") == 5, "once, not for each reader"
        assert 0 < await server.metric(http, "commit_to_socket_seconds_sum") < 5
        assert await server.metric(http, "follow_seconds_count") == 0, "nobody else writes"
        assert await server.metric(http, "journal_ahead") == 0


async def test_the_buckets_of_a_histogram_add_up(server: Server, http: Http) -> None:
    await dispatch(http, server.url, "board/task_added", {"id": "1", "title": "t"})
    async with http.get(f"{server.url}/metrics") as response:
        text = await response.text()
    buckets = re.findall(r'^statestream_dispatch_seconds_bucket\{le="([^"]+)"\} (\d+)\.0$', text, re.MULTILINE)
    bounds, counts = [float(bound) for bound, _ in buckets], [int(count) for _, count in buckets]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")
    assert counts == sorted(counts)
    assert counts[-1] == await server.metric(http, "dispatch_seconds_count") == 1


def test_an_observation_on_a_bound_is_within_it() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 3):
        histogram.observe(value)
    assert list(histogram.buckets()) == [("1", 2), ("2", 4), ("+Inf", 5)]
    assert histogram.sum == 8


async def test_what_another_process_writes_is_measured_on_its_way(tmp_path: Path, http: Http) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    with Server.serving(journal=journal) as one, Server.serving(journal=journal) as other:
        before = await other.metric(http, "position")
        await dispatch(http, one.url, "board/task_added", {"id": "1", "title": "t"})

        async def followed() -> bool:
            return await other.metric(http, "position") > before

        await eventually(followed)
        assert await other.metric(http, "follow_seconds_count") == 1
        assert 0 < await other.metric(http, "follow_seconds_sum") < 10
        assert await other.metric(http, "journal_ahead") == 0


async def test_a_reader_that_does_not_read_lags_by_changes_and_seconds(server: Server, http: Http) -> None:
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.sendall(b"GET /stream/state?slices=board HTTP/1.0\r\n\r\n")
    assert slow.recv(5) == b"HTTP/"
    number = 0
    while await server.metric(http, "subscribers_behind") == 0:
        number += 1
        await dispatch(http, server.url, "board/task_added", {"id": str(number), "title": "x" * 200_000})
    for extra in range(3):
        await dispatch(http, server.url, "board/task_added", {"id": f"extra{extra}", "title": "t"})
    assert await server.metric(http, "subscriber_lag_changes") >= 3
    assert await server.metric(http, "subscriber_lag_seconds") > 0
    slow.close()

    async def nobody() -> bool:
        names = ("subscribers", "subscribers_behind", "subscriber_lag_changes", "subscriber_lag_seconds")
        return [await server.metric(http, name) for name in names] == [0, 0, 0, 0]

    await eventually(nobody)


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(CHAT)
    return tmp_path / "app.py"


async def test_runs_are_measured_and_counted_by_how_they_ended(chat: Path, http: Http) -> None:
    with Server("serve", f"{chat}:app") as server:
        for text in ("one", "please fail", "three"):
            async with http.post(f"{server.url}/api/chats") as response:
                key = (await response.json())["id"]
            body = {"messages": [{"role": "user", "content": text}]}
            async with http.post(f"{server.url}/api/chats/{key}/stream", json=body) as response:
                with contextlib.suppress(aiohttp.ClientPayloadError):  # how plain text shows that the reply failed
                    await response.text()

        async def all_ended() -> bool:
            return await server.metric(http, "reply_seconds_count") == 3

        await eventually(all_ended)
        assert await server.metric(http, 'replies_total{end="complete"}') == 2
        assert await server.metric(http, 'replies_total{end="rate_limit"}') == 1
        assert await server.metric(http, "reply_pieces_sum") == 6
        assert await server.metric(http, "reply_first_piece_seconds_count") == 2, "one had no piece"
        assert await server.metric(http, "reply_tokens_per_second_count") == 2
        assert await server.metric(http, 'reply_tokens_total{kind="output"}') == 6
        assert await server.metric(http, 'reply_tokens_total{kind="input"}') == 20
