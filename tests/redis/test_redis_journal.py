"""The Redis engine against the contract, and what a Redis server can do to a journal. The servers are real ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from statestream.core.change import START
from statestream.core.errors import Forked, JournalUnusable, Unavailable
from statestream.journal import Journal, Retention, from_url
from statestream.journal.contract import Batch, Duplicate
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal
from statestream.testing import JournalContract, journal_machine
from statestream.testing.journals import changes_after, entry, keep, plain, raised, removed, value, write
from tests.support.redis_server import RedisServer
from tests.support.typed import free_port

SERVERS: list[RedisServer] = []
"""The server of all journals that are made here: a Hypothesis machine has no fixture."""
NUMBERS = itertools.count()


def shared() -> RedisServer:
    if not SERVERS:
        SERVERS.append(RedisServer().start())
    return SERVERS[0]


def teardown_module() -> None:
    while SERVERS:  # emptied, because pytest-xdist may come back to this module after its teardown
        SERVERS.pop().remove()


async def opened(
    server: RedisServer, namespace: str, retention: Retention | None = None, more: str = ""
) -> RedisJournal:
    journal = RedisJournal(f"{server.url}?namespace={namespace}{more}", retention)
    await journal.open()
    return journal


async def new_redis(retention: Retention) -> Journal:
    return await opened(shared(), f"j{next(NUMBERS)}", retention)


async def reopened(journal: Journal) -> Journal:
    assert isinstance(journal, RedisJournal)
    await journal.close()
    return await opened(shared(), journal._address.namespace, journal.retention)


class TestRedis(JournalContract):
    make = staticmethod(new_redis)
    reopen = staticmethod(reopened)


TestRedisMachine = journal_machine(new_redis, reopened).TestCase
TestRedisMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


@pytest.fixture
async def journal() -> AsyncIterator[RedisJournal]:
    made = await new_redis(Retention())
    assert isinstance(made, RedisJournal)
    yield made
    await made.close()


def key(journal: RedisJournal, part: str) -> str:
    return f"{{{journal._address.namespace}}}:{part}"


# URLs and opening


def test_urls() -> None:
    journal = from_url("redis://ada:s3%2Fcret@example.com:7000/3?namespace=board&wait=1")
    assert isinstance(journal, RedisJournal)
    address = journal._address
    assert (address.host, address.port, address.db, address.tls) == ("example.com", 7000, 3, False)
    assert (address.username, address.password) == ("ada", "s3/cret")
    assert (address.namespace, address.replicas) == ("board", 1)
    assert "s3" not in f"{journal!r} {address!r} {address}"
    other = from_url("rediss://[::1]")
    assert isinstance(other, RedisJournal)
    assert (other._address.host, other._address.port, other._address.tls) == ("::1", 6379, True)
    assert other._address.namespace == "statestream"


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host/name",
        "redis://host:x/0",
        "redis://:s3cret@[host/0",
        "redis://:s3cret@host/0?namespace=",
        "redis://:s3cret@host/0?namespace=a{b}",
        "redis://:s3cret@host/0?namespace=a&namespace=b",
        "redis://:s3cret@host/0?wait=all",
        "redis://:s3cret@host/0?ssl_cert_reqs=none",
        "redis://:s3cret@host/0?what",
    ],
)
def test_a_wrong_url_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="journal") as refused:
        from_url(url)
    assert "s3cret" not in str(refused.value)


def test_without_the_driver_the_message_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['redis'] = None\n"
        "from statestream.journal import from_url\n"
        "try: from_url('redis://localhost')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "redis-py is not installed; install statestream with its extra redis"


async def refused(url: str) -> str:
    with pytest.raises(JournalUnusable) as error:
        await RedisJournal(url).open()
    assert "s3cret" not in str(error.value)
    return str(error.value)


async def test_a_server_that_is_not_there_or_not_redis_is_refused() -> None:
    assert "cannot be reached" in await refused(f"redis://:s3cret@127.0.0.1:{free_port()}")

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        assert "as a Redis server" in await refused(f"redis://:s3cret@127.0.0.1:{port}")
        assert "cannot" in await refused(f"rediss://:s3cret@127.0.0.1:{port}")


async def test_a_wrong_password_is_refused() -> None:
    with RedisServer(password="s3cret!") as server:
        assert "user name or password" in await refused(f"redis://:wrong@127.0.0.1:{server.port}")
        assert "user name or password" in await refused(f"redis://127.0.0.1:{server.port}")
        journal = await opened(server, "a")
        await write(journal, entry(value("a", 1)))
        await journal.close()


async def test_what_is_not_a_journal_is_refused_and_left_alone(redis_server: RedisServer) -> None:
    redis_server("SET", "{a}:meta", "their value")
    redis_server("HSET", "{b}:meta", "their", "value")
    redis_server("HSET", "{c}:meta", "format", "99", "seq", "0")
    redis_server("RPUSH", "{d}:changes", "their value")
    before = [redis_server("DUMP", name) for name in ("{a}:meta", "{b}:meta", "{c}:meta", "{d}:changes")]
    assert "holds something else" in await refused(f"{redis_server.url}?namespace=a")
    assert "damaged or missing" in await refused(f"{redis_server.url}?namespace=b")
    assert "expected format 1, got 99; upgrade statestream" in await refused(f"{redis_server.url}?namespace=c")
    assert "damaged or missing" in await refused(f"{redis_server.url}?namespace=d")
    assert [redis_server("DUMP", name) for name in ("{a}:meta", "{b}:meta", "{c}:meta", "{d}:changes")] == before
    journal = await opened(redis_server, "e")
    await journal.close()
    assert sorted(redis_server("KEYS", "*")) == [b"{a}:meta", b"{b}:meta", b"{c}:meta", b"{d}:changes"], (
        "opening writes nothing"
    )


async def test_a_server_that_may_delete_keys_is_refused(redis_server: RedisServer) -> None:
    redis_server("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "set it to noeviction" in await refused(redis_server.url)
    redis_server("CONFIG", "SET", "maxmemory-policy", "volatile-lru")  # the journal's keys do not expire
    journal = await opened(redis_server, "a")
    await journal.close()


async def test_namespaces_are_journals_of_their_own() -> None:
    one, other = await opened(shared(), "one"), await opened(shared(), "other")
    await write(one, entry(value("a", 1), id="x"))
    assert await other.head() == START
    assert await other.lookup([("ada", "x")]) == {}
    await one.close()
    await other.close()


# troubles of a server that runs


async def test_a_full_memory_is_unavailable_and_reading_goes_on(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    await write(journal, entry(value("a", "x" * 1_000)))
    await keep(journal)
    await journal.check_writable(by_writing=False)
    redis_server("CONFIG", "SET", "maxmemory", 1)
    error = await raised(Unavailable, write(journal, entry(value("a", 2), id="x")))
    assert "out of memory" in str(error)
    error = await raised(Unavailable, journal.check_writable(by_writing=False))
    assert "out of memory" in str(error)
    assert plain(await History(journal).load())["a"][0] == "x" * 1_000
    await journal.trim(await journal.head())
    await journal.tidy()
    assert await journal.earliest() == await journal.head()
    redis_server("CONFIG", "SET", "maxmemory", 0)
    await journal.check_writable(by_writing=True)
    await write(journal, entry(value("a", 2), id="x"))
    assert len(await changes_after(journal, await journal.earliest(), 9)) == 1, "it was written once"
    await journal.close()


async def test_a_replica_is_unavailable_and_says_why(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    await write(journal, entry(value("a", 1)))
    redis_server("REPLICAOF", "127.0.0.1", free_port())
    for attempt in (
        journal.append(Batch(read=START, versions={"a": 1}, entries=[entry(value("a", 2))])),
        journal.read(START),  # a replica may lag behind: what it lacks must not look like a history that lost its tail
        journal.head(),
        journal.lookup([("ada", "x")]),
        journal.checkpoints(),
        journal.check_writable(by_writing=False),
    ):
        error = await raised(Unavailable, attempt)
        assert "is a replica, which accepts no writes" in str(error)
    assert "is a replica" in await refused(f"{redis_server.url}?namespace=a")
    redis_server("REPLICAOF", "NO", "ONE")
    await write(journal, entry(value("a", 2)))
    await journal.close()


async def test_a_server_that_has_forgotten_its_scripts_is_sent_them_again(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    for number in range(3):
        await write(journal, entry(value("a", number)))
        redis_server("SCRIPT", "FLUSH")
    assert len(await changes_after(journal, START, 9)) == 3
    await journal.close()


async def test_a_lost_connection_is_made_again(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    await write(journal, entry(value("a", 1)))
    redis_server("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await asyncio.sleep(0.05)  # as after an idle night: the end of the connection has arrived
    await write(journal, entry(value("a", 2)))
    redis_server.kill()
    for _ in range(5):
        error = await raised(Unavailable, journal.head())
        assert "cannot be reached" in str(error)
    redis_server.start()
    await eventually_open(journal)
    assert await journal.head() == START, "this server keeps nothing"
    await journal.close()
    error = await raised(Unavailable, journal.head())
    assert "closed" in str(error)


async def eventually_open(journal: RedisJournal) -> None:
    for _ in range(500):
        try:
            await journal.head()
        except Unavailable:
            await asyncio.sleep(0.01)
        else:
            return
    raise AssertionError("it does not come back")


async def test_who_is_cancelled_leaves_no_answer_for_the_next_one(journal: RedisJournal) -> None:
    await write(journal, entry(value("a", 0)))
    for number in range(40):
        pause = number * 0.00005
        work = asyncio.create_task(journal.read(START, 9) if number % 2 else write(journal, entry(value("b", number))))
        await asyncio.sleep(pause)
        work.cancel()
        await asyncio.wait([work])
        head = await journal.head()
        assert (await journal.read(START, 99)).until == head
        assert await journal.checkpoints() == []


async def test_a_frozen_server_is_unavailable_after_a_while(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    [first] = await write(journal, entry(value("a", 1)))
    journal._writing.seconds = 0.2
    redis_server.signal(signal.SIGSTOP)
    batch = Batch(read=first.position, versions={"a": 1}, entries=[entry(value("a", 2), id="x")])
    error = await raised(Unavailable, journal.append(batch))
    assert "did not answer in time" in str(error)
    redis_server.signal(signal.SIGCONT)
    await eventually_open(journal)
    with contextlib.suppress(Duplicate):  # the first attempt was in the server's socket, and may have been run by now
        await journal.append(batch)
    assert len(await changes_after(journal, START, 9)) == 2, "once"
    await journal.close()


# a history that was trimmed, that lost its tail, or that is gone


def restart_with_what_was_saved(redis_server: RedisServer) -> None:
    """As after a restored backup, or a failover to a replica that was behind: what came after SAVE is lost."""
    redis_server.kill()
    redis_server.start()


async def test_a_lost_tail_is_noticed_by_everyone_who_saw_it(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    [first] = await write(journal, entry(value("a", 1), id="kept"))
    redis_server("SAVE")
    [lost] = await write(journal, entry(value("a", 2), value("b", 2), id="lost"))
    restart_with_what_was_saved(redis_server)
    await eventually_open(journal)
    assert await journal.head() == first.position
    await raised(Forked, journal.read(lost.position))
    batch = Batch(read=lost.position, versions={"a": 2}, entries=[entry(value("a", 3))])
    await raised(Forked, journal.append(batch))
    assert await changes_after(journal, first.position, 9) == []
    assert set(await journal.lookup([("ada", "kept"), ("ada", "lost")])) == {("ada", "kept")}
    await write(journal, entry(value("a", 7)), entry(value("a", 8)), entry(value("a", 9)))
    for change in lost.changes:  # the same numbers again, with other tags
        await raised(Forked, journal.read(change.position))
    await raised(Forked, journal.append(batch))
    await raised(Forked, journal.save(lost.position, {}))
    assert len(await changes_after(journal, first.position, 9)) == 3
    await journal.close()


async def test_a_flushed_server_is_another_history(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    [outcome] = await write(journal, entry(value("a", 1), value("b", 1)))
    await keep(journal)
    redis_server("FLUSHALL")
    assert await journal.head() == START
    assert await journal.checkpoints() == []
    await raised(Forked, journal.read(outcome.position))
    batch = Batch(read=outcome.position, versions={"a": 1}, entries=[entry(value("a", 2))])
    await raised(Forked, journal.append(batch))
    await write(journal, entry(value("a", 1)), entry(value("a", 2)), entry(value("a", 3)))
    await raised(Forked, journal.read(outcome.position))
    await keep(journal)  # although this node knows of a later checkpoint, of the other history
    assert len(await journal.checkpoints()) == 1
    await journal.close()


async def test_a_node_that_builds_on_a_lost_checkpoint_loads_its_state_again(redis_server: RedisServer) -> None:
    """The changes are all there, so nothing else tells it: it would save too little, and a restart lose the rest."""
    journal = await opened(redis_server, "a")
    history = History(journal)
    await write(journal, entry(value("a", 1), value("b", 1)))
    await keep(journal)
    await write(journal, entry(value("b", 2)))
    redis_server("SAVE")
    await keep(journal)
    assert len(await journal.checkpoints()) == 2
    restart_with_what_was_saved(redis_server)
    await eventually_open(journal)
    await write(journal, entry(value("a", 2)))
    state = await history.load()
    assert len(await journal.checkpoints()) == 1
    error = await raised(Unavailable, journal.save(state.position, {"a": state.slices["a"]}))
    assert "lost in a failover" in str(error)
    await asyncio.wait_for(journal.wait(state.position), 5)  # it does not wait for a change that may never come
    await raised(Forked, journal.read(state.position))
    assert len((await journal.read(START)).changes) == 4, "once, then it knows"
    await journal.save(state.position, {"a": state.slices["a"], "b": state.slices["b"]})
    assert [each.position for each in await journal.checkpoints()][-1] == state.position
    assert plain(await history.load()) == plain(state)
    await journal.close()


async def test_checkpoints_of_two_nodes_at_once_are_both_right() -> None:
    one, other = await opened(shared(), "pair"), await opened(shared(), "pair")
    await write(one, entry(value("a", 1), value("b", 1), value("c", 1)))
    early = await History(one).load()
    await write(one, entry(value("a", 2)), entry(value("d", 1)))
    late = await History(other).load()
    await one._checkpoints._save_rows(early.position, [b"b", b"1.x 1"])  # it has got so far
    await other.save(late.position, late.slices)
    await one.save(early.position, early.slices)
    assert [each.position for each in await one.checkpoints()] == [late.position]
    assert plain(await History(other).load()) == plain(late)
    await write(one, entry(removed("a")))
    await one.save(await one.head(), {"a": None})
    await one.trim(await one.head())
    assert {each.name for each in await other.saved(await other.head())} == {"b", "c", "d"}
    assert shared()("ZCARD", key(one, "superseded")) == 0
    assert shared()("ZCARD", key(one, "rows")) == shared()("HLEN", key(one, "values")) == 3
    await one.close()
    await other.close()


# space


async def test_trimming_gives_memory_back(journal: RedisJournal) -> None:
    for number in range(30):
        await write(journal, entry(*(value(f"r/{each}", f"{number} {'x' * 2_000}") for each in range(20))))
        await keep_changed(journal)
    parts = ("changes", "rows", "values", "superseded", "checkpoints")
    before = sum(memory(journal, part) for part in parts)
    assert before > 2_000_000
    state = plain(await History(journal).load())
    await journal.trim(await journal.head())
    after = sum(memory(journal, part) for part in parts)
    assert after < 100_000, f"{before} bytes before, {after} after"
    assert plain(await History(journal).load()) == state


async def keep_changed(journal: RedisJournal) -> None:
    state = await History(journal).load()
    await journal.save(state.position, state.slices)


def memory(journal: RedisJournal, part: str) -> int:
    return int(shared()("MEMORY", "USAGE", key(journal, part), "SAMPLES", 0) or 0)


async def test_ids_take_no_more_memory_than_they_may() -> None:
    limit = 100_000
    one = await opened(shared(), "ids", Retention(id_bytes=limit))
    other = await opened(shared(), "ids", Retention(id_bytes=limit))
    for number in range(700):
        journal = (one, other)[number % 2]
        await journal.append(Batch(read=START, versions={}, entries=[entry(id=f"a-rather-long-id-{number}")]))
    used = memory(one, "ids") + memory(one, "ages")
    counted = int(shared()("HGET", key(one, "meta"), "id_bytes"))
    assert used <= counted <= limit
    assert counted > 0.9 * limit
    assert shared()("HLEN", key(one, "ids")) == shared()("LLEN", key(one, "ages"))
    newest = [("ada", f"a-rather-long-id-{number}") for number in range(600, 700)]
    assert set(await one.lookup(newest)) == set(newest)
    one.clock.advance_to(one.clock.now() + 25 * 3600 * 1000)
    await one.tidy()
    assert other.clock.now() < one.clock.now()
    await other.tidy()
    assert abs(other.clock.now() - one.clock.now()) < 60_000, "nodes adopt the latest time"
    assert shared()("EXISTS", key(one, "ids"), key(one, "ages")) == 0
    assert int(shared()("HGET", key(one, "meta"), "id_bytes")) == 0
    await one.close()
    await other.close()


async def test_an_id_that_is_used_again_a_day_later_is_kept_for_a_day(journal: RedisJournal) -> None:
    await write(journal, entry(id="daily"))
    journal.clock.advance_to(journal.clock.now() + 25 * 3600 * 1000)
    await write(journal, entry(id="daily"))
    await journal.tidy()
    assert set(await journal.lookup([("ada", "daily")])) == {("ada", "daily")}


# waking


async def test_a_wait_ends_when_another_node_writes(journal: RedisJournal) -> None:
    other = await opened(shared(), journal._address.namespace)
    for number in range(3):
        waiting = asyncio.create_task(journal.wait(await journal.head()))
        while b"xread" not in shared()("CLIENT", "LIST"):
            await asyncio.sleep(0.01)
        began = time.monotonic()
        await write(other, entry(value("a", number)))
        await asyncio.wait_for(waiting, 10)
        assert time.monotonic() - began < 0.4, "woken, not polled"
    await other.close()


async def test_a_lost_wake_up_costs_half_a_second(redis_server: RedisServer) -> None:
    """The connection that waits is cut, or stays silent. Polling notices the change all the same."""
    journal, other = await opened(redis_server, "a"), await opened(redis_server, "a")
    for cut in (True, False):
        waiting = asyncio.create_task(journal.wait(await journal.head()))
        while b"cmd=xread" not in redis_server("CLIENT", "LIST", "TYPE", "normal"):
            await asyncio.sleep(0.01)
        began = time.monotonic()
        if cut:
            redis_server("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        else:
            [transport] = [journal._waking.link._connection._writer.transport]  # type: ignore[union-attr]
            transport.pause_reading()
        await write(other, entry(value("a", int(cut))))
        await asyncio.wait_for(waiting, 10)
        assert time.monotonic() - began < 2
    await journal.close()
    await other.close()


async def test_a_wait_notices_a_history_that_is_gone(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a")
    [outcome] = await write(journal, entry(value("a", 1)))
    waiting = asyncio.create_task(journal.wait(outcome.position))
    await asyncio.sleep(0.05)
    redis_server("FLUSHALL")
    await asyncio.wait_for(waiting, 5)
    await journal.close()
