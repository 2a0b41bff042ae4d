"""The pure parts of `statestream bench`: quantiles, readers, limits, as properties and at every split of the bytes."""

from __future__ import annotations

import itertools
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.core.errors import StreamRefused, TooLarge
from statestream.tools.bench import limits
from statestream.tools.bench.counters import StreamCounters
from statestream.tools.bench.frame_summary import SummaryCache, summarize
from statestream.tools.bench.histogram import STEPS, Histogram
from statestream.tools.bench.reader import Reader
from statestream.tools.bench.server_process import ServerProcess, Unknown
from statestream.tools.target import Target
from tests.support.faulty import catchup, frame, heartbeat, initial, update


@given(st.lists(st.integers(0, 2**40), min_size=1), st.lists(st.integers(0, 2**12)), st.floats(0.001, 1.0))
def test_a_quantile_is_at_most_one_step_too_large(some: list[int], more: list[int], share: float) -> None:
    histogram, other = Histogram(), Histogram()
    for number in some:
        histogram.add(number)
    for number in more:
        other.add(number)
    histogram.include(Histogram.of(json.loads(json.dumps(other.pairs()))))
    ordered = sorted(some + more)
    true = next(n for at, n in enumerate(ordered, 1) if at >= share * len(ordered))
    found = histogram.quantile(share)
    assert found is not None
    assert true <= found <= true * (1 + 1 / STEPS)
    assert (histogram.count, histogram.most, histogram.quantile(1.0)) == (len(ordered), ordered[-1], ordered[-1])


RUN = "bench-x-"
FRAMES = st.sampled_from(["ours", "others", "twice", "skip", "initial", "catchup", "heartbeat", "comment", "later"])


def transcript(kinds: list[str]) -> bytes:
    out, seq = [initial(1)], 1
    for kind in kinds:
        seq += kind in ("ours", "others", "initial", "catchup") or 2 * (kind == "skip")
        out += {
            "ours": [update(seq, f"{RUN}{seq}")],
            "others": [update(seq, f"somebody-{seq}")],
            "twice": [update(seq, f"{RUN}{seq}")] * 2,
            "skip": [update(seq, f"{RUN}{seq}")],
            "initial": [initial(seq)],
            "catchup": [catchup(seq - 1, seq)],
            "heartbeat": [heartbeat(seq)],
            "comment": [b": ping\n\n"],
            "later": [frame("state.novel", seq)],
        }[kind]
    return b"".join(out)


def answer(body: bytes, sizes: list[int] | None) -> bytes:
    """As HTTP: chunks of these sizes, again and again; None: until the connection ends."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    if sizes is None:
        return head.encode() + b"\r\n" + body
    chunks, at, turn = [], 0, 0
    while at < len(body):
        piece = body[at : at + sizes[turn % len(sizes)]]
        chunks.append(b"%X;x=y\r\n%b\r\n" % (len(piece), piece))
        at, turn = at + len(piece), turn + 1
    return head.encode() + b"transfer-encoding: Chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


def read(frames: SummaryCache, pieces: list[bytes]) -> tuple[list[int], StreamCounters, int, str | None]:
    reader, counts = Reader(frames, StreamCounters()), StreamCounters()
    reader._counters = counts
    numbers = [number for piece in pieces for number in reader.feed(piece)]
    return numbers, counts, reader.cursor, reader.end


@given(
    st.lists(FRAMES, max_size=8),
    st.none() | st.lists(st.integers(1, 400), min_size=1, max_size=4),
    st.lists(st.integers(0, 4000), max_size=6),
)
def test_bytes_say_the_same_wherever_they_are_split(kinds: list[str], sizes: list[int] | None, cuts: list[int]) -> None:
    data = answer(transcript(kinds), sizes)
    whole = read(SummaryCache(RUN), [data])
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    frames = SummaryCache(RUN)
    for _ in range(2):  # the second reader finds everything known
        assert read(frames, [data[a:b] for a, b in itertools.pairwise(ends)]) == whole


@pytest.mark.parametrize("sizes", [None, [90], [1_000_000]])
def test_bytes_say_the_same_split_at_every_byte(sizes: list[int] | None) -> None:
    kinds = ["ours", "twice", "skip", "catchup", "heartbeat", "initial", "ours"]
    data = answer(transcript(kinds), sizes)
    frames = SummaryCache(RUN)
    whole = read(frames, [data])
    assert (whole[0], whole[1].repeated, whole[1].breaks, whole[2]) == ([2, 4, 7], 2, 1, 7)
    for cut in range(1, len(data)):
        assert read(frames, [data[:cut], data[cut:]]) == whole
    assert read(frames, [data[at : at + 1] for at in range(len(data))]) == whole


keys = st.sampled_from(["versions", '"versions":{', "a", "{", "}"])
values = st.recursive(
    st.integers(0, 9) | st.text(max_size=5) | st.sampled_from(['"versions":{"a":1}', "}"]),
    lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


@given(values, st.dictionaries(keys, st.integers(0, 9), max_size=3), st.permutations(["slices", "versions", "type"]))
def test_the_versions_of_a_state_are_found_without_reading_it(value: Any, versions: Any, order: list[str]) -> None:
    members = {"slices": {"s": value}, "versions": versions, "type": "state.initial"}
    text = json.dumps({name: members[name] for name in order}, separators=(",", ":"), ensure_ascii=False)
    found = summarize(f"event: state.initial\nid: 7.x\ndata: {text}".encode(), RUN)
    assert found is not None
    assert (found.versions, found.seq) == (versions, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
def test_an_answer_that_is_no_stream_is_refused(data: bytes) -> None:
    with pytest.raises(StreamRefused):
        Reader(SummaryCache(RUN), StreamCounters()).feed(data)


@pytest.mark.parametrize(
    ("slices", "followed", "not_followed"),
    [
        (None, ["board"], ["room/1"]),
        ("board,room/1", ["board", "room/1"], ["room/2", "counter"]),
        ("room/*", ["room/1"], ["board", "rooms/1", "room"]),
        ("*", ["board", "room/1"], []),
    ],
)
def test_what_readers_follow_is_known(slices: str | None, followed: list[str], not_followed: list[str]) -> None:
    target = Target.parse("http://x", slices, [])
    assert [name for name in followed + not_followed if target.follows(name)] == followed


def test_many_readers_need_several_addresses_or_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_ports", lambda: 28_232)
    assert limits.sources_for(25_000, "127.0.0.1") == limits.sources_for(28_000, "192.0.2.1") == []
    assert limits.sources_for(60_000, "127.0.0.1") == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    with pytest.raises(TooLarge, match="several machines"):
        limits.sources_for(28_233, "192.0.2.1")


def test_more_changes_than_there_are_places_for_are_refused() -> None:
    assert limits.changes_of(0.1, 1) == 1
    assert limits.changes_of(20, 0.35) == 7
    with pytest.raises(TooLarge, match="lower --rate"):
        limits.changes_of(100_000, 100)


def test_processes_are_as_asked_or_as_many_as_help() -> None:
    assert limits.processes_for(10, 4) == 4
    assert limits.processes_for(3, 4) == 3, "none without a reader"
    assert limits.processes_for(250, None) == 1
    assert limits.processes_for(100_000, None) >= 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_server_that_cannot_be_looked_at_says_why() -> None:
    with pytest.raises(Unknown, match="not on this machine"):
        ServerProcess.listening("192.0.2.1", 80)
    with pytest.raises(Unknown, match="cannot be seen"):
        ServerProcess.listening("127.0.0.1", 9)
