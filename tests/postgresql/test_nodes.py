"""Several servers on one PostgreSQL database, as their clients see them; and what happens when the database fails."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.support import PlainClient, Server, dispatch, eventually, get_state
from tests.support.postgresql import PostgreSQL, Relay, failing_over, shared

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Server]]:
    """Two servers on one database, which the tests share."""
    url = shared().new_url()
    with Server.serving(journal=url) as one, Server.serving(journal=url) as other:
        yield one, other


async def counted(http: Http, server: Server, **more: Any) -> Any:
    status, body = await dispatch(http, server.url, "board/counted", **more)
    assert status == 200, body
    return body


async def count_of(http: Http, server: Server) -> int:
    """The count of the board after one more, so that the node has read what others have written."""
    await counted(http, server)
    return int((await get_state(http, server.url))["slices"]["board"]["count"])


async def test_what_is_dispatched_on_one_node_arrives_on_the_other(http: Http, pair: tuple[Server, Server]) -> None:
    here, there = pair
    before = await count_of(http, here)
    with PlainClient(there.port) as reader:
        for number in range(1, 6):
            body = await counted(http, here)
            await asyncio.to_thread(reader.read_to, body["position"])
            assert reader.state["board"]["count"] == before + number


async def test_a_batch_costs_one_round_trip_if_nobody_else_writes_to_its_slices(http: Http) -> None:
    url = shared().new_url()
    async with Relay(shared()) as relay:
        through = url.replace(f":{shared().port}/", f":{relay.port}/")
        server = await asyncio.to_thread(Server.serving(journal=through).start)
        try:
            await counted(http, server, id="first")
            before = relay.requests
            for number in range(50):
                await counted(http, server, id=f"id-{number}")
            spent = relay.requests - before
        finally:
            await asyncio.to_thread(server.stop)
    assert 50 <= spent < 75, "what looks for the changes of others is in between"


async def test_a_client_continues_on_another_node_with_its_cursor(http: Http) -> None:
    url = shared().new_url()
    with Server.serving(journal=url) as here, Server.serving(journal=url) as there:
        reader = PlainClient(here.port).connect()
        await asyncio.to_thread(reader.read_to, (await counted(http, here))["position"])
        here.kill()
        body = await counted(http, there)
        reader.port = there.port
        reader.connect()
        await asyncio.to_thread(reader.read_to, body["position"])
        assert (reader.state["board"]["count"], reader.reasons) == (2, ["start"]), "resumed, without a new snapshot"
        assert reader.state == (await get_state(http, there.url))["slices"]
        reader.close()


async def test_a_retry_on_another_node_is_answered_with_the_first_result(
    http: Http, pair: tuple[Server, Server]
) -> None:
    here, there = pair
    before = await count_of(http, there)
    first, again = await counted(http, here, id="once"), await counted(http, there, id="once")
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert again["position"] == first["position"]
    both = [counted(http, server, id="twice") for _ in range(5) for server in pair]
    answers = await asyncio.gather(*both)
    assert len({answer["position"] for answer in answers}) == 1
    assert (await get_state(http, there.url))["slices"]["board"]["count"] == before + 2


async def test_the_losers_of_conflicts_run_again_and_nothing_is_lost(http: Http, pair: tuple[Server, Server]) -> None:
    before = await count_of(http, pair[0])
    readers = [PlainClient(server.port).connect() for server in pair]

    async def caller(server: Server) -> str:
        for _ in range(15):
            body = await counted(http, server)
        return str(body["position"])

    ends = await asyncio.gather(*(caller(server) for server in pair for _ in range(4)))
    last = max(ends, key=lambda position: int(position.split(".")[0]))
    for reader in readers:
        await asyncio.to_thread(reader.read_to, last)
        assert reader.state["board"]["count"] == reader.state["counter"] == before + 120
        reader.close()
    assert readers[0].applied[-9:] == readers[1].applied[-9:]


async def test_a_node_that_was_frozen_continues_at_the_right_place(http: Http, pair: tuple[Server, Server]) -> None:
    here, there = pair
    before = await count_of(http, here)
    os.kill(there.pid, signal.SIGSTOP)
    late = [asyncio.create_task(counted(http, there, id=f"late-{number}")) for number in range(3)]
    try:
        for _ in range(20):
            await counted(http, here)
    finally:
        os.kill(there.pid, signal.SIGCONT)
    await asyncio.gather(*late)
    for server in pair:
        await eventually(lambda server=server: has_count(http, server, before + 23))


async def has_count(http: Http, server: Server, count: int) -> bool:
    return bool((await get_state(http, server.url))["slices"]["board"]["count"] == count)


async def test_listeners_that_are_ended_miss_nothing(http: Http, pair: tuple[Server, Server]) -> None:
    here, there = pair
    before = await count_of(http, here)
    with PlainClient(there.port) as reader:
        for _ in range(5):
            await shared().value(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'idle'"
                " AND query NOT LIKE '%append(%'"
            )
            body = await counted(http, here)
            await asyncio.to_thread(reader.read_to, body["position"])
        assert reader.state["board"]["count"] == before + 5


async def test_a_restored_backup_resets_every_reader(http: Http) -> None:
    """With pg_dump and psql, under the running servers."""
    url = shared().new_url()
    schema = url.partition("schema=")[2]
    with Server.serving(journal=url) as here, Server.serving(journal=url) as there:
        servers = (here, there)
        await counted(http, here)
        backup = shared().dumped(schema)
        readers = [PlainClient(server.port).connect() for server in servers]
        for _ in range(3):
            body = await counted(http, there)
        for reader in readers:
            await asyncio.to_thread(reader.read_to, body["position"])
        await shared().execute(f"DROP SCHEMA {schema} CASCADE")
        await asyncio.to_thread(shared().restore, backup)
        for server in servers:
            await eventually(lambda server=server: has_count(http, server, 1))
        status, body = await dispatch(http, here.url, "board/counted")
        assert status == 200, body
        for reader in readers:
            await asyncio.to_thread(reader.read_until, lambda frame: frame.id == body["position"])
            assert (reader.reasons, reader.state["board"]["count"]) == (["start", "forked"], 2)
            reader.close()


@asynccontextmanager
async def load(http: Http, servers: tuple[Server, ...], each: int = 3) -> AsyncIterator[dict[str, Any]]:
    """Callers who dispatch until the end of the block, each repeating a request until it is acknowledged.

    Yields what was acknowledged by its id, and under "refused" the answers that were refusals.
    """
    acknowledged: dict[str, Any] = {"refused": []}
    over = asyncio.Event()

    async def caller(server: Server, name: str) -> None:
        number = 0
        while not over.is_set():
            id = f"{name}-{number}"
            task = {"type": "board/task_added", "payload": {"id": id, "title": "t"}, "id": id}
            try:
                async with http.post(f"{server.url}/dispatch", json=task) as response:
                    body = await response.json()
            except (aiohttp.ClientError, OSError):
                server = next(each for each in servers if each is not server)  # as behind a load balancer
                continue
            if response.status == 200:
                acknowledged[id] = body["position"]
                number += 1
            else:
                acknowledged["refused"].append((response.status, response.headers.get("Retry-After")))
                await asyncio.sleep(0.02)

    names = [(server, f"{at}{number}") for at, server in enumerate(servers) for number in range(each)]
    callers = [asyncio.create_task(caller(*name)) for name in names]
    try:
        yield acknowledged
    finally:
        over.set()
        await asyncio.gather(*callers)


def reading(reader: PlainClient) -> asyncio.Task[Any]:
    """Reads in a thread until `ended` has been called."""
    done = lambda _: reader.state["counter"] == 1  # noqa: E731
    return asyncio.create_task(asyncio.to_thread(reader.read_until, done))


async def ended(http: Http, servers: tuple[Server, ...], readings: list[asyncio.Task[Any]]) -> list[dict[str, Any]]:
    """Counts once, which nobody else does, and returns the state of each node once it and its reader know."""
    await counted(http, servers[0], id="the-end")
    await asyncio.wait_for(asyncio.gather(*readings), 60)
    for server in servers:
        await eventually(lambda server=server: has_count(http, server, 1))
    return [(await get_state(http, server.url))["slices"] for server in servers]


def nothing_is_lost(done: Any, states: list[dict[str, Any]]) -> None:
    """Everything acknowledged is there once, wherever one looks."""
    for state in states:
        tasks = [task["id"] for task in state["board"]["tasks"]]
        assert len(tasks) == len(set(tasks)), "nothing twice"
        assert set(done) - {"refused"} <= set(tasks), "nothing lost"
        assert state == states[0]


async def none(database: PostgreSQL, query: str) -> bool:
    return bool(await database.value(query) == 0)


@pytest.mark.long
async def test_a_node_that_is_killed_under_load_loses_nothing(http: Http) -> None:
    url = shared().new_url()
    with Server.serving(journal=url) as one, Server.serving(journal=url) as other:
        reader = PlainClient(other.port).connect(timeout=60)
        following = reading(reader)
        async with load(http, (one, other), each=1) as done:
            for _ in range(3):
                before = len(done)
                await eventually(lambda before=before: len(done) > before + 20)
                one.kill()
                await asyncio.to_thread(one.start)
        assert not done["refused"]
        nothing_is_lost(done, [*await ended(http, (one, other), [following]), reader.state])
        assert reader.reasons == ["start"]
        reader.close()


@pytest.mark.long
async def test_a_database_that_is_killed_under_load_loses_nothing(http: Http) -> None:
    """kill -9 of all its processes; what it has flushed to the system survives that."""
    with PostgreSQL() as database:
        url = database.url()
        with Server.serving(journal=url) as one, Server.serving(journal=url) as other:
            servers = (one, other)
            readers = [PlainClient(server.port).connect(timeout=60) for server in servers]
            followings = list(map(reading, readers))
            async with load(http, servers) as done:
                for _ in range(3):
                    before = len(done)
                    await eventually(lambda before=before: len(done) > before + 20)
                    database.kill()
                    refused = len(done["refused"])
                    await eventually(lambda refused=refused: len(done["refused"]) > refused + 6)
                    await asyncio.to_thread(database.start)
                before = len(done)
                await eventually(lambda: len(done) > before + 20, seconds=20)
            assert {status for status, _ in done["refused"]} == {503}
            assert all(after for _, after in done["refused"]), "Retry-After"
            states = await ended(http, servers, followings)
            nothing_is_lost(done, [*states, *(reader.state for reader in readers)])
            assert [reader.reasons for reader in readers] == [["start"], ["start"]], "the streams stayed open"
            for reader in readers:
                reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "with a lost tail"])
async def test_a_failover_under_load(http: Http, synchronous: bool) -> None:
    """To a standby that has everything; or to one that has not, when every reader starts again from the same state."""
    with failing_over() as (primary, standby):
        url = primary.url().replace("/postgres", f",127.0.0.1:{standby.port}/postgres")
        with Server.serving(journal=url) as one, Server.serving(journal=url) as other:
            servers = (one, other)
            readers = [PlainClient(server.port).connect(timeout=60) for server in servers]
            followings = list(map(reading, readers))
            if synchronous:
                await primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
            async with load(http, servers) as done:
                await eventually(lambda: len(done) > 40)
                if not synchronous:
                    await standby.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
                    receivers = "SELECT count(*) FROM pg_stat_wal_receiver"
                    await eventually(lambda: none(standby, receivers))
                    before = len(done)
                    await eventually(lambda: len(done) > before + 20)
                primary.kill()
                await asyncio.to_thread(standby.promote)
                before = len(done)
                await eventually(lambda: len(done) > before + 20, seconds=30)
            assert {status for status, _ in done["refused"]} <= {503}
            states = await ended(http, servers, followings)
            assert all(state == states[0] for state in (*states, *(reader.state for reader in readers)))
            if synchronous:
                nothing_is_lost(done, states)
            for reader in readers:
                assert reader.reasons == ["start"] if synchronous else reader.reasons[-1] == "forked"
                reader.close()
