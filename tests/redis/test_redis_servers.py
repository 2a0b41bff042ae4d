"""A Redis journal with other servers than a plain one: damaged, restricted, clustered, with TLS, with replicas."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from statestream.core.change import START
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal.contract import Batch, Duplicate
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal
from statestream.journal.redis.packing import packed_key
from statestream.testing.journals import SMALL, changes_after, entry, keep, plain, raised, removed, value, write
from tests.support import ROOT, eventually
from tests.support.pages import DOCS
from tests.support.redis_journals import key, opened, refused, remove_shared, shared
from tests.support.redis_server import RedisServer
from tests.support.typed import free_port


def teardown_module() -> None:
    remove_shared()


# damage, permissions, and other ways to run a server


async def test_damage_is_refused_and_never_returned(journal: RedisJournal) -> None:
    [first] = await write(journal, entry(value("a", 1), id="x"))
    [second] = await write(journal, entry(value("b", 1)))
    await keep(journal)
    redis, changes = shared(), key(journal, "changes")
    [_, (id, fields)] = redis("XRANGE", changes, "-", "+")
    redis("XDEL", changes, id)
    error = await raised(JournalUnusable, journal.read(first.position))
    assert "damaged or missing; restore a backup" in str(error)
    spoiled = bytearray(fields[b"d"])
    spoiled[20] ^= 1
    redis("DEL", changes)
    await raised(JournalUnusable, journal.read(first.position, 1))
    for last, data in ((first.position.seq, fields[b"d"]), (second.position.seq, bytes(spoiled))):
        redis("XADD", changes, f"{last}-0", "b", last - 1, "t", second.position.tag, "z", last, "d", data)
    assert len((await journal.read(START, 1)).changes) == 1
    await raised(JournalUnusable, journal.read(START))
    redis("HSET", key(journal, "ids"), packed_key(("ada", "x")), "9999999999999 1 0 0 nonsense")
    await raised(JournalUnusable, journal.lookup([("ada", "x")]))
    [row, *_] = redis("ZRANGE", key(journal, "rows"), 0, 0)
    redis("HDEL", key(journal, "values"), row)
    await raised(JournalUnusable, journal.saved(await journal.head()))
    redis("HSET", key(journal, "values"), row, "nonsense")
    await raised(JournalUnusable, journal.saved(await journal.head()))
    redis("DEL", key(journal, "meta"))
    await raised(JournalUnusable, journal.head())
    batch = Batch(read=START, versions={"c": 0}, entries=[entry(value("c", 1))])
    await raised(JournalUnusable, journal.append(batch))
    redis("SET", key(journal, "meta"), "another program's")
    await raised(JournalUnusable, journal.head())


async def test_the_privileges_on_the_page_are_enough(redis_server: RedisServer) -> None:
    """A user with what docs/operations.md grants, and no more."""
    page = (DOCS / "operations.md").read_text()
    [line] = re.findall(r"^ACL SETUSER (.*)$", page, flags=re.MULTILINE)
    redis_server("ACL", "SETUSER", *line.replace("a-long-password", "s3cret").split())
    user = line.split()[0]
    url = f"redis://{user}:s3cret@127.0.0.1:{redis_server.port}"
    assert "may not use a command or a key" in await refused(f"{url}?namespace=theirs")
    journal = RedisJournal(url, SMALL)
    await journal.open()
    for number in range(6):
        await write(journal, entry(value("a", number), id=f"x{number}"))
        await keep(journal)
    assert (await journal.earliest()).seq > 0
    await journal.tidy()
    await journal.check_writable(by_writing=True)
    await asyncio.wait_for(journal.wait(START), 5)
    await raised(Duplicate, write(journal, entry(id="x5")))
    assert len(await journal.lookup([("ada", "x5")])) == 1
    redis_server("CONFIG", "SET", "appendonly", "yes")
    for without in ("", "-bgrewriteaof"):
        await eventually(lambda: not redis_server("INFO", "persistence")["aof_rewrite_in_progress"])
        await write(journal, entry(value("r/1", "secret")))
        if without:
            redis_server("ACL", "SETUSER", user, without)
        assert await journal.erase(["r/1"]) == await journal.head()
        assert "secret" not in repr(await journal.read(await journal.earliest()))
        assert redis_server("HEXISTS", key(journal, "meta"), "compact") == 0, "asked for, or given up"
    refusals = repr(redis_server("ACL", "LOG"))
    assert (refusals.count("'object'"), "bgrewriteaof" in refusals) == (2, True), "that, and the other namespace"
    await journal.close()


async def test_a_cluster_keeps_a_journal_on_one_of_its_servers() -> None:
    """The URL leads to the server that does not have the keys, and they move to the other one."""
    nodes = [RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())) for _ in range(2)]
    with nodes[0] as one, nodes[1] as other:
        bus = int(other.arguments[-1])
        one("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        other("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await eventually(lambda: all(b"cluster_state:ok" in raw_info(node) for node in nodes), seconds=30)
        journal = await opened(one, "moved")
        await write(journal, entry(value("a", 1), id="x"))
        await keep(journal)
        assert other("EXISTS", "{moved}:meta") == 1
        await asyncio.wait_for(journal.wait(START), 5)
        assert len(await changes_after(journal, START, 9)) == 1
        slot = other("CLUSTER", "KEYSLOT", "{moved}:meta")
        other("FLUSHALL")
        for node in nodes:
            node("CLUSTER", "SETSLOT", slot, "NODE", one("CLUSTER", "MYID"))
        await eventually(lambda: b"cluster_state:ok" in raw_info(one), seconds=30)
        await write(journal, entry(value("a", 1)))
        assert one("EXISTS", "{moved}:meta") == 1
        await journal.close()


def raw_info(server: RedisServer) -> bytes:
    found = server("CLUSTER", "INFO")
    return found if isinstance(found, bytes) else "\n".join(f"{name}:{text}" for name, text in found.items()).encode()


async def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes")
    files = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, *files], check=True, capture_output=True
    )
    secure = free_port()
    tls = ("--tls-cert-file", f"{tmp_path}/crt", "--tls-key-file", f"{tmp_path}/key", "--tls-auth-clients", "no")
    with RedisServer("--tls-port", str(secure), *tls):
        assert "cannot be reached" in await refused(f"rediss://:s3cret@127.0.0.1:{secure}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "crt"))
        journal = RedisJournal(f"rediss://127.0.0.1:{secure}")
        await journal.open()
        await write(journal, entry(value("a", 1)))
        await journal.close()


# replicas


@pytest.mark.slow
async def test_with_wait_nothing_is_acknowledged_that_too_few_replicas_have(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a", more="&wait=1")
    await raised(Unavailable, write(journal, entry(value("a", 0))))
    redis_server("FLUSHALL")
    with RedisServer() as replica:
        replica("REPLICAOF", "127.0.0.1", redis_server.port)
        await eventually(lambda: replica("INFO", "replication")["master_link_status"] == "up")
        [first] = await write(journal, entry(value("a", 1), id="safe"))
        assert replica("HGET", "{a}:meta", "tag") == first.position.tag.encode()
        replica.signal(signal.SIGSTOP)
        batch = Batch(read=first.position, versions={"a": 1}, entries=[entry(value("a", 2), id="unsafe")])
        error = await raised(Unavailable, journal.append(batch))
        assert "0 of 1 replicas" in str(error)
        assert (await journal.head()).seq == 2, "the outcome was unknown: it has been written"
        await raised(Unavailable, journal.append(batch))  # nor is a repeat acknowledged
        await raised(Unavailable, journal.lookup([("ada", "unsafe")]))
        replica.signal(signal.SIGCONT)
        await raised(Duplicate, journal.append(batch))
        assert len(await journal.lookup([("ada", "unsafe")])) == 1
        await journal.close()


# moving to and from another engine


def command(*arguments: str | Path) -> str:
    call = [sys.executable, "-m", "statestream", "journal", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
async def test_a_journal_moves_to_sqlite_and_back_with_its_positions_and_ids(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    journal = await opened(redis_server, "old", SMALL)
    for number in range(9):
        changes = (value("a", number), value("room/1", [number]), value("room/2", {}))
        await write(journal, entry(*changes, id=f"id-{number}"), entry(removed("room/2")))
        await keep(journal)
    await journal.erase(["room/1"])
    truth, earliest = plain(await History(journal).load()), await journal.earliest()
    kept = await changes_after(journal, earliest, 999)
    keys = [("ada", f"id-{number}") for number in range(9)]
    records = await journal.lookup(keys)
    assert (len(records), earliest.seq > 0) == (9, True)
    await journal.close()
    assert "is intact" in command("verify", f"{redis_server.url}?namespace=old")
    command("export", f"{redis_server.url}?namespace=old", "-o", tmp_path / "one")
    command("import", tmp_path / "one", f"sqlite:///{tmp_path}/j.db")
    command("export", f"sqlite:///{tmp_path}/j.db", "-o", tmp_path / "two")
    command("import", tmp_path / "two", f"{redis_server.url}?namespace=new")
    assert "is intact" in command("verify", f"{redis_server.url}?namespace=new")
    moved = await opened(redis_server, "new", SMALL)
    assert await moved.earliest() == earliest
    assert await changes_after(moved, earliest, 999) == kept
    assert plain(await History(moved).load()) == truth
    assert await moved.lookup(keys) == records
    await moved.tidy()
    await raised(Duplicate, write(moved, entry(value("a", 1), id="id-8")))
    [outcome] = await write(moved, entry(value("room/2", 1)))
    assert outcome.changes[0].from_version == 0
    await moved.close()
