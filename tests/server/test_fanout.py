"""Many readers: what they share, what they cost each other, and what the server counts of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state

Http = aiohttp.ClientSession


@pytest.fixture
def descriptors() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def joined(server: Server, count: int, query: str = "slices=*") -> list[PlainClient]:
    """All connect before anybody is answered."""
    clients = [PlainClient(server.port, query) for _ in range(count)]
    for client in clients:
        client.dial()
    for client in clients:
        client.ask()
    for client in clients:
        client.answered()
    return clients


async def bulk(http: Http, server: Server, count: int) -> str:
    """More changes than a server that starts takes into memory. Gives the last position."""
    for _ in range(count // 500):
        actions = [{"type": "room/joined", "payload": {"name": "x"}, "key": str(n % 5)} for n in range(500)]
        async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
            position: str = (await response.json())["position"]
    return position


@pytest.mark.slow
async def test_readers_that_come_back_with_one_cursor_share_the_reading_of_the_journal(
    tmp_path: Path, http: Http
) -> None:
    env = {"JOURNAL": str(tmp_path / "j.db"), "PYTHONPATH": str(ROOT)}
    with Server.serving(f"{ROOT / 'tests/apps/counting.py'}:app", env=env) as server:
        await dispatch(http, server.url, "board/filled", {"size": 200_000})
        gone = PlainClient(server.port).connect()
        next(gone.frames())
        gone.close()
        last = await bulk(http, server, 4_000)
        server.stop()
        server.start()
        clients = [PlainClient(server.port) for _ in range(60)]
        for client in clients:
            client.last_id, client.state, client.versions = gone.last_id, dict(gone.state), dict(gone.versions)
            client.dial()
        for client in clients:
            client.ask(gone.last_id)
        truth = await get_state(http, server.url)
        for client in clients:
            client.answered()
            await asyncio.to_thread(client.read_to, last)
            assert client.state == truth["slices"]
            client.cut()
        async with http.get(f"{server.url}/reads") as response:
            reads = await response.json()
        assert await server.metric(http, 'streams_began_total{opening="resumed"}') == 60
        assert reads < 20, "a few pages, not a few pages a reader"


@pytest.mark.long
async def test_more_readers_than_one_audience_has_room_for(descriptors: None, server: Server, http: Http) -> None:
    """They receive exactly the same, although it is written in several iterations of the event loop."""
    clients = await asyncio.to_thread(joined, server, 2_200)
    for n in range(8):
        await dispatch(http, server.url, "board/task_added", {"id": str(n), "title": "t"})
    truth = await get_state(http, server.url)
    for client in clients:
        client.read_to(truth["position"])
        assert client.state == truth["slices"]
        assert client.reasons == ["start"]
    deliveries = await server.metric(http, "deliveries_total")
    assert 0 < deliveries <= 2_200 * 8, "who falls behind on a busy machine gets one frame for several changes"
    for client in clients[:1_500]:
        client.cut()
    await eventually(lambda: has(http, server, "subscribers", 700))
    late = await asyncio.to_thread(joined, server, 900)
    await dispatch(http, server.url, "board/counted")
    truth = await get_state(http, server.url)
    for client in [*clients[1_500:], *late]:
        client.read_to(truth["position"])
        assert client.state == truth["slices"]
        client.cut()


async def has(http: Http, server: Server, name: str, wanted: float) -> bool:
    return await server.metric(http, name) == wanted


async def test_a_thousand_chats_do_not_hear_of_each_other(descriptors: None, server: Server, http: Http) -> None:
    clients = [PlainClient(server.port, f"slices=room/{n}").connect() for n in range(300)]
    for client in clients:
        next(client.frames())
    before = await server.metric(http, "deliveries_total")
    for n in range(0, 300, 50):
        await dispatch(http, server.url, "room/joined", {"name": "x"}, key=str(n))
    for n in range(0, 300, 50):
        assert clients[n].read_until(lambda frame: frame.event == "state.update")[-1].data["slice"] == f"room/{n}"
    assert await server.metric(http, "deliveries_total") - before == 6
    for client in clients:
        client.cut()


async def test_a_change_for_several_audiences_reaches_each_whatever_others_do(
    each_mode: str, server: Server, http: Http
) -> None:
    """One call sends to all of them. In each audience, one reader is frozen, and another leaves in the middle."""
    queries = ("slices=board", "slices=board,counter", "slices=board&cause=full")
    frozen, leaving, *reading = zip(*(joined(server, 6, query) for query in queries), strict=True)
    for n in range(40):
        await dispatch(http, server.url, "board/filled", {"size": 150_000 + n})
        if n == 20:
            for client in leaving:
                client.cut()
        if n % 10 == 9:
            truth = await get_state(http, server.url)
            await asyncio.to_thread(all_read_to, truth["position"], [each for several in reading for each in several])
    await eventually(lambda: has(http, server, "subscribers_behind", 3))
    await asyncio.to_thread(all_read_to, truth["position"], frozen)
    for client in (each for several in (frozen, *reading) for each in several):
        assert client.state["board"] == truth["slices"]["board"]
        client.cut()


def all_read_to(position: str, clients: Iterable[PlainClient]) -> None:
    for client in clients:
        client.read_to(position)


async def test_what_became_of_slow_readers_is_counted(server: Server, http: Http) -> None:
    slow = PlainClient(server.port).connect()
    next(slow.frames())
    for n in range(100):
        await dispatch(http, server.url, "board/filled", {"size": 100_000 + n})
    await eventually(lambda: has(http, server, "subscribers_behind", 1))
    truth = await get_state(http, server.url)
    await asyncio.to_thread(slow.read_to, truth["position"])
    await eventually(lambda: has(http, server, "subscribers_behind", 0))
    lagged = [await server.metric(http, f'streams_lagged_total{{by="{by}"}}') for by in ("catchup", "initial")]
    assert sum(lagged) >= 1
    slow.cut()
    await eventually(lambda: has(http, server, "subscribers", 0))


@pytest.mark.slow
async def test_the_end_reaches_every_reader_and_waits_for_no_frozen_one(server: Server, http: Http) -> None:
    clients = await asyncio.to_thread(joined, server, 300)
    frozen = PlainClient(server.port).connect()
    reading = [asyncio.create_task(asyncio.to_thread(lambda c=c: list(c.frames())[-1])) for c in clients[:5]]
    # who is behind gets one frame for several changes, so how many changes fill a socket depends on the machine
    for n in itertools.count():
        await dispatch(http, server.url, "board/filled", {"size": 100_000 + n})
        if n >= 100 and await has(http, server, "subscribers_behind", 296):
            break
    began = time.monotonic()
    await asyncio.to_thread(server.stop)
    assert time.monotonic() - began < 15.0  # a bound on a hang, not on speed
    for last in await asyncio.gather(*reading):
        assert last.data["reason"] == "shutdown"
    for client in [*clients, frozen]:
        client.cut()


HOLD = """
import socket, sys, time
connection = socket.create_connection(("10.77.0.1", int(sys.argv[1])))
connection.sendall(b"GET /stream/state HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
connection.recv(100)
print("connected", flush=True)
time.sleep(600)
"""


@pytest.fixture
def far_away() -> Iterator[str]:
    """A network name space with one wire to this one, 10.77.0.2 there and 10.77.0.1 here."""
    name = f"ss{os.getpid()}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b netns {name}",
        f"ip addr add 10.77.0.1/30 dev {name}a",
        f"ip link set {name}a up",
        f"ip -n {name} addr add 10.77.0.2/30 dev {name}b",
        f"ip -n {name} link set {name}b up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network name space, which takes root")
async def test_a_wire_that_is_cut_is_noticed(each_mode: str, far_away: str, http: Http) -> None:
    """Nobody says goodbye: what is not acknowledged for 30 s ends the connection."""
    env = {"HEARTBEAT": "1", "PYTHONPATH": str(ROOT)}
    with Server("serve", f"{ROOT / 'tests/apps/quick.py'}:app", "--host", "0.0.0.0", "--insecure", env=env) as server:
        command = ["ip", "netns", "exec", far_away, sys.executable, "-c", HOLD, str(server.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout
            assert client.stdout.readline() == b"connected\n"
            assert await has(http, server, "subscribers", 1)
            subprocess.run(["ip", "link", "set", f"{far_away}a", "down"], check=True)
            await eventually(lambda: has(http, server, "subscribers", 0), seconds=60)
            reason = "left" if each_mode == "on transports" else "lost"  # a transport does not tell which
            assert await has(http, server, f'streams_ended_total{{reason="{reason}"}}', 1)
            client.kill()


def followed(client: PlainClient, everything: dict[str, Any]) -> dict[str, Any]:
    names = client.target.partition("slices=")[2].split(",")
    return {name: value for name, value in everything.items() if "*" in names or name in names}


class Churn:
    """A crowd in one thread: some read, some freeze, some are cut and come back, some leave for good."""

    def __init__(self, port: int, seed: int, size: int) -> None:
        self.port, self.chance = port, random.Random(seed)
        self.clients = [self.newcomer() for _ in range(size)]
        self.did: Counter[str] = Counter()

    def newcomer(self) -> PlainClient:
        return PlainClient(self.port, self.chance.choice(["slices=*", "slices=board", "slices=room/1,counter"]))

    def step(self) -> None:
        at = self.chance.randrange(len(self.clients))
        client = self.clients[at]
        what = self.chance.choices(["read", "cut", "half", "shout", "leave"], [40, 4, 2, 2, 2])[0]
        if client.socket is None:
            what = "connect"
            client.connect(timeout=60)
        elif what == "read":
            client.socket.settimeout(0.002)
            client.read_some(self.chance.randrange(1, 200_000))
            if client.socket:
                client.socket.settimeout(20.0)
        elif what == "cut":
            client.cut()
        elif what == "half":
            client.socket.shutdown(socket.SHUT_WR)
            for _ in client.frames():
                pass
            client.close()
        elif what == "shout":
            client.socket.sendall(b"x" * self.chance.randrange(1, 5_000))
        else:
            client.close()
            self.clients[at] = self.newcomer()
        self.did[what] += 1

    def run(self, until: float) -> None:
        while time.monotonic() < until:
            self.step()

    def at_end(self, client: PlainClient, position: str) -> bool:
        """Reads to there; False where the stream ended before."""
        try:
            client.read_to(position)
        except AssertionError:
            return False
        return True

    def settle(self, truth: Any) -> None:
        """Everybody who is here reads to the end, and has what the server has."""
        for client in self.clients:
            while client.socket is None or not self.at_end(client, truth["position"]):
                client.connect()  # one that was not read for 30 s was cut meanwhile
            assert client.state == followed(client, truth["slices"])
            assert client.versions == followed(client, truth["versions"])
            assert set(client.reasons) <= {"start", "lagged"}
            client.cut()


@pytest.mark.soak
async def test_a_crowd_that_comes_and_goes(each_mode: str, tmp_path: Path, http: Http) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "120"))
    seed = random.SystemRandom().randrange(2**32)
    over = asyncio.Event()

    async def write(n: int) -> None:
        while not over.is_set():
            await dispatch(http, server.url, "board/filled", {"size": n * 1_000 + random.randrange(9)})
            await dispatch(http, server.url, "room/joined", {"name": "x" * 50}, key=str(n % 3))
            await dispatch(http, server.url, "board/counted")
            if random.random() < 0.02:
                await dispatch(http, server.url, "room/closed", key=str(n % 3))

    with Server.serving(journal=f"sqlite:///{tmp_path / 'j.db'}") as server:
        handles = Path(f"/proc/{server.pid}/fd")
        await get_state(http, server.url)  # what it opens for itself is open now
        before = len(list(handles.iterdir()))
        crowds = [Churn(server.port, seed + n, 60) for n in range(4)]
        writers = [asyncio.create_task(write(n)) for n in range(4)]
        until = time.monotonic() + seconds
        await asyncio.gather(*(asyncio.to_thread(crowd.run, until) for crowd in crowds))
        over.set()
        await asyncio.gather(*writers)
        truth = await get_state(http, server.url)
        for crowd in crowds:
            await asyncio.to_thread(crowd.settle, truth)
        await eventually(lambda: has(http, server, "subscribers", 0))
        await eventually(lambda: len(list(handles.iterdir())) <= before + 2)
        did = sum((crowd.did for crowd in crowds), Counter())
        print(f"{each_mode}: seed {seed}, {truth['position']}, {dict(did)}")
        assert server.stop() == ""
