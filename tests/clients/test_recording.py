"""Recordings: what a stream saw comes back as it was, from a file that was cut anywhere, and over the wire again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

import statestream
from statestream import Malformed, StreamRefused, Update
from statestream.client.recording.lines import MAX_LINE
from statestream.client.recording.recorder import StreamRecorder
from statestream.client.recording.recording import Recording
from statestream.client.replica import Replica
from statestream.core.errors import Gap, RecordingFailed
from statestream.protocol.sse import Event
from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state, serving
from tests.support.nursery import finished
from tests.support.often import often
from tests.support.usage import wrong_usage

Http = aiohttp.ClientSession


def event(type: str, position: str = "", **data: Any) -> Event:
    data = {"type": type, **data, "timestamp": 1}
    if type != "stream.end":
        data["position"] = position
    return Event(event=type, data=json.dumps(data, separators=(",", ":"), ensure_ascii=False), last_id=position)


def initial(position: str, value: Any = 0, heartbeat: int = 15_000, **slices: Any) -> Event:
    slices = {"s": value, **slices}
    versions = dict.fromkeys(slices, int(position.split(".")[0]))
    return event("state.initial", position, reason="start", slices=slices, versions=versions, heartbeat=heartbeat)


def update(position: str, value: Any) -> Event:
    version, cause = int(position.split(".")[0]), {"type": "s/set", "id": position}
    return event(
        "state.update", position, slice="s", version=version, value=value, cause=cause, **{"from": version - 1}
    )


def written(path: Path, *frames: tuple[int, Event], slices: list[str] | None = None) -> Path:
    """A recording whose clock is ours."""
    lines = [orjson.dumps({"recording": 1, "url": "http://x", "slices": slices, "began": 1})]
    for at, one in frames:
        data = orjson.Fragment(one.data)
        lines.append(orjson.dumps({"at": at, "event": one.event, "id": one.last_id, "data": data}))
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


async def replayed(path: Path, **options: Any) -> tuple[list[Update], statestream.client.Replay]:
    replay = statestream.client.replay(path, **{"speed": math.inf} | options)
    return [update async for update in replay], replay


# what was seen comes back


async def test_a_recording_gives_what_the_stream_saw(server: Server, tmp_path: Path, http: Http) -> None:
    path, later = tmp_path / "run.jsonl", tmp_path / "later.jsonl"
    async with statestream.connect(server.url, slices=["*"], cause="full") as stream:
        await stream.dispatch("board/task_added", {"id": "0", "title": "before it began"})
        await stream.wait_for(lambda state: state["board"]["tasks"])
        following = aiter(stream)
        with stream.record(path) as recorder:
            held = stream.position
            for n in range(5):
                await stream.dispatch("board/task_added", {"id": f"é{n}\u2028", "title": "t" * 30})
                await stream.dispatch("room/joined", {"name": "Ada"}, key=str(n))
            second = stream.record(later)
            await stream.dispatch("room/closed", {}, key="1")
            await stream.dispatch("counter/added", {"by": 2})
            await stream.wait_for(lambda state: state["counter"] == 2)
        assert recorder.closed
        state, versions, position = stream.state, stream.versions, stream.position
        saw = [one for one in [await anext(following) for _ in range(14)] if one.kind != "initial"][1:]
        await stream.dispatch("board/counted")
        await stream.wait_for(lambda state: state["board"]["count"] == 1)
        last = stream.state
    assert second.closed, "the stream's end is its end"
    updates, replay = await replayed(path)
    assert (updates[0].kind, updates[0].position, updates[0].reason) == ("initial", held, "start")
    assert updates[1:] == saw
    assert (replay.state, replay.versions, replay.position) == (state, versions, position)
    assert len((await replayed(later))[0]) == 5
    assert (await replayed(later))[1].state == last
    assert await get_state(http, server.url) != state, "what came behind its end is not in it"
    assert recorder.frames == len(path.read_bytes().splitlines()) - 1
    assert recorder.bytes == path.stat().st_size


async def test_a_recording_goes_on_over_a_crash_of_the_server(sqlite_server: Server, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with statestream.connect(sqlite_server.url, slices=["*"]) as stream:
        stream._connection.retry_ms = 20
        with stream.record(path):
            for n in range(3):
                await stream.dispatch("board/counted")
                sqlite_server.kill()
                sqlite_server.start()
                await stream.wait_for(lambda state, n=n: state["counter"] == n + 1, timeout=60)
            await stream.dispatch("counter/added", {"by": 10})
            await stream.wait_for(lambda state: state["counter"] == 13, timeout=60)
        state = stream.state
    assert "state.resumed" in {frame.event.event for frame in Recording(path)}
    assert (await replayed(path))[1].state == state


def test_a_script_records_too(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with statestream.connect_sync(server.url) as stream:
        with stream.record(path) as recorder:
            stream.dispatch("board/counted")
            stream.wait_for(lambda state: state["counter"] == 1, timeout=60)
        with pytest.raises(RecordingFailed, match="exists"):
            stream.record(path)
        stream.record(path, overwrite=True).close()
        state = stream.state
    assert recorder.closed
    assert asyncio.run(replayed(path))[1].state == state


async def test_a_stream_that_is_not_open_cannot_be_recorded(server: Server, tmp_path: Path) -> None:
    stream = statestream.connect(server.url)
    with pytest.raises(RuntimeError, match="open"):
        stream.record(tmp_path / "a")
    async with stream:
        with pytest.raises(RecordingFailed, match="No such file"):
            stream.record(tmp_path / "none" / "a")
    with pytest.raises(RuntimeError, match="open"):
        stream.record(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


async def test_a_password_is_not_recorded(tmp_path: Path) -> None:
    StreamRecorder(tmp_path / "a", url="http://me:secret@host:1/p", slices=("s",), replica=Replica()).close()
    recording = Recording(tmp_path / "a")
    assert (recording.url, recording.slices) == ("http://host:1/p", ["s"])
    assert list(recording) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full exists on Linux only")
async def test_a_full_disk_ends_the_recording_and_not_the_stream(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RecordingFailed, match="No space left"):
        StreamRecorder("/dev/full", url="http://x", slices=None, replica=Replica(), overwrite=True)
    assert Path("/dev/full").exists(), "what was there before stays"
    async with statestream.connect(server.url) as stream:
        recorder = stream.record(tmp_path / "a")
        recorder._file, whole = Path("/dev/full").open("wb", buffering=0), recorder._file  # noqa: SIM115  # it closes it
        await stream.dispatch("board/counted")
        await stream.wait_for(lambda state: state["counter"] == 1, timeout=60)
        assert recorder.closed
        with pytest.raises(RecordingFailed, match=r"ends after .* No space left"):
            recorder.close()
        assert whole is not None
        whole.close()
    assert "No space left" in caplog.text
    assert len((await replayed(tmp_path / "a"))[0]) == 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
steps = st.lists(
    st.tuples(
        st.sampled_from(["value", "patch", "old", "gap", "catchup", "heartbeat", "removed", "end", "anew"]), json_values
    ),
    max_size=15,
)


def test_a_recording_that_could_not_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statestream.client.recording.recorder.MAX_LINE", 10)  # the first line is longer than may be
    with pytest.raises(RecordingFailed, match="after 0 bytes"):
        StreamRecorder(tmp_path / "a", url="http://x", slices=None, replica=Replica())
    assert list(tmp_path.iterdir()) == []


def frames_of(program: list[tuple[str, Any]]) -> Iterator[Event]:
    """A stream as a server could send it, and gaps as none would."""
    yield initial("1.a", {"v": 0}, **{"room/1": []})
    version, seq = 1, 1
    for kind, value in program:
        seq += 1
        at, item = f"{seq}.a", {"slice": "s", "from": version, "version": seq}
        cause = {"type": "s/x", "id": "i"}
        match kind:
            case "value":
                yield event("state.update", at, **item, value={"v": value}, cause=cause)
            case "patch":
                patches = [{"op": "replace", "path": "/v", "value": value}]
                yield event("state.update", at, **item, patches=patches, cause=cause)
            case "catchup":
                other = {"slice": "room/2", "from": 0, "version": seq, "value": value}
                yield event("state.catchup", at, updates=[item | {"value": {"v": value}}, other])
            case "removed":
                yield event("state.update", at, slice="room/1", version=seq, removed=True, cause=cause, **{"from": 1})
                continue
            case "old":
                yield event("state.update", at, slice="s", version=1, value=value, cause=cause, **{"from": 0})
                continue
            case "gap":
                yield event("state.update", at, **item | {"from": version + 99}, patches=[], cause=cause)
                continue
            case "anew":
                yield initial(at, {"v": value})
            case "heartbeat":
                yield event("heartbeat", at)
                continue
            case _:
                yield event("stream.end", at, reason="shutdown", retry=1)
                continue
        version = seq


@settings(max_examples=often(80))
@given(steps, st.integers(0, 15))
def test_replaying_is_hearing_it_again(program: list[tuple[str, Any]], start: int) -> None:
    """Whenever it begins: the same updates and the same state as whoever listened then."""
    replica, heard = Replica(), []
    recorder = None
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "r"
        for number, one in enumerate(frames_of(program)):
            if recorder is None and number >= start:
                recorder = StreamRecorder(path, url="http://x", slices=None, replica=replica)
                held = replica.position
            if replica.position is None and one.event != "state.initial":
                continue  # a client starts again after a gap: nothing else comes first
            try:
                updates = replica.apply(one)
            except Gap:
                replica.forget_position()
                continue
            if recorder is not None:
                recorder.record(one)
                heard += updates
        if recorder is None:
            return
        recorder.close()
        updates, replay = asyncio.run(replayed(path))
        assert [u for u in updates if u.timestamp == 1] == heard
        assert len(updates) == len(heard) + (held is not None)
        if held is not None or heard:
            assert (replay.state, replay.versions) == (replica.state, replica.versions)
        frames = list(Recording(path))
        assert [frame.at for frame in frames] == sorted(frame.at for frame in frames)


async def test_gaps_in_a_recording_are_passed_over_as_the_client_did(tmp_path: Path) -> None:
    gap = event("state.update", "9.a", slice="s", version=9, patches=[], cause={}, **{"from": 8})
    frames = [initial("1.a", 1), update("2.a", 2), gap, update("3.a", 3), event("heartbeat", "4.a"), initial("5.a", 5)]
    updates, replay = await replayed(written(tmp_path / "r", *((0, one) for one in [*frames, update("6.a", 6)])))
    assert [one.position for one in updates] == ["1.a", "2.a", "5.a", "6.a"]
    assert (replay.state, replay.position) == ({"s": 6}, "6.a")
    _, replay = await replayed(written(tmp_path / "r", *((0, one) for one in frames[:5])))
    assert (replay.state, replay.position) == ({"s": 2}, None)


async def test_lines_of_another_program_and_frames_of_many_lines_are_read(tmp_path: Path) -> None:
    recorder = StreamRecorder(tmp_path / "r", url="http://x", slices=None, replica=Replica())
    whole = initial("1.a", {"é\u2028": ["\\\n", '","data":']})
    recorder.record(Event(event=whole.event, data=whole.data.replace('{"', '{\n"'), last_id='1"},"data":'))
    recorder.close()
    state = {"s": {"é\u2028": ["\\\n", '","data":']}}
    assert (await replayed(tmp_path / "r"))[1].state == state
    lines = [json.loads(line) for line in (tmp_path / "r").read_text().split("\n")[:-1]]
    for end in ("\n", " \n", "\r\n"):
        (tmp_path / "r").write_text("".join(json.dumps(dict(reversed(line.items()))) + end for line in lines))
        assert (await replayed(tmp_path / "r"))[1].state == state
    ours = written(tmp_path / "r", (0, initial("1.a", 1)), (0, update("2.a", 2))).read_bytes()
    for theirs in (ours.replace(b"}\n", b"} \n"), ours.replace(b'"data":', b'"data":{},"data":')):
        (tmp_path / "r").write_bytes(theirs)
        assert (await replayed(tmp_path / "r"))[1].state == {"s": 2}


# where a file ends, and what it may not hold


async def test_a_file_cut_at_any_byte_is_good_up_to_there(tmp_path: Path) -> None:
    frames = [initial("1.a", [0]), update("2.a", "é" * 3), event("heartbeat", "2.a"), update("3.a", {"x": [1, 2]})]
    data = written(tmp_path / "whole", *enumerate(frames)).read_bytes()
    path = tmp_path / "cut"
    states = [
        ({}, None),
        ({"s": [0]}, "1.a"),
        ({"s": "ééé"}, "2.a"),
        ({"s": "ééé"}, "2.a"),
        ({"s": {"x": [1, 2]}}, "3.a"),
    ]
    header = data.index(b"\n") + 1
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size < header:
            with pytest.raises(Malformed, match="line 1"):
                statestream.client.replay(path)
            continue
        _, replay = await replayed(path)
        whole = data[:size].count(b"\n") - 1
        assert (replay.state, replay.position) == states[whole]
        assert replay.recording.cut_off() == (not data[:size].endswith(b"\n"))


LINE = b'{"at":0,"event":"heartbeat","id":"1.a","data":{"type":"heartbeat"}}'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b"\0" * 50,
        LINE[:-1],
        LINE.replace(b'"at":0', b'"at":-1'),
        LINE.replace(b'"at":0', b'"at":0.5'),
        LINE.replace(b'"at":0', b'"at":true'),
        LINE.replace(b'"1.a"', b"1"),
        LINE.replace(b'"1.a"', b'"1.a\\nevent: forged"'),
        LINE.replace(b'"heartbeat",', b'"",'),
        LINE.replace(b'{"type":"heartbeat"}', b"[]"),
        LINE.replace(b'{"type":"heartbeat"}', b'{"a":' * 500 + b"1" + b"}" * 500).replace(b'"at":0,', b'"at": 0,'),
    ],
)
async def test_a_broken_line_is_an_error_with_its_number(tmp_path: Path, line: bytes) -> None:
    lines = written(tmp_path / "r", (0, initial("1.a")), (0, update("2.a", 2))).read_bytes().splitlines()
    (tmp_path / "r").write_bytes(b"\n".join([*lines[:2], line, lines[2], b""]))
    replay = statestream.client.replay(tmp_path / "r", speed=math.inf)
    with pytest.raises(Malformed, match=r"^line 3: expected"):
        async for _ in replay:
            pass
    assert replay.state == {"s": 0}, "what came before it has counted"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b'{"recording":2,"url":"x","slices":null,"began":1}', "newer"),
        (b'{"recording":true,"url":"x","slices":null,"began":1}', "does not"),
        (b'{"recording":1}', "url"),
        (b'{"recording":1,"url":"x","slices":[1],"began":1}', "slices"),
        (b'{"at":0}', "does not"),
        (b"SQLite format 3\0", "not JSON"),
    ],
)
def test_another_programs_file_is_refused(tmp_path: Path, first: bytes, said: str) -> None:
    (tmp_path / "r").write_bytes(first + b"\n" + LINE + b"\n")
    with pytest.raises(Malformed, match=rf"^line 1: expected .*{said}"):
        statestream.client.replay(tmp_path / "r")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(RecordingFailed, match="cannot read"):
            statestream.client.replay(path)


async def test_time_does_not_run_backwards(tmp_path: Path) -> None:
    path = written(tmp_path / "r", (0, initial("1.a")), (5, update("2.a", 2)), (4, update("3.a", 3)))
    with pytest.raises(Malformed, match=r"^line 4: expected `at`"):
        await replayed(path)


def test_no_line_is_longer_than_the_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is written can be read: a frame that is too long ends the recording in the file that was good so far."""
    recorder = StreamRecorder(tmp_path / "r", url="http://x", slices=None, replica=Replica())
    recorder.record(initial("1.a"))
    with caplog.at_level(logging.ERROR):
        recorder.record(update("2.a", "x" * MAX_LINE))
    with pytest.raises(RecordingFailed, match="a frame takes more"):
        recorder.close()
    assert len(list(Recording(tmp_path / "r"))) == 1
    with (tmp_path / "r").open("ab") as file:
        file.truncate(file.tell() + MAX_LINE + 10)  # a hole of zeroes: no line ends in it
    with pytest.raises(Malformed, match=r"^line 3: expected at most"):
        list(Recording(tmp_path / "r"))


# pace and end


async def test_until_ends_it_there_exactly(tmp_path: Path) -> None:
    frames = [(at * 1000, update(f"{at + 2}.a", at)) for at in range(10)]
    path = written(tmp_path / "r", (0, initial("1.a", None)), *frames, (9_500, event("heartbeat", "11.a")))
    for until, state in (("1.a", None), ("5.a", 3), ("11.a", 9), (0, 0), (3.999, 3), (4, 4), (math.inf, 9), (None, 9)):
        updates, replay = await replayed(path, until=until)
        assert replay.state == {"s": state}
        assert updates[-1].position == replay.position
    for until in ("6.b", "", "12.a", -1, math.nan):
        with pytest.raises(Malformed, match="until"):
            statestream.client.replay(path, until=until)
    for speed in (0, -1, math.nan):
        with pytest.raises(Malformed, match="speed"):
            statestream.client.replay(path, speed=speed)


async def test_a_faster_replay_is_ahead_of_a_slower_one(tmp_path: Path) -> None:
    path = written(tmp_path / "r", *((at * 100, initial(f"{at + 1}.a", at)) for at in range(11)))
    order: list[tuple[float, int]] = []

    async def play(speed: float) -> None:
        replay = statestream.client.replay(path, speed=speed)
        async for _ in replay:
            order.append((speed, replay.state["s"]))  # noqa: PERF401  # the others append meanwhile

    await asyncio.gather(play(1.0), play(10.0), play(math.inf))
    assert [speed for speed, at in order if at == 10] == [math.inf, 10.0, 1.0]
    assert order.index((10.0, 5)) < order.index((1.0, 3)), "the pace is that of each frame, not of the end only"
    for speed in (1.0, 10.0, math.inf):
        assert [at for at_speed, at in order if at_speed == speed] == list(range(11))


async def test_as_fast_as_it_goes_waits_for_nothing_and_lets_others_live(tmp_path: Path) -> None:
    path = written(tmp_path / "r", *((at * 3_600_000, initial(f"{at + 1}.a", at)) for at in range(1_000)))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    other = asyncio.create_task(others())
    updates, _ = await replayed(path)
    other.cancel()
    assert len(updates) == 1_000
    assert turns >= 5


async def test_each_loop_begins_at_the_beginning(tmp_path: Path) -> None:
    replay = statestream.client.replay(
        written(tmp_path / "r", (0, initial("1.a", 1)), (0, update("2.a", 2))), speed=math.inf
    )
    assert (replay.state, replay.position) == ({}, None)
    first = aiter(replay)
    assert (await anext(first)).position == "1.a"
    assert [update.position async for update in replay] == ["1.a", "2.a"]
    assert [update.position async for update in first] == ["2.a"]
    assert replay.state == {"s": 2}


# the command


def command(*arguments: Any, code: int = 0) -> tuple[str, str]:
    ran = finished(*map(str, arguments))
    assert ran.code == code, ran
    assert "Traceback" not in ran.err
    return ran.out, ran.err


async def test_on_a_terminal_the_updates_go_to_the_file_and_only_the_bar_to_the_terminal(tmp_path: Path) -> None:
    path = written(tmp_path / "run.jsonl", (0, initial("1.a")), *((n, update(f"{n}.a", n)) for n in range(2, 500)))
    terminal, ours = pty.openpty()
    line = [sys.executable, "-W", "error", "-m", "statestream", "replay", str(path), "--speed", "inf", "--json"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(line, stdout=out, stderr=ours, cwd=ROOT)
    os.close(ours)
    shown = b""
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more
        while part := os.read(terminal, 1 << 16):
            shown += part
    assert process.wait(60) == 0
    os.close(terminal)
    assert len([json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]) == 499
    assert b"499 frames, 499 updates" in shown
    assert b'"kind"' not in shown


def recording_process(server: Server, path: Path, *more: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "statestream", "record", server.url, "-o", str(path), *more]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_kill_9_of_a_recorder_loses_the_last_line_at_most(server: Server, tmp_path: Path, http: Http) -> None:
    path = tmp_path / "run.jsonl"
    process = recording_process(server, path, "--slices", "*")
    over = asyncio.Event()

    async def write() -> None:
        number = 0
        while not over.is_set():
            await dispatch(http, server.url, "board/task_added", {"id": str(number := number + 1), "title": "t" * 50})

    await eventually(lambda: lines_of(path) >= 2)
    writing = asyncio.create_task(write())
    await eventually(lambda: lines_of(path) >= 60)
    process.kill()
    process.communicate()
    over.set()
    await writing
    assert lines_of(path) >= 60
    _, replay = await replayed(path)
    then = await get_state(http, server.url, f"slices=*&at={replay.position}")
    assert (replay.state, replay.versions) == (then["slices"], then["versions"])
    assert int((replay.position or "").split(".")[0]) >= 59


async def test_ctrl_c_ends_a_recording_with_a_summary(server: Server, tmp_path: Path, http: Http) -> None:
    path = tmp_path / "run.jsonl"
    process = recording_process(server, path, "--cause", "full")
    await eventually(lambda: lines_of(path) >= 2)
    await dispatch(http, server.url, "board/counted", {"by": 5})
    await eventually(lambda: lines_of(path) >= 4)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 0, errors
    assert f"3 frames, {path.stat().st_size:,} bytes" in errors
    assert "Traceback" not in errors
    assert '"payload":{"by":5}' in path.read_text()
    printed, about = await asyncio.to_thread(command, "replay", path)
    assert printed.splitlines()[0].endswith("initial (start): board, counter")
    assert printed.splitlines()[2].endswith("  counter  value  board/counted")
    assert "3 frames, 3 updates" in about
    encoded, _ = await asyncio.to_thread(command, "replay", path, "--json", "--speed", "inf")
    told = [json.loads(line) for line in encoded.splitlines()]
    assert told[0]["slices"]["counter"] == 0
    assert (told[2]["slice"], told[2]["value"], told[2]["cause"]["payload"]) == ("counter", 5, {"by": 5})


async def test_a_recording_lasts_as_long_as_it_is_told_to(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    arguments = ("record", server.url, "-o", path, "--seconds", "0.3", "--slices", "board")
    await asyncio.to_thread(command, *arguments)
    assert Recording(path).slices == ["board"]
    _, said = await asyncio.to_thread(lambda: command(*arguments, code=2))
    assert "--force" in said
    await asyncio.to_thread(command, *arguments, "--force")


async def test_what_ends_a_recording_is_said(tmp_path: Path, server: Server) -> None:
    _, said = await asyncio.to_thread(
        lambda: command("record", server.url, "-o", tmp_path / "a", "--slices", "nothing", code=1)
    )
    assert "404" in said
    assert "nothing was recorded" in said
    assert not (tmp_path / "a").exists()
    command("record", "nonsense", "-o", tmp_path / "a", code=2)
    command("record", server.url, "-o", tmp_path / "a", "--cause", "x", code=2)
    process = recording_process(server, tmp_path / "b")
    await eventually(lambda: lines_of(tmp_path / "b") >= 2)
    process.terminate()
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert (process.returncode, "1 frames" in errors) == (0, True)


async def test_the_headers_of_a_recording_go_with_every_request(tmp_path: Path) -> None:
    seen: list[str] = []

    async def refusing(request: web.Request) -> web.Response:
        seen.append(request.headers.get("X-Room", ""))
        return web.Response(status=503 if len(seen) == 1 else 403, text="\x1b[2J \u202e not for you")

    async with serving(refusing) as url:
        arguments = ("record", url, "-o", tmp_path / "a", "-H", "X-Room: 1", "--header", "Authorization: Bearer abc")
        _, said = await asyncio.to_thread(lambda: command(*arguments, code=1))
    assert seen == ["1", "1"]
    assert "\\x1b[2J \\u202e not for you" in said
    assert "abc" not in said
    _, said = await asyncio.to_thread(lambda: command(*arguments[:4], "-H", "nonsense", code=2))
    assert "--header" in said


def test_wrong_calls_of_replay_are_explained(tmp_path: Path) -> None:
    path = written(tmp_path / "r", (0, initial("1.a", "\x1b[31m", **{"x/\x1b[2J": 1})), (0, update("2.a", 2)))
    for wrong in (["--speed", "0"], ["--until", "+x"], ["--json", "--serve"], ["--port", "1"], ["--host", "x"]):
        wrong_usage("replay", path, *wrong)
    wrong_usage("replay", tmp_path / "none")
    assert "position" in command("replay", path, "--until", "9.z", code=1)[1]
    printed, _ = command("replay", path, "--until", "1.a")
    assert printed.splitlines() == ["+0.000  1.a  initial (start): s, x/\\x1b[2J"]
    written(tmp_path / "b", (0, initial("1.a", "\u202e\x9b1m")))
    encoded, _ = command("replay", tmp_path / "b", "--json")
    assert '"s":"\\u202e\\u009b1m"' in encoded
    with path.open("ab") as file:
        file.write(b"{")
    assert "cut off" in command("replay", path, "--until", "+0")[1] + command("replay", path)[1]
    path.write_text("{}\n")
    assert "line 1" in command("replay", path, code=1)[1]
    assert "line 1" in command("replay", path, "--serve", "--port", "0", code=1)[1]
    written(path)
    assert "state" in command("replay", path, "--serve", "--port", "0", code=1)[1]


# served


def served(path: Path, *more: str) -> Server:
    return Server("replay", str(path), "--serve", *more)


async def test_our_clients_follow_a_served_recording(server: Server, tmp_path: Path, http: Http) -> None:
    path = tmp_path / "run.jsonl"
    async with statestream.connect(server.url, slices=["*"]) as stream:
        with stream.record(path):
            for n in range(20):
                await stream.dispatch("board/task_added", {"id": str(n), "title": "t"})
                await stream.dispatch("room/joined", {"name": "Ada"}, key=str(n % 3))
            await stream.dispatch("room/closed", {}, key="1")
            await stream.wait_for(lambda state: "room/1" not in state)
        state, position = stream.state, str(stream.position)
    expected, _ = await replayed(path)
    with served(path) as playback:
        async with statestream.connect(playback.url, slices=["*"]) as viewer:
            seen = []
            async for one in viewer:
                seen.append(one)
                if one.position == position:
                    break
            assert (seen, viewer.state, viewer.position) == (expected, state, position)
        async with statestream.connect(playback.url, slices=["room/*", "counter"]) as some:
            await some.wait_for(lambda now: some.position == position)
            assert some.state == {name: value for name, value in state.items() if name != "board"}
        with PlainClient(playback.port, "slices=*") as plain:
            plain.read_to(position)
            assert (plain.state, plain.reasons) == (state, ["start"])
        with pytest.raises(StreamRefused, match="slice name"):
            async with statestream.connect(playback.url, slices=["No name"]):
                raise AssertionError("it was let in")
        async with http.get(playback.url) as page:
            assert "statestream.js" in await page.text()
        async with http.post(f"{playback.url}/dispatch", json={}) as response:
            assert response.status == 404
        viewer = PlainClient(playback.port).connect()
        viewer.read_to(position)
        assert playback.stop() == ""
        assert [(frame.event, frame.data.get("reason")) for frame in viewer.frames()] == [("stream.end", "shutdown")]


@pytest.mark.parametrize("slices", [None, ["s", "room/*"]])
async def test_what_was_not_recorded_is_not_there(tmp_path: Path, http: Http, slices: list[str] | None) -> None:
    path = written(tmp_path / "r", (0, initial("1.a", 1)), (0, update("2.a", 2)), slices=slices)
    with served(path) as playback:
        for asked in ("other", "s,other", "other/*", "other/1", *([] if slices else ["room/1"])):
            async with http.get(f"{playback.url}/stream/state?slices={asked}") as response:
                assert (response.status, (await response.json())["code"]) == (404, "unknown_slice")
        for asked in ("s", "*", *(["room/7,s", "s,room/*"] if slices else [])):
            with PlainClient(playback.port, f"slices={asked}") as client:
                client.read_to("2.a")
                assert client.state == {"s": 2}


async def test_a_viewer_that_lost_its_connection_goes_on_where_it_was(tmp_path: Path) -> None:
    frames = [(0, initial("1.a", 0, room=1)), *((n, update(f"{n}.a", n)) for n in range(2, 30))]
    path = written(tmp_path / "r", *frames)
    with served(path) as playback:
        client = PlainClient(playback.port, "slices=s").connect()
        for n in (5, 12, 29):
            client.read_until(lambda frame, n=n: frame.id == f"{n}.a")
            client.cut()
            client.last_id = f"{n}.a"
            client.state, client.versions = {"s": n}, {"s": n}  # it may have read on
            client.connect()
            assert next(client.frames()).event == "state.resumed"
        client.cut()
        client.last_id = "5.other"
        client.connect()
        assert next(client.frames()).data["reason"] == "forked"
        assert client.state == {"s": 0}
        client.close()


async def test_the_pace_of_who_resumes_begins_where_they_are(tmp_path: Path) -> None:
    """An hour lies before that frame: who has seen it does not wait for it again."""
    path = written(tmp_path / "r", (0, initial("1.a")), (3_600_000, update("2.a", 2)), (3_600_050, update("3.a", 3)))
    with served(path) as playback:
        client = PlainClient(playback.port, "")
        client.last_id, client.state, client.versions = "2.a", {"s": 2}, {"s": 2}
        with client:
            assert client.read_until(lambda frame: frame.id == "3.a")[0].event == "state.resumed"
            assert client.state == {"s": 3}


async def test_a_served_recording_is_never_silent(tmp_path: Path) -> None:
    """Between frames that are far apart, in a gap, and behind the last."""
    gap = event("state.update", "9.a", slice="s", version=9, patches=[], cause={}, **{"from": 8})
    own = [
        event("stream.end", "1.a", reason="shutdown", retry=1),
        event("state.resumed", "1.a", versions={"s": 1}, heartbeat=200),
    ]
    path = written(
        tmp_path / "r",
        (0, initial("1.a", 1, heartbeat=200)),
        *((1, one) for one in own),
        (700, gap),
        (1_400, initial("5.a", 5, heartbeat=200)),
    )
    with served(path) as playback, PlainClient(playback.port) as client:
        frames = client.read_until(lambda frame: frame.id == "5.a")
        said = [(frame.event, frame.id) for frame in frames]
        assert said[0] == ("state.initial", "1.a")
        assert said[-1] == ("state.initial", "5.a")
        assert said.count(("heartbeat", "1.a")) == len(said) - 2 >= 3
        assert {frame.data["position"] for frame in frames if frame.event == "heartbeat"} == {"1.a"}
        after = [next(client.frames()) for _ in range(3)]
        assert [(frame.event, frame.id) for frame in after] == [("heartbeat", "5.a")] * 3


async def test_a_served_recording_keeps_its_pace(tmp_path: Path) -> None:
    path = written(tmp_path / "r", *((at * 100, initial(f"{at + 1}.a", at)) for at in range(11)))
    order: list[tuple[str, int]] = []

    async def watch(name: str, url: str) -> None:
        async with statestream.connect(url) as stream:
            async for update in stream:
                order.append((name, int(update.position.partition(".")[0]) - 1))
                if order[-1][1] == 10:
                    return

    with served(path, "--speed", "1") as slow, served(path, "--speed", "10") as fast:
        await asyncio.gather(watch("slow", slow.url), watch("fast", fast.url))
    assert order.index(("fast", 10)) < order.index(("slow", 10))
    assert [at for name, at in order if name == "slow"] == list(range(11))
    with served(path, "--speed", "inf", "--until", "4.a") as short, PlainClient(short.port) as client:
        client.read_to("4.a")
        assert client.state == {"s": 3}
