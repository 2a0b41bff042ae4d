"""Erasing from Redis: what is left on the server and in its files, what readers see meanwhile, and who finishes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import Any

import aiohttp
import pytest

from statestream.core.change import Change, Position
from statestream.core.erasing import without_erased
from statestream.core.errors import Unavailable
from statestream.journal import Retention
from statestream.journal.contract import Batch, Conflict, Duplicate
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal
from statestream.testing.journals import changes_after, entry, keep, patches, plain, raised, value, write
from tests.support import PlainClient, Server, dispatch, eventually, get_state
from tests.support.redis_journals import answers, key, opened, remove_shared, shared
from tests.support.redis_server import RedisServer

Http = aiohttp.ClientSession
CANARY = "canary-5d08ce"


def teardown_module() -> None:
    remove_shared()


def in_dump(server: RedisServer) -> bool:
    """Whether a dump has it that the server makes now."""
    server("SAVE")
    return CANARY.encode() in (server.folder / "dump.rdb").read_bytes()


def in_log(server: RedisServer) -> bool:
    """Whether the append-only file has it, in any of its parts, or is just being written."""
    try:
        return any(CANARY.encode() in path.read_bytes() for path in (server.folder / "appendonlydir").iterdir())
    except FileNotFoundError:
        return True


async def fill(journal: RedisJournal, count: int = 40, name: str = "r/1") -> None:
    """An instance with a secret between other changes, in nodes of the stream of all kinds."""
    state = await History(journal).load()
    head, versions = state.position, {each: one.version for each, one in state.slices.items()}
    for number in range(count):
        secret = f"{CANARY} {number} {'x' * (number % 5 * 700)}"
        room = patches(name, {"op": "add", "path": "/-", "value": secret}) if number % 3 else value(name, [secret])
        entries = [entry(value("a", number), room, id=f"{name} {head.seq}")]
        entries += [entry(value("b", f"{number} {other}")) for other in range(number % 7)]
        for each in entries:
            based_on = {change.slice: versions.get(change.slice, 0) for change in each.changes}
            [outcome] = await journal.append(Batch(read=head, versions=based_on, entries=[each]))
            head = outcome.position
            versions |= {change.slice: change.version for change in outcome.changes}
        if number % 10 == 0:
            await keep(journal)


async def every_change(journal: RedisJournal) -> list[Change]:
    return await changes_after(journal, await journal.earliest(), 9_999)


def expected(before: Iterable[Change], names: set[str]) -> list[Change]:
    """What is to be left of changes."""
    kept = list(before)
    replaced = without_erased(kept, names)
    return [replaced.get(change.version, change) for change in kept]


# files and memory


async def test_nothing_is_left_in_the_files_once_they_are_written_anew(durable_redis: RedisServer) -> None:
    journal = await opened(durable_redis, "a", Retention(changes=150, age=0.0))
    await fill(journal, 80)
    assert in_dump(durable_redis), "it would be found"
    assert in_log(durable_redis)
    before = await every_change(journal)
    earliest = await journal.earliest()
    assert earliest.seq > 0
    await journal.erase(["r/1"])
    assert not in_dump(durable_redis)
    await eventually(lambda: not in_log(durable_redis), seconds=30)
    assert (await every_change(journal))[:-1] == expected(before, {"r/1"})
    assert await journal.earliest() == earliest
    for _ in range(3):
        durable_redis("DEBUG", "RELOAD")  # the nodes of the stream stay as they are
        await fill(journal, 7)
        assert in_dump(durable_redis)
        await journal.erase(["r/1"])
        assert not in_dump(durable_redis)
    assert (await History(journal).load()).slices["b"].value == "6 5"
    await journal.close()


async def test_nothing_is_left_of_what_was_trimmed_before(redis_server: RedisServer) -> None:
    """Where a trim ends within a node of the stream."""
    journal = await opened(redis_server, "a")
    await write(journal, entry(value("r/1", CANARY)))
    await write(journal, entry(value("r/1", "another")))
    await keep(journal)
    await write(journal, entry(value("a", 1)))
    await journal.trim((await journal.checkpoints())[-1].position)
    await journal.erase(["r/1"])
    assert not in_dump(redis_server)
    assert [change.slice for change in await every_change(journal)] == ["a", "r/1"]
    await journal.close()


async def test_what_was_replaced_goes_when_it_is_trimmed() -> None:
    journal = await opened(shared(), "trimmed")
    await fill(journal)
    await journal.erase(["r/1"])
    assert shared()("ZCARD", key(journal, "replaced")) > 40
    assert shared()("ZCARD", key(journal, "erased")) == 1
    await journal.trim((await journal.checkpoints())[-1].position)
    assert shared()("ZCARD", key(journal, "erased")) == 1, "a checkpoint from before it could still be made"
    await keep(journal)
    await journal.trim(await journal.head())
    assert shared()("EXISTS", key(journal, "replaced"), key(journal, "erased")) == 0
    assert shared()("HEXISTS", key(journal, "meta"), "replaced") == 0
    await fill(journal)
    assert set((await History(journal).load()).slices) == {"a", "b", "r/1"}
    await journal.close()


async def test_older_code_does_not_open_what_was_erased_from() -> None:
    journal = await opened(shared(), "format")
    await write(journal, entry(value("r/1", 1)))
    assert shared()("HGET", key(journal, "meta"), "format") == b"1"
    await journal.erase(["r/1"])
    assert shared()("HGET", key(journal, "meta"), "format") == b"2", "it would take what was replaced for damage"
    await journal.close()


async def test_many_slices_are_erased_at_once_late_in_a_history() -> None:
    """In several chunks, with versions of more than 32 bits."""
    journal = await opened(shared(), "many")
    start = Position(seq=2**40, tag="start")
    await journal.begin_at(start, {})
    names = sorted(f"r/{number}" for number in range(200))
    [outcome] = await write(journal, entry(*(value(name, CANARY) for name in names[:-1])))
    versions = {change.slice: change.version for change in outcome.changes}
    assert (await journal.erase(names)) == await journal.head()
    changes = (await every_change(journal))[199:]
    assert [(c.slice, c.from_version, c.is_erasure) for c in changes] == [(n, versions.get(n, 0), True) for n in names]
    assert (await History(journal).load()).slices == {}
    assert CANARY not in repr(await every_change(journal))
    await journal.close()


# while an erasure is not finished


async def begin(journal: RedisJournal, *names: str) -> Position:
    """An erasure by a process that is killed after the first script."""
    return await journal._erasing._append(sorted(names), "ada", journal.clock.now())


Answers = list[Any]


async def every_answer(journal: RedisJournal, ids: Iterable[tuple[str, str]]) -> Answers:
    """What a journal can be asked for, with pages that begin and end everywhere."""
    changes = await every_change(journal)
    found: Answers = [
        changes,
        await journal.lookup(ids),
        await journal.records(),
        plain(await History(journal).load()),
    ]
    for limit in (1, 2, 7):
        for change in changes:
            found.append(await journal.read(change.position, limit))
    for point in await journal.checkpoints():
        found += [await journal.saved(point.position), await journal.index(point.position)]
    for id in list(ids)[:5]:
        error = await raised(Duplicate, write(journal, entry(id=id[1])))
        assert isinstance(error, Duplicate)
        found.append(error.records)
    return found


async def test_it_is_gone_for_readers_before_it_is_overwritten(redis_server: RedisServer) -> None:
    one, other = await opened(redis_server, "a"), await opened(redis_server, "a")
    large = "y" * 20_000
    for number in range(3):  # an action of several chunks, of which a page has some
        await write(one, entry(value("a", large), value("b", large), value("r/1", CANARY + large), value("c", number)))
    await fill(one)
    before = await every_change(one)
    ids = [record.key for record in await one.records()]
    erased = await begin(one, "r/1")
    first = await every_answer(other, ids)
    assert first[0][:-1] == expected(before, {"r/1"})
    assert (await other.head(), CANARY in repr(first)) == (erased, False)
    [again] = await write(other, entry(value("r/1", "again"), id="again"))
    assert (await other.lookup([("ada", "again")]))["ada", "again"].changes == (("r/1", again.position.seq),)
    await write(other, entry(patches("r/1", {"op": "replace", "path": "", "value": "and again"})))
    second = await every_answer(other, ids)
    await other.tidy()
    assert await every_answer(one, ids) == second, "nothing that can be seen has changed"
    assert not in_dump(redis_server)
    await one.close()
    await other.close()


async def test_the_next_start_finishes_it_whatever_was_done(redis_server: RedisServer) -> None:
    """The process ends between any two of the scripts that overwrite."""
    journal = await opened(redis_server, "a")
    for number in range(8):
        await fill(journal, 15)
        before = await every_change(journal)
        await begin(journal, "r/1")
        work = asyncio.create_task(journal._erasing.finish())
        await asyncio.sleep(number * 0.001)  # the moment, which is what the test varies
        work.cancel()
        await asyncio.wait([work])
        assert (await every_change(journal))[: len(before)] == expected(before, {"r/1"})
        await journal.close()
        await journal.open()
        [overwritten, erased] = redis_server("HMGET", key(journal, "meta"), "overwritten", "erased")
        assert overwritten == erased
        assert (await every_change(journal))[: len(before)] == expected(before, {"r/1"})
        assert not in_dump(redis_server)
    await journal.close()


async def test_no_checkpoint_brings_it_back_on_another_node(redis_server: RedisServer) -> None:
    one, other = await opened(redis_server, "a"), await opened(redis_server, "a")
    await fill(one)
    captured = await History(other).load()
    await write(other, entry(value("a", 99)))
    await one.erase(["r/1"])
    await other.save(captured.position, captured.slices)
    assert set(await other.index(captured.position)) == {"a", "b"}
    assert not in_dump(redis_server)
    await one.close()
    await other.close()


# several nodes, and failovers


async def test_nodes_erase_from_the_same_batches_at_the_same_time(redis_server: RedisServer) -> None:
    nodes = [await opened(redis_server, "a") for _ in range(3)]
    names = [f"r/{number}" for number in range(9)]
    for number in range(30):
        await write(nodes[0], entry(value("a", number), *(value(name, f"{CANARY} {number}") for name in names)))
    before = await every_change(nodes[0])
    erasing = asyncio.gather(*(nodes[at % 3].erase([name, "r/0"]) for at, name in enumerate(names)))
    for number in range(20):
        await write(nodes[1], entry(value("b", number)))
    await erasing
    for node in nodes:
        changes = await every_change(node)
        assert changes[: len(before)] == expected(before, set(names))
        assert {name: state.value for name, state in (await History(node).load()).slices.items()} == {"a": 29, "b": 19}
        await node.close()
    assert not in_dump(redis_server)


async def test_what_others_keep_writing_to_is_erased() -> None:
    one, other = await opened(shared(), "busy"), await opened(shared(), "busy")
    await write(one, entry(value("r/1", [])))
    stop = asyncio.Event()

    async def write_on() -> None:
        head, version = await other.head(), 1
        while not stop.is_set():
            batch = Batch(read=head, versions={"r/1": version}, entries=[entry(value("r/1", CANARY))])
            try:
                [outcome] = await other.append(batch)
            except Conflict:
                return
            head, version = outcome.position, outcome.position.seq

    writing = asyncio.create_task(write_on())
    await eventually(lambda: bool(shared()("XLEN", key(one, "changes")) > 20))
    assert await one.erase(["r/1"]) is not None
    await writing
    assert CANARY not in repr(await every_change(one))
    await one.close()
    await other.close()


async def test_after_a_failover_an_erasure_that_was_lost_is_not_finished(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    await fill(journal)
    before = await every_change(journal)
    redis_server("SAVE")
    await begin(journal, "r/1")
    pending = await journal._erasing._pending()
    redis_server.kill()
    redis_server.start()
    await answers(journal)
    await raised(Unavailable, journal._erasing._overwrite(pending))
    await write(journal, entry(value("r/2", 1)), entry(value("r/2", 2)))
    await journal.erase(["r/2"])
    await raised(Unavailable, journal._erasing._overwrite(pending))
    assert (await every_change(journal))[: len(before)] == before
    assert set((await History(journal).load()).slices) == {"a", "b", "r/1"}
    await journal.close()


# the append-only file


async def test_a_rewrite_that_had_begun_before_is_followed_by_another(durable_redis: RedisServer) -> None:
    journal = await opened(durable_redis, "a")
    await fill(journal)
    durable_redis("CONFIG", "SET", "rdb-key-save-delay", 400_000)  # makes a rewrite of these keys take four seconds
    durable_redis("BGREWRITEAOF")
    durable_redis("CONFIG", "SET", "rdb-key-save-delay", 0)
    await journal.erase(["r/1"])
    assert durable_redis("HEXISTS", key(journal, "meta"), "compact")
    await eventually(lambda: not durable_redis("INFO", "persistence")["aof_rewrite_in_progress"], seconds=30)
    assert in_log(durable_redis)
    await journal.tidy()
    assert not durable_redis("HEXISTS", key(journal, "meta"), "compact")
    await eventually(lambda: not in_log(durable_redis), seconds=30)
    await journal.close()


async def test_a_server_that_does_not_rewrite_its_file_is_no_error(durable_redis: RedisServer) -> None:
    durable_redis("ACL", "SETUSER", "default", "-bgrewriteaof")
    journal = await opened(durable_redis, "a")
    await fill(journal)
    await journal.erase(["r/1"])
    assert not durable_redis("HEXISTS", key(journal, "meta"), "compact"), "nobody asks again"
    assert CANARY not in repr(await every_change(journal))
    await journal.close()


# from outside


async def test_all_nodes_forget_it_when_one_is_told_to(durable_redis: RedisServer, http: Http) -> None:
    with Server.serving(journal=durable_redis.url) as one, Server.serving(journal=durable_redis.url) as two:
        late = PlainClient(two.port, query="slices=*").connect()
        next(late.frames())
        positions = []
        for number in range(8):
            name = f"{CANARY}-{number}"
            _, body = await dispatch(http, one.url, "room/joined", {"name": name}, key="42", id=f"id-{number}")
            positions.append(body["position"])
            assert (await dispatch(http, one.url, "board/counted"))[0] == 200
        late.read_to(body["position"])
        late.cut()
        assert in_log(durable_redis)
        status, body = await erased(http, two)
        assert status == 200, body
        for node in (one, two):
            assert CANARY not in await history(http, node)
            async with http.get(f"{node.url}/state?slices=*&at={positions[5]}") as response:
                assert (response.status, CANARY in await response.text()) == (200, False)
            _, again = await dispatch(http, node.url, "room/joined", {"name": "x"}, key="42", id="id-3")
            assert (again["duplicate"], again["changes"]) == (True, [])
        late.connect()
        late.read_to(body["position"])
        assert "room/42" not in late.state
        assert late.state == (await get_state(http, two.url))["slices"]
        late.close()
        await eventually(lambda: not in_log(durable_redis), seconds=30)


@pytest.mark.slow
async def test_a_kill_leaves_all_or_nothing_and_all_is_gone_after_a_start(
    redis_server: RedisServer, http: Http
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance, left = random.Random(seed), 0
    with Server.serving(journal=redis_server.url) as one, Server.serving(journal=redis_server.url) as two:
        for number in range(8):
            for each in range(20):
                name = f"{CANARY}-{number}-{each}"
                assert (await dispatch(http, one.url, "room/joined", {"name": name}, key="42"))[0] == 200
                assert (await dispatch(http, one.url, "board/counted"))[0] == 200
            erasing = asyncio.create_task(erased(http, one))
            await asyncio.sleep(chance.random() * 0.05)  # the moment of the kill, which is what the test varies
            one.kill()
            await asyncio.gather(erasing, return_exceptions=True)
            found = await history(http, two)
            assert {f"{CANARY}-{number}-{each}" in found for each in range(20)} in ({True}, {False})
            left += CANARY in found
            one.start()
            if CANARY in found:
                assert (await erased(http, one))[0] == 200
            assert not in_dump(redis_server)
            for node in (one, two):
                assert CANARY not in await history(http, node)
    print(f"{left} of 8 were killed before anything was erased")


async def erased(http: Http, server: Server) -> Any:
    async with http.delete(f"{server.url}/state/room/42") as response:
        return response.status, await response.json()


async def history(http: Http, server: Server) -> str:
    async with http.get(f"{server.url}/history?slices=*&cause=full") as response:
        assert response.status == 200
        return await response.text()
