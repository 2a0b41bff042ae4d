"""The Python client against a real server: losses, gaps, restarts, refusals, slow iteration."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import statestream
from statestream import (
    Action,
    InvalidPayload,
    Malformed,
    Refused,
    Stream,
    StreamRefused,
    TimedOut,
    Unavailable,
    VersionConflict,
)
from statestream.client import update_queue
from statestream.client.health import HeartbeatMonitor
from statestream.client.replica import Replica
from statestream.core.errors import Gap
from statestream.protocol.sse import Decoder, Event
from tests.apps.board import task_added
from tests.support import ROOT, Server, dispatch, eventually, get_state, serving
from tests.support.clock import timeless

Http = aiohttp.ClientSession


async def seen(stream: Stream, condition: Callable[[], Any]) -> None:
    """Waits for an update after which `condition` holds."""
    async with asyncio.timeout(60):
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
        stream._connection.retry_ms = 20
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
        await eventually(lambda: stream.state == truth["slices"], seconds=60)
        assert truth["slices"]["counter"] == 3, "every dispatch took effect once, over the crash"
        assert reasons.count("start") == 1, "it resumed, it did not begin anew"
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_another_history_replaces_everything(server: Server, http: Http) -> None:
    async with statestream.connect(server.url) as stream:
        stream._connection.retry_ms = 20
        await stream.dispatch("board/counted", {})
        server.kill()
        server.start()
        await seen(stream, lambda: stream.state["board"]["count"] == 0)


async def test_who_iterates_slowly_is_told_what_was_missed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_queue, "MAX_UPDATES", 20)
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


async def test_the_changes_of_one_slice_are_its_own(server: Server) -> None:
    async with statestream.connect(server.url, slices=["*"]) as stream:
        rooms, counter = stream.changes("room/*"), stream.changes("counter")
        waiting = [asyncio.ensure_future(anext(rooms)), asyncio.ensure_future(anext(counter))]
        await stream.dispatch("board/task_added", {"id": "1", "title": "t"})
        await stream.dispatch("room/joined", {"name": "Ada"}, key="7")
        await stream.dispatch("counter/added", {"by": 2})
        assert [update.slice for update in await asyncio.gather(*waiting)] == ["room/7", "counter"]


async def test_what_is_waited_for_comes_or_is_said_not_to(server: Server) -> None:
    async with statestream.connect(server.url) as stream:
        waiting = asyncio.create_task(stream.wait_for(lambda state: state["counter"] >= 3 and state["board"]["count"]))
        for _ in range(4):
            await stream.dispatch("board/counted", {})
        assert await waiting >= 3
        assert await stream.wait_for(lambda state: "board" in state, timeout=0.1)
        with pytest.raises(TimedOut, match=r"within 0\.05 s"):
            await stream.wait_for(lambda state: state["counter"] == 99, timeout=0.05)
        endless = asyncio.create_task(stream.wait_for(lambda state: False))
        await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="closed"):
        await endless


async def test_health_is_how_long_nothing_was_heard() -> None:
    """A server that says one thing and then nothing, twice, and is asked again each time."""
    turns: list[tuple[str, float]] = []
    began = asyncio.get_running_loop().time()

    def turned(health: str) -> None:
        turns.append((health, asyncio.get_running_loop().time() - began))

    quiet = initial("1.a", 1).replace(b'"heartbeat":15000', b'"heartbeat":200')
    async with (
        scripted([quiet], [quiet], [initial("2.a", 2)]) as (url, asked),
        statestream.connect(url, on_health=turned) as stream,
    ):
        assert stream.health == "healthy"
        await stream.wait_for(lambda state: state["s"] == {"n": 2}, timeout=60)
        assert stream.health == "healthy"
        assert asked[0] is None
    names = [name for name, _ in turns]
    assert names[0] == "healthy"
    assert names[-1] == "failed", "a closed stream is heard no more"


def test_silence_is_told_in_heartbeats() -> None:
    """By a clock of its own: degraded after one and a half, failed after two and a half."""
    turns: list[tuple[str, float]] = []

    async def listen() -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        monitor = HeartbeatMonitor(lambda health: turns.append((health, round(clock() - began, 3))))
        for _ in range(3):
            monitor.received(10.0)
            await asyncio.sleep(14.9)
        monitor.received(10.0)
        await asyncio.sleep(100)

    timeless(listen())
    assert turns == [("healthy", 0.0), ("degraded", 44.7 + 15.0), ("failed", 44.7 + 25.0)]


async def test_a_connection_that_stands_and_says_nothing_is_given_up() -> None:
    """Nothing but the silence tells the client: the server neither ends the stream nor comes back by itself."""
    quiet = initial("1.a", 1).replace(b'"heartbeat":15000', b'"heartbeat":100')
    async with scripted([quiet, SILENCE], [initial("2.a", 2)]) as (url, asked), statestream.connect(url) as stream:
        await stream.wait_for(lambda state: state["s"] == {"n": 2}, timeout=60)
        assert asked == [None, "1.a"]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
async def test_a_refusal_that_may_pass_is_tried_again(server: Server, status: int) -> None:
    answers = iter([status])

    async def at_first(request: web.Request) -> web.StreamResponse:
        if (refusal := next(answers, None)) is not None:
            return web.Response(status=refusal)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(initial("1.a", 1))
        await asyncio.Event().wait()
        return response

    async with serving(at_first) as url, statestream.connect(url, timeout=60) as stream:
        assert stream.state == {"s": {"n": 1}}


async def test_an_event_that_is_not_ours_is_no_state() -> None:
    hello = b"event: hello\nid: 5.a\nretry: 10\ndata: {}\n\n"
    async with scripted([hello], [initial("1.a", 1)]) as (url, asked), statestream.connect(url) as stream:
        assert stream.state == {"s": {"n": 1}}
        assert asked == [None, None]


async def test_a_retry_of_any_length_is_a_pause() -> None:
    """It has 400 digits; the pause is the longest that there is."""
    async with (
        scripted([initial("1.a", 1).replace(b"retry: 10\n", b"retry: " + b"9" * 400 + b"\n"), SILENCE]) as (url, _),
        statestream.connect(url) as stream,
    ):
        assert 30 <= stream._connection._backoff() <= 45


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "ftp://here", "http:///x", "", "http://a:99999", "http://a:x", "//a"]
)
def test_what_is_no_url_of_a_server_is_said_at_once(url: str) -> None:
    with pytest.raises(Malformed, match=r"http://127\.0\.0\.1:8000"):
        statestream.connect(url)
    with pytest.raises(Malformed), statestream.connect_sync(url):
        raise AssertionError("it was let in")


async def test_slices_may_be_one_text_and_actions_several(server: Server) -> None:
    async with statestream.connect(server.url, slices="board,room/1") as stream:
        joined = [Action(type="room/joined", payload={"name": name}, key="1") for name in ("Ada", "Bo")]
        result = await stream.dispatch([task_added(id="1", title="t"), *joined], id="three")
        assert [name for name, _ in result.changes] == ["board", "room/1", "room/1"]
        await stream.wait_for(lambda state: state.get("room/1") == {"members": ["Ada", "Bo"]}, timeout=60)
        with pytest.raises(Refused):
            await stream.dispatch([task_added(id="2", title="t"), Action(type="board/refused", payload={"why": "x"})])
        assert len(stream.state["board"]["tasks"]) == 1, "whole or not at all"
        for name in ("counter", "room/2", "chat/*"):
            with pytest.raises(Malformed, match="follows"):
                stream.changes(name)
        for name in ("room/1", "room/*", "board"):
            assert stream.changes(name)
        with pytest.raises(TypeError, match="its own"):
            await stream.dispatch([task_added(id="3", title="t")], {"id": "4"})
    stream = statestream.connect(server.url, slices=["board,room/1", "counter"])
    assert stream.changes("room/1")
    stream = statestream.connect(server.url)
    assert stream.changes("counter"), "what is there is not known yet"
    async with stream:
        assert stream.changes("counter")
        with pytest.raises(Malformed, match="follows"):
            stream.changes("nothing")


async def test_a_silent_connection_is_made_anew(server: Server) -> None:
    """A server that is stopped, not ended: its connection stands, and says nothing."""
    env = {"HEARTBEAT": "0.4", "PYTHONPATH": str(ROOT)}
    with Server.serving(f"{ROOT / 'tests/apps/quick.py'}:app", env=env) as frozen:
        turns: list[str] = []
        async with statestream.connect(frozen.url, slices=["*"], on_health=turns.append) as stream:
            assert stream.health == "healthy"
            os.kill(frozen.pid, signal.SIGSTOP)
            await eventually(lambda: stream.health == "degraded")
            await eventually(lambda: stream.health == "failed")
            os.kill(frozen.pid, signal.SIGCONT)
            await eventually(lambda: stream.health == "healthy")
            await stream.dispatch("board/counted", {})
            await stream.wait_for(lambda state: state["counter"] == 1, timeout=60)
        assert turns[:3] == ["healthy", "degraded", "failed"]
        assert set(turns[3:]) >= {"healthy"}


async def test_a_callback_that_raises_stops_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: str) -> None:
        raise LookupError("mine")

    async with statestream.connect(server.url, on_health=broken) as stream:
        await stream.dispatch("board/counted", {})
        await stream.wait_for(lambda state: state["counter"] == 1, timeout=60)
    assert "callback for health" in caplog.text


def test_a_script_needs_no_event_loop(server: Server) -> None:
    with statestream.connect_sync(server.url, slices=["*"]) as stream:
        assert stream.state["counter"] == 0
        assert (stream.health, set(stream.versions)) == ("healthy", {"board", "counter"})
        first = stream.dispatch("board/counted", {"by": 2})
        assert stream.wait_for(lambda state: state["counter"], timeout=60) == 2
        seen = iter(stream)
        assert next(seen).kind == "initial"
        while next(seen).position != str(first.position):
            pass
        rooms = stream.changes("room/*")
        stream.dispatch("room/joined", {"name": "Ada"}, key="1")
        assert next(rooms).slice == "room/1"
        with pytest.raises(TimedOut):
            stream.wait_for(lambda state: False, timeout=0.05)
        with pytest.raises(InvalidPayload):
            stream.dispatch("board/counted", {"by": "x"})
        with pytest.raises(RuntimeError, match="from outside"):
            stream.wait_for(lambda state: stream.dispatch("board/counted", {}), timeout=60)
    assert [update.kind for update in seen][-1:] != ["initial"], "what is left of it, then its end"
    with pytest.raises(RuntimeError, match="open"):
        stream.dispatch("board/counted", {})
    with pytest.raises(StreamRefused):
        statestream.connect_sync(server.url, slices=["nothing"]).__enter__()
    with pytest.raises(Unavailable):
        statestream.connect_sync("http://127.0.0.1:9", timeout=0.2).__enter__()


def test_nobody_waits_for_a_stream_that_is_closed(server: Server) -> None:
    """Whatever another thread is waiting for, and wherever the closing meets it."""
    calls: dict[str, Callable[[Any], Any]] = {
        "changes": lambda stream: next(stream.changes("counter"), None),
        "wait_for": lambda stream: stream.wait_for(lambda state: False),
        "iteration": lambda stream: list(stream),
    }
    for number in range(20):
        for name, call in calls.items():
            with statestream.connect_sync(server.url) as stream:
                left = threading.Event()

                def waits(stream: Any = stream, call: Callable[[Any], Any] = call, left: Any = left) -> None:
                    with contextlib.suppress(Unavailable, RuntimeError):
                        while True:
                            if call(stream) in (None, []):
                                break
                    left.set()

                thread = threading.Thread(target=waits, daemon=True)
                thread.start()
                if number % 2:
                    stream.dispatch("board/counted", {})
            assert left.wait(60), f"{name} waits for ever"


async def test_headers_go_with_every_request_and_to_no_other_server(server: Server) -> None:
    """To one in between that lets nobody in without them, then sends the client elsewhere."""
    seen: list[tuple[str, str]] = []
    moved = False

    async def between(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("X-Key", "")))
        if moved:
            raise web.HTTPFound(f"{server.url}{request.path}")
        kind = {"Content-Type": request.content_type}
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                request.method, server.url + request.path_qs, data=await request.read(), headers=kind
            ) as answer,
        ):
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            return response

    def script(url: str) -> Any:
        with statestream.connect_sync(url, headers={"X-Key": "open"}) as stream:
            return stream.dispatch("board/counted", {"by": 2}).changes

    async with serving(between) as url:
        async with statestream.connect(url, headers={"X-Key": "sesame"}) as stream:
            await stream.dispatch("board/counted", {"by": 1})
        assert seen == [("/stream/state", "sesame"), ("/dispatch", "sesame")]
        assert await asyncio.to_thread(script, url)
        assert seen[2:] == [("/stream/state", "open"), ("/dispatch", "open")]
        moved = True
        with pytest.raises(StreamRefused, match=rf"status 302: {server.url}/stream/state"):
            async with statestream.connect(url, headers={"X-Key": "sesame"}):
                raise AssertionError("it was let in")


async def test_a_login_in_the_url_is_sent_and_never_said(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def refusing(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        return web.Response(status=401 if len(seen) < 3 else 503)

    async with serving(refusing) as url:
        secret = url.replace("//", "//me:s%3Acret@") + "/"
        with pytest.raises(StreamRefused) as refused:
            await statestream.connect(secret).__aenter__()
        with pytest.raises(StreamRefused):
            await statestream.connect(secret, headers={"Authorization": "Bearer abc"}).__aenter__()
        with pytest.raises(Unavailable) as away:
            await statestream.connect(secret, timeout=0.3).__aenter__()
    assert seen[:3] == ["Basic bWU6czpjcmV0", "Bearer abc", "Basic bWU6czpjcmV0"]
    for said in (str(refused.value), str(away.value), caplog.text):
        assert "cret" not in said
    assert url in str(refused.value)
    with pytest.raises(Malformed):
        statestream.connect("http://me:secret@[")


async def test_a_closed_stream_ends_every_iteration(server: Server) -> None:
    async with statestream.connect(server.url) as stream:
        before = aiter(stream)
    assert [update.kind async for update in before] == ["initial"]
    assert [update async for update in stream] == []


async def test_what_is_refused_for_good_raises(server: Server) -> None:
    with pytest.raises(StreamRefused) as refused:
        async with statestream.connect(server.url, slices=["nothing"]):
            raise AssertionError("it was let in")
    assert refused.value.status == 404


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"within 0\.3 s: .*[Cc]onnect"):
        async with statestream.connect("http://127.0.0.1:9", timeout=0.3):
            raise AssertionError("nobody was there")


SILENCE = b""
"""In a script: the connection stands, and nothing more comes."""


@asynccontextmanager
async def scripted(*connections: list[bytes]) -> AsyncIterator[tuple[str, list[Any]]]:
    """A server that says on its nth connection what it is told to, to show a client what a real one never would."""
    asked: list[Any] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Last-Event-ID") or request.query.get("after"))  # it may poll
        script = connections[min(len(asked), len(connections)) - 1]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in script:
            await (asyncio.Event().wait() if part is SILENCE else response.write(part))
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
    ("name", "data"),
    [
        ("state.resumed", '{"position":"1.a","versions":{},"heartbeat":"soon","timestamp":1}'),
        ("stream.end", "[]"),
        ("state.update", ""),
        ("state.update", "nonsense"),
        ("state.update", "[]"),
        ("state.catchup", "null"),
        ("state.update", '{"type":"state.update"}'),
        ("state.initial", '{"slices":[]}'),
        ("state.initial", '{"reason":"start","slices":[["a",1]],"versions":{},"heartbeat":1,"timestamp":1}'),
    ],
)
def test_a_frame_that_cannot_be_read_is_a_gap(name: str, data: str) -> None:
    with pytest.raises(Gap):
        Replica().apply(Event(event=name, data=data, last_id="1.a"))


def test_a_frame_of_a_later_version_is_nothing_to_us() -> None:
    replica = Replica()
    thing = Event(event="new.thing", data='{"type":"new.thing"}', last_id="2.a")
    assert replica.apply(thing) == []
    assert replica.position is None, "where no state is held there is nothing to go on from"
    replica.apply(Decoder().feed(initial("1.a", 1))[0])
    assert replica.apply(thing) == []
    assert replica.position == "2.a"


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
