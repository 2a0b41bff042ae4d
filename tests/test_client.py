"""The Python client against a real server: losses, gaps, restarts, refusals, slow iteration."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import statestream
from statestream import Action, InvalidPayload, Refused, Stream, StreamRefused, Unavailable, VersionConflict
from statestream import client as client_module
from statestream.errors import Gap
from statestream.replica import Replica
from statestream.sse import Decoder, Event
from tests.apps.board import task_added
from tests.support import Server, dispatch, eventually, get_state

Http = aiohttp.ClientSession


async def seen(stream: Stream, condition: Callable[[], Any]) -> None:
    """Waits for an update after which `condition` holds."""
    async with asyncio.timeout(20):
        if condition():
            return
        async for _ in stream:
            if condition():
                return


async def test_a_stream_has_the_state_and_then_every_update(server: Server, http: Http) -> None:
    async with statestream.connect(server.url, slices=["board", "room/*"], cause="full") as stream:
        assert stream.state["board"] == {"tasks": [], "count": 0}

        coming = aiter(stream)

        async def first_three() -> list[Any]:
            updates: list[Any] = []
            assert (await anext(coming)).kind == "initial"
            async for update in coming:
                updates.append((update.kind, update.slice, update.cause["type"], update.cause["payload"]))
                if len(updates) == 3:
                    break
            return updates

        watching = asyncio.create_task(first_three())
        await stream.dispatch(task_added(id="1", title="t" * 50))
        await stream.dispatch("room/joined", {"name": "Ada"}, key="42")
        await stream.dispatch("room/closed", {}, key="42")
        assert await watching == [
            ("value", "board", "board/task_added", {"id": "1", "title": "t" * 50}),
            ("value", "room/42", "room/joined", {"name": "Ada"}),
            ("removed", "room/42", "room/closed", {}),
        ]
        await seen(stream, lambda: "room/42" not in stream.state and stream.position)
        truth = await get_state(http, server.url, "slices=board,room/*")
        assert stream.state == truth["slices"]
        assert stream.versions == truth["versions"]
        assert stream.position == truth["position"]


async def test_a_dispatch_raises_what_the_store_raised(server: Server) -> None:
    async with statestream.connect(server.url) as stream:
        with pytest.raises(Refused) as refused:
            await stream.dispatch("board/refused", {"why": "full"})
        assert (refused.value.reason, str(refused.value)) == ("full", "The board says no.")
        with pytest.raises(InvalidPayload, match="/by"):
            await stream.dispatch("board/counted", {"by": "x"})
        with pytest.raises(VersionConflict):
            await stream.dispatch(Action(type="board/counted"), expect={"board": 99})
        first = await stream.dispatch("board/counted", {"by": 3}, id="mine")
        again = await stream.dispatch("board/counted", {"by": 3}, id="mine")
        assert (first.duplicate, again.duplicate, again.position) == (False, True, first.position)


async def test_a_server_that_is_killed_is_found_again(sqlite_server: Server, http: Http) -> None:
    async with statestream.connect(sqlite_server.url, slices=["*"]) as stream:
        stream._retry_ms = 20
        reasons: list[Any] = []

        async def watch() -> None:
            async for update in stream:
                reasons.append(update.reason)  # noqa: PERF401  # the list is looked at while this goes on

        watching = asyncio.create_task(watch())
        for n in range(3):
            await stream.dispatch("board/task_added", {"id": str(n), "title": "t"})
            sqlite_server.kill()
            pending = asyncio.create_task(stream.dispatch("board/counted", {}))
            sqlite_server.start()
            await pending
        truth = await get_state(http, sqlite_server.url)
        await eventually(lambda: stream.state == truth["slices"], seconds=20)
        assert truth["slices"]["counter"] == 3, "every dispatch took effect once, over the crash"
        assert reasons.count("start") == 1, "it resumed, it did not begin anew"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_another_history_replaces_everything(server: Server, http: Http) -> None:
    async with statestream.connect(server.url) as stream:
        stream._retry_ms = 20
        await stream.dispatch("board/counted", {})
        server.kill()
        server.start()
        await seen(stream, lambda: stream.state["board"]["count"] == 0)


async def test_who_iterates_slowly_is_told_what_was_missed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_UPDATES", 20)
    async with statestream.connect(server.url) as stream:
        updates = aiter(stream)
        assert (await anext(updates)).reason == "start"
        for _ in range(30):
            await stream.dispatch("board/counted", {})
        await eventually(lambda: stream.state["counter"] == 30)
        kinds = [(await anext(updates)).kind]
        while kinds[-1] != "initial":
            kinds.append((await anext(updates)).kind)
        assert len(kinds) <= 22


async def test_a_closed_stream_ends_every_iteration(server: Server) -> None:
    async with statestream.connect(server.url) as stream:
        before = aiter(stream)
    assert [update.kind async for update in before] == ["initial"]
    assert [update async for update in stream] == []


async def test_what_is_refused_for_good_raises(server: Server) -> None:
    with pytest.raises(StreamRefused) as refused:
        async with statestream.connect(server.url, slices=["nothing"]):
            raise AssertionError("it was let in")
    assert refused.value.http_status == 404


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"within 0\.3 s: .*[Cc]onnect"):
        async with statestream.connect("http://127.0.0.1:9", timeout=0.3):
            raise AssertionError("nobody was there")


@asynccontextmanager
async def scripted(*connections: list[bytes]) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that says on its nth connection what it is told to, to show a client what a real one never would."""
    asked: list[Any] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID"))
        script = connections[min(len(asked), len(connections)) - 1]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in script:
            await response.write(part)
        if script is connections[-1]:
            await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/stream/state", stream)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def initial(position: str, n: int, retry: int = 10) -> bytes:
    data = f'{{"type":"state.initial","reason":"start","position":"{position}","slices":{{"s":{{"n":{n}}}}},'
    data += f'"versions":{{"s":{position.split(".")[0]}}},"heartbeat":15000,"timestamp":1}}'
    return f"event: state.initial\nid: {position}\nretry: {retry}\ndata: {data}\n\n".encode()


def update(position: str, since: int, n: int) -> bytes:
    data = f'{{"type":"state.update","slice":"s","from":{since},"version":{position.split(".")[0]},'
    data += f'"patches":[{{"op":"replace","path":"/n","value":{n}}}],"cause":{{"type":"s/x","id":"i"}},"timestamp":1}}'
    return f"event: state.update\nid: {position}\ndata: {data}\n\n".encode()


HANG: list[bytes] = []


async def with_script(check: Callable[[Stream, list[Any]], Awaitable[None]], *connections: list[bytes]) -> None:
    async with scripted(*connections) as (url, asked), statestream.connect(url, slices=["s"]) as stream:
        await check(stream, asked)


async def test_a_gap_starts_again_without_a_cursor() -> None:
    async def check(stream: Stream, asked: list[Any]) -> None:
        await eventually(lambda: stream.state["s"] == {"n": 9})
        assert asked == [None, None]

    await with_script(check, [initial("1.a", 1), update("5.a", 4, 5)], [initial("9.a", 9)])


async def test_a_cut_frame_does_not_count() -> None:
    async def check(stream: Stream, asked: list[Any]) -> None:
        await eventually(lambda: len(asked) == 2)
        assert asked == [None, "1.a"]
        assert stream.state["s"] == {"n": 1}

    await with_script(check, [initial("1.a", 1), update("2.a", 1, 2)[:-1]], HANG)


async def test_a_catch_up_is_applied_whole_or_not_at_all() -> None:
    replica = Replica()
    replica.apply(Decoder().feed(initial("1.a", 1))[0])
    held = replica.state["s"]
    good = '{"slice":"s","from":1,"version":2,"patches":[{"op":"replace","path":"/n","value":2}]}'
    bad = '{"slice":"s","from":2,"version":3,"patches":[{"op":"remove","path":"/none"}]}'
    data = f'{{"type":"state.catchup","position":"3.a","updates":[{good},{bad}],"timestamp":1}}'
    with pytest.raises(Gap):
        replica.apply(Event(event="state.catchup", data=data, last_id="3.a"))
    assert (replica.state, replica.versions, replica.position) == ({"s": {"n": 1}}, {"s": 1}, "1.a")
    data = f'{{"type":"state.catchup","position":"2.a","updates":[{good}],"timestamp":1}}'
    replica.apply(Event(event="state.catchup", data=data, last_id="2.a"))
    assert (replica.state, held) == ({"s": {"n": 2}}, {"n": 1}), "what somebody holds stays as it was"


async def test_old_updates_are_ignored_and_newer_ones_applied() -> None:
    async def check(stream: Stream, asked: list[Any]) -> None:
        await eventually(lambda: stream.state["s"] == {"n": 3})
        assert asked == [None]

    await with_script(check, [initial("2.a", 2), update("2.a", 1, 99), update("3.a", 2, 3)])


async def test_an_end_without_retry_is_final() -> None:
    end = b'event: stream.end\ndata: {"type":"stream.end","reason":"revoked"}\n\n'
    async with scripted([initial("1.a", 1), end], HANG) as (url, asked), statestream.connect(url) as stream:
        with pytest.raises(StreamRefused, match="revoked"):
            async for _ in stream:
                pass
        assert asked == [None]


async def test_an_end_with_retry_is_a_pause() -> None:
    end = b'event: stream.end\nretry: 30\ndata: {"type":"stream.end","reason":"shutdown","retry":30}\n\n'
    async with (
        scripted([initial("1.a", 1), end], [initial("2.a", 2)]) as (url, asked),
        statestream.connect(url) as stream,
    ):
        await eventually(lambda: stream.state["s"] == {"n": 2})
        assert asked == [None, "1.a"]


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"state.resumed","position":"1.a","versions":{},"heartbeat":"soon","timestamp":1}',
        '{"type":"stream.end","reason":"busy","retry":"later"}',
        "",
        "nonsense",
        "[]",
        "null",
        '{"type":"state.update"}',
        '{"type":"state.initial","slices":[]}',
        '{"no":"type"}',
    ],
)
def test_a_frame_that_cannot_be_read_is_a_gap(data: str) -> None:
    with pytest.raises(Gap):
        Replica().apply(Event(event="x", data=data, last_id="1.a"))


def test_a_frame_of_a_later_version_is_nothing_to_us() -> None:
    replica = Replica()
    assert replica.apply(Event(event="new.thing", data='{"type":"new.thing"}', last_id="1.a")) == []
    assert replica.position == "1.a"


async def test_what_every_client_holds_is_the_servers_state_at_its_position(sqlite_server: Server, http: Http) -> None:
    copies: dict[Any, Any] = {}
    async with asyncio.TaskGroup() as group:

        async def write(n: int) -> None:
            async with statestream.connect(sqlite_server.url, slices=["*"]) as stream:
                for at in range(15):
                    await stream.dispatch("board/task_added", {"id": f"{n}-{at}", "title": "t"})
                last = (await dispatch(http, sqlite_server.url, "board/counted"))[1]["position"]
                await eventually(lambda: int((stream.position or "0.").split(".")[0]) >= int(last.split(".")[0]))
                copies[stream.position] = stream.state

        for n in range(6):
            group.create_task(write(n))
    for position, state in copies.items():
        async with http.get(f"{sqlite_server.url}/state?slices=*&at={position}") as response:
            assert (await response.json())["slices"] == state
