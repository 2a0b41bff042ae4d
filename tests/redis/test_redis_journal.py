"""The Redis engine against the contract, and URLs and servers that it refuses, or that fail while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys

import pytest
from hypothesis import settings

from statestream.core.change import START
from statestream.core.errors import Unavailable
from statestream.journal import from_url
from statestream.journal.contract import Batch, Duplicate
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal
from statestream.testing import JournalContract, journal_machine
from statestream.testing.journals import changes_after, entry, keep, plain, raised, value, write
from tests.support import eventually
from tests.support.redis_journals import answers, new_redis, opened, refused, remove_shared, reopened, shared
from tests.support.redis_server import RedisServer
from tests.support.typed import free_port


def teardown_module() -> None:
    remove_shared()


class TestRedis(JournalContract):
    make = staticmethod(new_redis)
    reopen = staticmethod(reopened)


TestRedisMachine = journal_machine(new_redis, reopened).TestCase
TestRedisMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


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
    assert (
        done.stdout.strip()
        == "redis-py is not installed; it comes with the extra redis: pip install '.[redis]' in the checkout"
    )


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
    assert "expected format 1 or 2, got 99; upgrade statestream" in await refused(f"{redis_server.url}?namespace=c")
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


async def test_a_disk_that_redis_cannot_write_to_and_missing_replicas_are_unavailable(
    redis_server: RedisServer,
) -> None:
    journal = await opened(redis_server, "a")
    await write(journal, entry(value("a", 1)))
    redis_server("CONFIG", "SET", "min-replicas-to-write", 1)
    for attempt in (write(journal, entry(value("a", 2))), journal.check_writable(by_writing=False)):
        assert "fewer replicas than it needs" in str(await raised(Unavailable, attempt))
    redis_server("CONFIG", "SET", "min-replicas-to-write", 0)
    redis_server("CONFIG", "SET", "save", "3600 1")
    shutil.rmtree(redis_server.folder)
    redis_server("BGSAVE")
    await eventually(lambda: redis_server("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
    for attempt in (write(journal, entry(value("a", 2))), journal.check_writable(by_writing=False)):
        assert "cannot save its data to disk" in str(await raised(Unavailable, attempt))
    redis_server("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    await write(journal, entry(value("a", 2)))
    assert len(await changes_after(journal, START, 9)) == 2
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
    await answers(journal)
    assert await journal.head() == START, "this server keeps nothing"
    await journal.close()
    error = await raised(Unavailable, journal.head())
    assert "closed" in str(error)


async def test_who_is_cancelled_leaves_no_answer_for_the_next_one(journal: RedisJournal) -> None:
    await write(journal, entry(value("a", 0)))
    for number in range(40):
        pause = number * 0.00005
        work = asyncio.create_task(journal.read(START, 9) if number % 2 else write(journal, entry(value("b", number))))
        await asyncio.sleep(pause)
        work.cancel()
        await asyncio.wait([work])
        heads = [await journal.head()]
        until = (await journal.read(START, 99)).until
        heads.append(await journal.head())  # a write whose caller was cancelled may have come in between
        assert until in heads
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
    await answers(journal)
    with contextlib.suppress(Duplicate):  # the first attempt was in the server's socket, and may have been run by now
        await journal.append(batch)
    assert len(await changes_after(journal, START, 9)) == 2, "once"
    await journal.close()
