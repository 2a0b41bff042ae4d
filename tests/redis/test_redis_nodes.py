"""Two servers on one Redis, seen by plain clients, while bad days happen to Redis, to a node and to the wake-ups."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from tests.support import PlainClient, Server, dispatch, eventually, get_state
from tests.support.cutting import Proxy
from tests.support.redis_server import DURABLE, RedisServer
from tests.support.typed import free_port

Http = aiohttp.ClientSession
Nodes = tuple[Server, Server]


@contextmanager
def serving(redis: RedisServer) -> Iterator[Nodes]:
    """Two nodes."""
    with Server.serving(journal=redis.url) as one, Server.serving(journal=redis.url) as other:
        yield one, other


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """For tests that leave both nodes and their Redis as they are."""
    with RedisServer() as redis, serving(redis) as running:
        yield running


@pytest.fixture
def mortal_nodes(redis_server: RedisServer) -> Iterator[Nodes]:
    """On a server that keeps nothing over a restart, unless it is told to SAVE."""
    with serving(redis_server) as running:
        yield running


@pytest.fixture
def durable_nodes(durable_redis: RedisServer) -> Iterator[Nodes]:
    with serving(durable_redis) as running:
        yield running


async def counted(http: Http, server: Server, id: str | None = None) -> Any:
    """The answer to a dispatch that succeeds."""
    status, body = await dispatch(http, server.url, "board/counted", **({"id": id} if id else {}))
    assert status == 200, body
    return body


async def shown(http: Http, server: Server, count: int) -> None:
    async def is_so() -> bool:
        state = await get_state(http, server.url)
        return bool(state["slices"]["board"]["count"] == count)

    await eventually(is_so)


async def count_at(http: Http, server: Server) -> int:
    return int((await get_state(http, server.url))["slices"]["board"]["count"])


async def test_what_one_node_writes_the_readers_of_the_other_see(nodes: Nodes, http: Http) -> None:
    before = await count_at(http, nodes[1])
    with PlainClient(nodes[1].port) as reader:
        next(reader.frames())
        for number in range(1, 6):
            body = await counted(http, nodes[number % 2])
            reader.read_to(body["position"])
            assert reader.state["board"]["count"] == before + number
        assert reader.reasons == ["start"]


async def test_a_client_continues_on_the_other_node_with_its_cursor(nodes: Nodes, http: Http) -> None:
    one, other = nodes
    reader = PlainClient(one.port).connect()
    next(reader.frames())
    body = await counted(http, one)
    reader.read_to(body["position"])
    count = reader.state["board"]["count"]
    reader.cut()
    for _ in range(3):
        body = await counted(http, one)
    reader.port = other.port
    reader.connect()
    reader.read_to(body["position"])
    assert reader.state["board"]["count"] == count + 3
    assert reader.reasons == ["start"], "no snapshot was needed"
    reader.close()


async def test_an_id_takes_effect_once_whichever_node_it_is_sent_to(nodes: Nodes, http: Http) -> None:
    one, other = nodes
    first = await counted(http, one, "once")
    count = await count_at(http, one)
    again = await counted(http, other, "once")
    assert again == first | {"duplicate": True}
    both = await asyncio.gather(*(counted(http, node, "at-the-same-time") for node in nodes * 4))
    assert len({body["position"] for body in both}) == 1
    assert [body["duplicate"] for body in both].count(False) == 1
    for node in nodes:
        await shown(http, node, count + 1)


async def test_writers_on_both_nodes_lose_nothing_to_each_other(nodes: Nodes, http: Http) -> None:
    readers = [PlainClient(node.port).connect() for node in nodes]
    for reader in readers:
        next(reader.frames())
    before = readers[0].state["board"]["count"]
    each = 40

    async def write(node: Server) -> str:
        for _ in range(each):
            body = await counted(http, node)
        return str(body["position"])

    positions = await asyncio.gather(*(write(node) for node in nodes for _ in range(3)))
    last = max(positions, key=lambda position: int(position.split(".")[0]))
    for reader in readers:
        reader.read_to(last)
        assert reader.state["board"]["count"] == reader.state["counter"] == before + 6 * each
        reader.close()


async def test_a_node_that_was_frozen_writes_nothing_at_a_wrong_place(nodes: Nodes, http: Http) -> None:
    """It is stopped while it writes. What it goes on with is based on an old state."""
    one, other = nodes
    assert one.process
    before = await count_at(http, other)
    writes = [asyncio.create_task(counted(http, one, f"frozen-{number}")) for number in range(20)]
    await asyncio.sleep(0)
    one.process.send_signal(signal.SIGSTOP)
    for _ in range(10):
        await counted(http, other)
    one.process.send_signal(signal.SIGCONT)
    await asyncio.gather(*writes)
    for node in nodes:
        await shown(http, node, before + 30)


Load = tuple[set[str], list[Any], asyncio.Event]
"""The ids that were acknowledged, the answers that said 503, and what ends it."""


async def write_on(http: Http, node: Server, name: str, load: Load) -> None:
    """Adds tasks one after the other, each until it is acknowledged."""
    acknowledged, refused, stop = load
    number = 0
    while not stop.is_set():
        id = f"{name}-{number}"
        payload = {"type": "board/task_added", "payload": {"id": id, "title": "t"}, "id": id}
        async with http.post(f"{node.url}/dispatch", json=payload) as response:
            body = await response.json()
            if response.status == 503:
                assert float(response.headers["Retry-After"]) > 0
                refused.append(body)
                await asyncio.sleep(0.05)
                continue
            assert response.status == 200, body
        acknowledged.add(id)
        number += 1


async def test_redis_is_killed_under_load_and_nothing_acknowledged_is_lost(
    durable_redis: RedisServer, durable_nodes: Nodes, http: Http
) -> None:
    readers = [PlainClient(node.port).connect() for node in durable_nodes]
    for reader in readers:
        next(reader.frames())
    acknowledged: set[str] = set()
    refused: list[Any] = []
    stop = asyncio.Event()
    writers = [
        asyncio.create_task(write_on(http, node, f"w{number}", (acknowledged, refused, stop)))
        for number, node in enumerate(durable_nodes * 4)
    ]
    for _ in range(3):
        enough = len(acknowledged) + 40
        await eventually(lambda enough=enough: len(acknowledged) >= enough, seconds=60)
        durable_redis.kill()
        before = len(refused)
        await eventually(lambda before=before: len(refused) > before, seconds=30)
        await eventually(lambda: is_unready(http, durable_nodes[0]))
        assert (await get_state(http, durable_nodes[0].url))["slices"]["board"]["tasks"], "reading goes on"
        durable_redis.start()
    enough = len(acknowledged) + 40
    await eventually(lambda: len(acknowledged) >= enough, seconds=60)
    stop.set()
    await asyncio.gather(*writers)
    last = await counted(http, durable_nodes[0])
    for reader in readers:
        reader.read_to(last["position"])
        present = [task["id"] for task in reader.state["board"]["tasks"]]
        assert acknowledged <= set(present), f"lost: {acknowledged - set(present)}"
        assert len(present) == len(set(present)), "something took effect twice"
        assert reader.reasons == ["start"], "the stream stayed open, and went on where it was"
        reader.close()
    assert {body["code"] for body in refused} == {"unavailable"}


@pytest.mark.slow
async def test_nodes_are_killed_under_load_and_nothing_happens_twice(redis_server: RedisServer, http: Http) -> None:
    """Each writer goes to whichever node answers, with the id of the request that it has no answer to."""
    acknowledged: set[str] = set()
    stop = asyncio.Event()
    with serving(redis_server) as nodes:

        async def write(name: str, chance: random.Random) -> None:
            number = 0
            while not stop.is_set():
                id = f"{name}-{number}"
                node = chance.choice(nodes)
                try:
                    status, body = await dispatch(http, node.url, "board/task_added", {"id": id, "title": "t"}, id=id)
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0.01)  # the node is being started again: nothing tells a client when
                    continue
                assert status == 200, body
                acknowledged.add(id)
                number += 1

        readers = [PlainClient(node.port).connect() for node in nodes]
        for reader in readers:
            next(reader.frames())
        writers = [asyncio.create_task(write(f"w{number}", random.Random(number))) for number in range(8)]
        for number in range(6):
            enough = len(acknowledged) + 30
            await eventually(lambda enough=enough: len(acknowledged) >= enough, seconds=60)
            node, reader = nodes[number % 2], readers[number % 2]
            node.kill()
            node.start()
            reader.connect()
        stop.set()
        await asyncio.gather(*writers)
        last = await counted(http, nodes[0])
        for reader in readers:
            reader.read_to(last["position"])
            present = [task["id"] for task in reader.state["board"]["tasks"]]
            assert acknowledged <= set(present), f"lost: {acknowledged - set(present)}"
            assert len(present) == len(set(present)), "something took effect twice"
            assert set(reader.reasons) <= {"start", "lagged"}, "resumed over every crash"
            reader.close()


async def test_after_flushall_every_client_is_told(redis_server: RedisServer, mortal_nodes: Nodes, http: Http) -> None:
    readers = [PlainClient(node.port).connect() for node in mortal_nodes]
    for reader in readers:
        next(reader.frames())
    for _ in range(3):
        body = await counted(http, mortal_nodes[0])
    for reader in readers:
        reader.read_to(body["position"])
    redis_server("FLUSHALL")
    for reader in readers:
        reader.read_until(lambda frame: frame.event == "state.initial")
        while "board" not in reader.state or "counter" not in reader.state:  # one of the nodes begins the new history
            next(reader.frames())
        assert set(reader.reasons) == {"start", "forked"}
        assert (reader.state["board"]["count"], reader.state["counter"]) == (0, 0)
    body = await counted(http, mortal_nodes[1])
    for reader in readers:
        reader.read_to(body["position"])
        assert reader.state["board"]["count"] == 1
        reader.close()
    old = PlainClient(mortal_nodes[0].port).connect(cursor="5.abcdefgh")
    assert next(old.frames()).data["reason"] == "forked"
    old.close()


async def test_after_a_lost_tail_every_client_is_told(
    redis_server: RedisServer, mortal_nodes: Nodes, http: Http
) -> None:
    """As after a failover to a replica that was behind, or a restored backup."""
    readers = [PlainClient(node.port).connect() for node in mortal_nodes]
    for reader in readers:
        next(reader.frames())
    kept = await counted(http, mortal_nodes[0], "kept")
    redis_server("SAVE")
    for number in range(3):
        lost = await counted(http, mortal_nodes[0], f"lost-{number}")
    for reader in readers:
        reader.read_to(lost["position"])
        assert reader.state["board"]["count"] == 4
    redis_server.kill()
    redis_server.start()
    for reader in readers:
        reader.read_until(lambda frame: frame.event == "state.initial")
        assert reader.reasons == ["start", "forked"]
        assert reader.state["board"]["count"] == 1
        assert reader.last_id == kept["position"] or reader.versions["board"] <= int(kept["position"].split(".")[0])
        reader.close()
    assert (await counted(http, mortal_nodes[1], "kept"))["duplicate"]
    assert not (await counted(http, mortal_nodes[1], "lost-0"))["duplicate"], "it is lost, and takes effect now"
    late = PlainClient(mortal_nodes[1].port).connect(cursor=lost["position"])
    assert next(late.frames()).data["reason"] == "forked"
    late.close()


async def test_a_batch_costs_one_round_trip_if_nobody_else_writes_to_its_slices(
    redis_server: RedisServer, http: Http
) -> None:
    with Server.serving(journal=redis_server.url) as server:
        await counted(http, server, id="first")
        redis_server("CONFIG", "RESETSTAT")
        for number in range(50):
            await counted(http, server, id=f"id-{number}")
        found = redis_server("INFO", "commandstats")
    sent = sum(found[f"cmdstat_{name}"]["calls"] for name in ("evalsha", "xread"))
    assert 50 <= sent < 75, "what looks for the changes of others is in between"


@pytest.mark.parametrize("lost", [1.0, 0.1, 0.5], ids=lambda lost: f"{lost:.0%}")
async def test_readers_are_current_within_a_second_if_wake_ups_are_lost(
    redis_server: RedisServer, mortal_nodes: Nodes, http: Http, lost: float
) -> None:
    """Whoever waits for changes is cut off before some of them, so that polling has to notice it."""
    one, other = mortal_nodes

    def cut() -> None:
        """Both nodes: a node that was cut off waits again only after it has polled."""
        cuts = 0
        while cuts < 2:
            for line in redis_server("CLIENT", "LIST", "TYPE", "normal").decode().splitlines():
                fields = dict(field.split("=", 1) for field in line.split())
                if fields["cmd"] == "xread":
                    redis_server("CLIENT", "KILL", "ID", fields["id"])
                    cuts += 1

    with PlainClient(other.port) as reader:
        next(reader.frames())
        slowest = 0.0
        for number in range(1, 4 if lost == 1 else 11):
            if int(number * lost) > int((number - 1) * lost):
                await asyncio.to_thread(cut)
            began = time.monotonic()
            body = await counted(http, one)
            await asyncio.to_thread(reader.read_to, body["position"])
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 3, f"{slowest:.2f} s: half a second, and what a busy machine adds"


def test_a_server_that_cannot_be_used_is_explained_without_the_password() -> None:
    with RedisServer(password="s3cret") as redis:
        for url, sentence in (
            (f"redis://:wrong-s3cret@127.0.0.1:{redis.port}", "refuses the journal's user name or password"),
            (f"redis://:s3cret@127.0.0.1:{free_port()}", "cannot be reached"),
            (f"redis://:s3cret@127.0.0.1:{redis.port}/0?namespace=a b", "namespace"),
        ):
            with pytest.raises(RuntimeError) as ended:
                Server.serving(journal=url).start()
            assert sentence in str(ended.value)
            assert "s3cret" not in str(ended.value)
            assert "Traceback" not in str(ended.value)


async def ready(http: Http, node: Server) -> bool:
    async with http.get(f"{node.url}/health/ready") as response:
        return response.status == 200


async def is_unready(http: Http, node: Server) -> bool:
    return not await ready(http, node)


@pytest.mark.slow
async def test_a_network_that_swallows_everything_is_noticed_and_so_is_its_return(
    redis_server: RedisServer, http: Http
) -> None:
    """Between a node and Redis: connections stay open, and nothing arrives any more."""
    async with Proxy(redis_server.port) as network:
        node = Server.serving(journal=f"redis://{network.url.removeprefix('http://')}")
        await asyncio.to_thread(node.start)
        reader = PlainClient(node.port).connect()
        first = await counted(http, node)
        assert await ready(http, node)
        network.swallow = "all"
        status, body = await dispatch(http, node.url, "board/counted", id="swallowed")
        assert (status, body["code"]) == (503, "unavailable")
        assert not await ready(http, node)
        assert (await get_state(http, node.url))["slices"]["board"]["count"] == 1, "reading goes on"
        network.swallow = "nothing"

        async def accepted() -> Any:
            status, body = await dispatch(http, node.url, "board/counted", id="swallowed")
            return body if status == 200 else None

        again = await eventually(accepted, seconds=30)
        await eventually(lambda: ready(http, node), seconds=30)
        await asyncio.to_thread(reader.read_to, again["position"])
        assert reader.state["board"]["count"] == 2, (
            "whether it was swallowed on its way there or back, it took effect once"
        )
        assert int(again["position"].split(".")[0]) > int(first["position"].split(".")[0])
        assert reader.reasons == ["start"]
        reader.close()
        await asyncio.to_thread(node.stop)


async def replicating(replica: RedisServer, primary: RedisServer) -> None:
    replica("REPLICAOF", "127.0.0.1", primary.port)
    await eventually(lambda: replica("INFO", "replication")["master_link_status"] == "up")


@pytest.mark.slow
async def test_a_failover_loses_nothing_that_the_replica_has_received(http: Http) -> None:
    """The primary is killed and the replica promoted. The address leads there from then on, as a virtual IP does."""
    acknowledged: set[str] = set()
    refused: list[Any] = []
    stop = asyncio.Event()
    with RedisServer(*DURABLE) as primary, RedisServer(*DURABLE) as replica, RedisServer(*DURABLE) as third:
        await replicating(replica, primary)
        async with Proxy(primary.port) as address:
            journal = f"redis://{address.url.removeprefix('http://')}/0?wait=1"
            nodes = [Server.serving(journal=journal) for _ in range(2)]
            for node in nodes:
                await asyncio.to_thread(node.start)
            readers = [PlainClient(node.port).connect() for node in nodes]
            writers = [
                asyncio.create_task(write_on(http, node, f"w{number}", (acknowledged, refused, stop)))
                for number, node in enumerate(nodes * 4)
            ]
            await eventually(lambda: len(acknowledged) > 100, seconds=60)
            await asyncio.to_thread(primary.kill)
            await eventually(lambda: bool(refused), seconds=30)
            replica("REPLICAOF", "NO", "ONE")
            await replicating(third, replica)
            address._port = replica.port
            enough = len(acknowledged) + 100
            await eventually(lambda: len(acknowledged) > enough, seconds=60)
            stop.set()
            await asyncio.gather(*writers)
            last = await counted(http, nodes[0])
            for reader in readers:
                await asyncio.to_thread(reader.read_to, last["position"])
                present = [task["id"] for task in reader.state["board"]["tasks"]]
                assert acknowledged <= set(present), f"lost: {acknowledged - set(present)}"
                assert len(present) == len(set(present)), "something took effect twice"
                reader.close()
            for node in nodes:
                await asyncio.to_thread(node.stop)
