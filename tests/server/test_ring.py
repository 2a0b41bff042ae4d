"""A few bytes objects to many sockets: by io_uring and by a write for each, which must come to the same."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.broadcast import ring as rings
from statestream.broadcast.ring import GONE, ROOM, Ring, Send, send_each
from statestream.broadcast.sockets import FEW
from tests.support import ROOT, PlainClient, Server, dispatch, get_state

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="io_uring is Linux's")


@pytest.fixture(scope="module")
def ring() -> Iterator[Ring]:
    ring = Ring.open()
    if ring is None:
        pytest.skip("this kernel gives no io_uring")
    yield ring
    ring.close()


@pytest.fixture(scope="module", params=["ring", "each"])
def send(request: pytest.FixtureRequest) -> Send:
    return request.getfixturevalue("ring").send if request.param == "ring" else send_each


class Pairs:
    """Connected sockets, with what the other side of each was said to have been sent."""

    def __init__(self, count: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.expected = [b""] * count
        for ours, theirs in self.pairs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            ours.setblocking(False)
            theirs.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for ours, theirs in self.pairs:
            ours.close()
            theirs.close()

    def sent(self, send: Send, *parts: bytes) -> list[tuple[int, int]]:
        """As many sockets are sent the first part as the second, and so on."""
        numbers, each = [ours.fileno() for ours, _ in self.pairs], -(-len(self.pairs) // len(parts))
        short = send([(numbers[turn * each :][:each], data) for turn, data in enumerate(parts)])
        taken = dict(short)
        assert len(taken) == len(short), "nobody is named twice"
        for at, number in enumerate(numbers):
            data = parts[at // each]
            assert taken.get(number, -1) < len(data)
            self.expected[at] += data[: max(0, taken.get(number, len(data)))]
        return short

    def read(self, at: int) -> bytes:
        found = b""
        try:
            while more := self.pairs[at][1].recv(1 << 20):
                found += more
        except BlockingIOError:
            pass
        return found

    def check(self, at: int) -> None:
        assert self.read(at) == self.expected[at]
        self.expected[at] = b""


Steps = st.lists(
    st.one_of(
        st.lists(st.integers(1, 20_000), min_size=1, max_size=4),  # so many bytes to a share of them each
        st.tuples(st.just("read"), st.integers(0, 29)),
        st.tuples(st.just("leave"), st.integers(0, 29)),
    ),
    max_size=20,
)


@given(steps=Steps)
def test_what_was_taken_is_what_arrives(send: Send, steps: list[list[int] | tuple[str, int]]) -> None:
    with Pairs(30) as pairs:
        left = set()
        for turn, step in enumerate(steps):
            if isinstance(step, list):
                short = dict(pairs.sent(send, *(bytes([turn]) * size for size in step)))
                assert {number for number, took in short.items() if took == GONE} == {
                    pairs.pairs[at][0].fileno() for at in left
                }
            elif step[0] == "read" and step[1] not in left:
                pairs.check(step[1])
            elif step[0] == "leave":
                pairs.pairs[step[1]][1].close()
                left.add(step[1])
        for at in set(range(30)) - left:
            pairs.check(at)


def test_more_than_fit_in_one_call_and_around_the_end_of_both_queues(ring: Ring) -> None:
    with Pairs(ROOM // 4) as pairs:
        for turn in range(20):
            data = b"%d;" % turn
            numbers = [ours.fileno() for ours, _ in pairs.pairs]
            for times in (5, 3, 1):
                assert ring.send([(numbers * times, data)]) == []
            parts = [(numbers[turn:][share::3], data) for share in range(3)]
            assert ring.send(parts) == []
            for at in range(len(numbers)):
                assert pairs.read(at) == data * (9 + (at >= turn))


@pytest.mark.parametrize("where", ["before the call", "before its outcome was read"])
def test_a_call_that_was_broken_off_leaves_nothing_for_the_next(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """As by an exception of a signal's handler: the next one sends its own bytes, and reads its own outcomes."""
    ring = Ring.open()
    assert ring is not None
    call = rings._call

    def broken(*arguments: int) -> int:
        if where != "before the call":
            call(*arguments)
        raise KeyboardInterrupt

    with Pairs(40) as pairs:
        numbers = [ours.fileno() for ours, _ in pairs.pairs]
        for turn in range(60):  # more than once around both queues
            monkeypatch.setattr(rings, "_call", broken)
            with pytest.raises(KeyboardInterrupt):
                ring.send([(numbers, b"old" * 100)])
            monkeypatch.setattr(rings, "_call", call)
            for at in range(40):
                pairs.read(at)
            data = b"%d" % turn
            assert ring.send([(numbers, data)]) == []
            assert {pairs.read(at) for at in range(40)} == {data}
    ring.close()


@pytest.mark.parametrize("taken", [-1, 0, 7])
def test_what_the_kernel_has_no_room_for_is_written(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    ring = Ring.open()
    assert ring is not None
    call = rings._call
    monkeypatch.setattr(
        rings, "_call", lambda n, fd, count, *more: call(n, fd, taken, taken, 1) if taken > 0 else taken
    )
    with Pairs(40) as pairs:
        for turn in range(60):
            assert pairs.sent(ring.send, b"%d" % turn, b"second", b"") == []
            for at in range(40):
                pairs.check(at)
    ring.close()


def test_a_number_that_is_nobodys_is_gone(send: Send) -> None:
    with Pairs(FEW + 1) as pairs:
        ours, theirs = pairs.pairs.pop()
        closed = ours.fileno()
        ours.close()
        theirs.close()
        numbers = [ours.fileno() for ours, _ in pairs.pairs]
        assert send([([closed, *numbers, closed], b"x")]) == [(closed, GONE), (closed, GONE)]
        for at in range(FEW):
            assert pairs.read(at) == b"x"


def test_nobody_is_sent_to(send: Send) -> None:
    assert send([]) == []
    assert send([([], b"x")]) == []


def descriptors() -> set[int]:
    return {int(handle.name) for handle in Path("/proc/self/fd").iterdir()}


def test_what_a_ring_takes_it_gives_back() -> None:
    before = descriptors()
    ring = Ring.open()
    assert ring is not None
    with Pairs(1) as pairs:
        pairs.sent(ring.send, b"x")
        pairs.check(0)
    ring.close()
    assert descriptors() == before


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_where_there_are_not_enough_descriptors_there_is_no_ring(ring: Ring, spare: int) -> None:
    """It takes three: its own, and one for each mapping."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    while fillers[-1] < max(before):
        fillers.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + spare, limits[1]))
    try:
        assert Ring.open() is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for filler in fillers:
            os.close(filler)
    assert descriptors() == before, "what it had taken is given back"


def rings_of(server: Server) -> int:
    links = [handle.readlink() for handle in Path(f"/proc/{server.pid}/fd").iterdir() if handle.is_symlink()]
    return sum("io_uring" in str(link) for link in links)


@pytest.mark.parametrize("forbidden", [False, True])
async def test_a_server_with_a_ring_and_one_that_may_not_have_one(http: aiohttp.ClientSession, forbidden: bool) -> None:
    prefix = (sys.executable, str(ROOT / "tests/support/without_io_uring.py")) if forbidden else ()
    with Server.serving(prefix=prefix) as server:
        assert bool(rings_of(server)) == (Ring.open() is not None and not forbidden)
        clients = [PlainClient(server.port).connect() for _ in range(3 * FEW)]
        for n in range(20):
            await dispatch(http, server.url, "board/filled", {"size": 1 + 9_999 * (n % 2)})
        truth = await get_state(http, server.url)
        for client in clients:
            client.read_to(truth["position"])
            assert client.state == truth["slices"]
            client.cut()
        assert server.stop() == ""
