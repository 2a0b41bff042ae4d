"""What a PostgreSQL journal promises beyond the contract: several nodes, lost wake-ups, cancellation, damage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest

from statestream.core.change import START, Position
from statestream.core.errors import Forked, JournalUnusable, Unavailable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import PostgresqlJournal, Retention
from statestream.journal.contract import Batch, Conflict, Duplicate
from statestream.journal.history import History
from statestream.journal.postgresql import checkpoints, connection, connector, wake_ups
from statestream.testing.journals import changes_after, entry, keep, plain, raised, value, write
from tests.support import eventually
from tests.support.cutting import Proxy
from tests.support.postgresql import PostgreSQL, Relay, shared


@asynccontextmanager
async def nodes(count: int, url: str, retention: Retention | None = None) -> AsyncIterator[list[PostgresqlJournal]]:
    """Journals of as many nodes."""
    journals = [PostgresqlJournal(url, retention) for _ in range(count)]
    try:
        for journal in journals:
            await journal.open()
        yield journals
    finally:
        for journal in journals:
            await journal.close()


@pytest.fixture
def url() -> str:
    return shared().new_url()


def table(url: str, name: str) -> str:
    """A table of the journal, for statements of an administrator."""
    return f"{url.partition('schema=')[2]}.{name}"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes do not poll, so that only what wakes them can wake them."""
    monkeypatch.setattr(wake_ups, "POLL_SECONDS", 3600.0)


async def waiting_for_news(journal: PostgresqlJournal, after: Position) -> asyncio.Task[None]:
    """A wait that has already read the head once."""
    waiting = asyncio.create_task(journal.wait(after))
    await eventually(lambda: journal._wake_ups._next_poll > 0 and not journal._wake_ups._connection._lock.locked())
    return waiting


async def test_numbers_have_no_gaps_however_many_nodes_write(url: str) -> None:
    async with nodes(4, url) as journals:

        async def writes(journal: PostgresqlJournal, name: str) -> None:
            version = 0
            for number in range(25):
                batch = Batch(read=START, versions={name: version}, entries=[entry(value(name, number), id=name)])
                if number:
                    error = await raised(Duplicate, journal.append(batch))
                    assert isinstance(error, Duplicate)
                    assert set(error.records) == {("ada", name)}
                batch = Batch(read=START, versions={name: version}, entries=[entry(value(name, number))])
                if not number:
                    batch = Batch(read=START, versions={name: version}, entries=[entry(value(name, number), id=name)])
                [outcome] = await journal.append(batch)
                version = outcome.position.seq

        await asyncio.gather(*(writes(journal, f"s{at}") for at, journal in enumerate(journals)))
        for journal in journals:
            changes = await changes_after(journal, START, 999)
            assert [change.version for change in changes] == list(range(1, 101))
            assert len({change.position.tag for change in changes}) == 100


async def test_of_writers_of_one_slice_one_wins_each_time(url: str) -> None:
    async with nodes(3, url) as journals:
        conflicts = 0

        async def increments(journal: PostgresqlJournal) -> None:
            nonlocal conflicts
            done = 0
            while done < 20:
                held = (await History(journal).load()).slices.get("n")
                number, version = (held.value, held.version) if held else (0, 0)
                entries = [entry(value("n", number + 1))]
                try:
                    await journal.append(Batch(read=START, versions={"n": version}, entries=entries))
                    done += 1
                except Conflict:
                    conflicts += 1

        await asyncio.gather(*map(increments, journals))
        assert (await History(journals[0]).load()).slices["n"].value == 60
        assert conflicts


async def test_an_id_counts_once_whichever_node_it_comes_to(url: str) -> None:
    async with nodes(2, url) as [here, there]:
        [done] = await write(here, entry(value("a", 1), id="once"))
        error = await raised(Duplicate, write(there, entry(value("a", 2), id="once"), a=0))
        assert isinstance(error, Duplicate)
        assert error.records[("ada", "once")].position == done.position
        assert error.records[("ada", "once")].changes == (("a", 1),)


async def test_stores_share_a_database_by_schemas() -> None:
    async with nodes(1, shared().new_url()) as [one], nodes(1, shared().new_url()) as [other]:
        await write(one, entry(value("a", 1)))
        assert await other.head() == START
        await write(other, entry(value("b", 1)))
        assert set((await History(other).load()).slices) == {"b"}


# wake-ups


async def test_a_notification_wakes_the_other_node_and_not_the_writer(url: str, patient: None) -> None:
    async with nodes(2, url) as [here, there]:
        own, others = await waiting_for_news(here, START), await waiting_for_news(there, START)
        await write(here, entry(value("a", 1)))
        await asyncio.wait_for(others, 10)
        assert not own.done(), "a node knows what it has written itself"
        await write(there, entry(value("b", 1)))
        await asyncio.wait_for(own, 10)


async def test_a_listener_that_was_lost_listens_again_and_reads(url: str, patient: None) -> None:
    async with nodes(2, url) as [here, there]:
        waiting = await waiting_for_news(there, START)
        pid = there._wake_ups._connection.pid
        async with held_lock(url) as commit_later:
            writing = asyncio.create_task(write(here, entry(value("a", 1))))
            await shared().value("SELECT pg_terminate_backend($1, 5000)", pid)
            await eventually(lambda: there._wake_ups._connection.pid != pid)
            await commit_later()
            await writing
        await asyncio.wait_for(waiting, 10)
        await shared().value("SELECT pg_terminate_backend($1, 5000)", there._wake_ups._connection.pid)
        waiting = asyncio.create_task(there.wait(await here.head()))
        await write(here, entry(value("a", 2)))
        await asyncio.wait_for(waiting, 10)


@asynccontextmanager
async def held_lock(url: str) -> AsyncIterator[Callable[[], object]]:
    """Somebody holds the head, so that no append gets through."""
    driver = await shared().connect()
    transaction = driver.transaction()
    await transaction.start()
    await driver.execute(f"SELECT FROM {table(url, 'head')} FOR UPDATE")
    try:
        yield transaction.rollback
    finally:
        await driver.close()


@pytest.mark.parametrize("lost", [1.0, 0.1, 0.5], ids=lambda lost: f"{lost:.0%}")
async def test_lost_notifications_are_made_up_for_within_a_second(lost: float) -> None:
    schema = shared().new_url()
    number = 0

    def keeps() -> bool:
        nonlocal number
        number += 1
        return int(number * lost) == int((number - 1) * lost)

    async with Relay(shared()) as relay:
        relay.keeps = keeps
        through = schema.replace(f":{shared().port}/", f":{relay.port}/")
        async with nodes(1, schema) as [here], nodes(1, through) as [there]:
            previous = START
            for turn in range(10):
                waiting = asyncio.create_task(there.wait(previous))
                [outcome] = await write(here, entry(value("a", turn)))
                began = time.monotonic()
                await asyncio.wait_for(waiting, 10)
                assert time.monotonic() - began < 1, "the promise: readers are current within a second"
                previous = outcome.position
            assert relay.lost


async def test_a_node_without_notifications_polls_faster(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Relay(shared()) as relay:
        relay.keeps = lambda: False
        through = url.replace(f":{shared().port}/", f":{relay.port}/")
        async with nodes(1, url) as [here], nodes(1, through) as [there]:
            assert there._wake_ups._hears
            waiting = await waiting_for_news(there, START)
            [first] = await write(here, entry(value("a", 1)))
            await asyncio.wait_for(waiting, 10)
            assert not there._wake_ups._hears
            relay.keeps = lambda: True
            after, numbers = first.position, count(2)

            async def heard() -> bool:
                """Whether the next change was heard of: a poll may be quicker than its notification."""
                nonlocal after
                waiting = asyncio.create_task(there.wait(after))
                [outcome] = await write(here, entry(value("a", next(numbers))))
                await asyncio.wait_for(waiting, 10)
                after = outcome.position
                return there._wake_ups._hears

            await eventually(heard)


async def test_connections_that_were_cut_are_made_again(url: str) -> None:
    async with Relay(shared()) as relay:
        through = url.replace(f":{shared().port}/", f":{relay.port}/")
        async with nodes(1, through) as [journal]:
            await write(journal, entry(value("a", 1)))
            relay.cut()
            await eventually(lambda: journal._writing._driver.is_closed() and journal._reading._driver.is_closed())
            [outcome] = await write(journal, entry(value("a", 2)))
            assert outcome.position.seq == 2
            await asyncio.wait_for(journal.wait(START), 10)


async def test_a_network_that_swallows_everything_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 0.5)
    async with Relay(shared()) as relay:
        through = url.replace(f":{shared().port}/", f":{relay.port}/")
        async with nodes(1, through) as [journal], nodes(1, url) as [other]:
            await write(journal, entry(value("a", 1)))
            relay.passes.clear()
            waiting = asyncio.create_task(raised(Unavailable, journal.wait(await other.head())))
            await raised(
                Unavailable, journal.append(Batch(read=START, versions={"b": 0}, entries=[entry(value("b", 1))]))
            )
            await raised(Unavailable, journal.read(START))
            await raised(Unavailable, journal.check_writable(by_writing=False))
            await asyncio.wait_for(waiting, 10)
            relay.passes.set()
            await eventually(lambda: works(journal))


async def test_when_one_connection_was_silent_the_others_are_made_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that listens has lost a notification and all that follows: it would wait for an answer for an hour."""
    monkeypatch.setattr(wake_ups, "ANSWER_SECONDS", 3600.0)
    async with Proxy(shared().port) as network:
        through = url.replace(f":{shared().port}/", f":{network.url.rpartition(':')[2]}/")
        async with nodes(1, through) as [journal], nodes(1, url) as [other]:
            monkeypatch.setattr(connection, "STATEMENT_SECONDS", 0.5)
            await journal._reading.close()
            await journal._reading.connect()
            network.swallow = "all"
            await write(other, entry(value("a", 1)))
            await eventually(lambda: network.swallowed == 1)
            await raised(Unavailable, journal.read(START))
            network.swallow = "nothing"
            await asyncio.wait_for(journal.wait(START), 30)
            assert len(await changes_after(journal, START, 10)) == 1


async def test_nobody_waits_for_one_silent_connection_after_the_other(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a read that began just before an append is given up, nor for one attempt to connect after another."""
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 1.0)
    monkeypatch.setattr(connector, "CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(wake_ups, "ANSWER_SECONDS", 3600.0)
    async with Relay(shared()) as relay:
        through = url.replace(f":{shared().port}/", f":{relay.port}/")
        async with nodes(1, through) as [journal]:
            monkeypatch.setattr(connection, "STATEMENT_SECONDS", 3600.0)
            await journal._reading.close()
            await journal._reading.connect()
            relay.passes.clear()
            batch = Batch(read=START, versions={"a": 0}, entries=[entry(value("a", 1))])
            attempts = [journal.append(batch), *(journal.read(START) for _ in range(20))]
            began = time.monotonic()
            await asyncio.wait_for(asyncio.gather(*(raised(Unavailable, each) for each in attempts)), 60)
            assert time.monotonic() - began < 12, "not twenty attempts to connect, and no hour"


async def works(journal: PostgresqlJournal) -> bool:
    """Whether it can be written to and followed, as far as a slow machine allows within so short bounds."""
    try:
        await write(journal, entry(value("a", 2)))
        await journal.wait(START)
    except Unavailable:
        return False
    return True


# cancellation and bounds


async def test_a_cancelled_append_leaves_the_connection_whole(url: str) -> None:
    async with nodes(2, url) as [journal, other]:
        await write(journal, entry(value("a", 1)))
        async with held_lock(url):
            writing = asyncio.create_task(write(journal, entry(value("a", 2), id="cancelled")))
            await eventually(lambda: journal._writing._lock.locked())
            await asyncio.sleep(0.05)
            writing.cancel()
            await asyncio.wait([writing])
            assert writing.cancelled()
            assert (await journal.head()).seq == 1
        known = await other.lookup([("ada", "cancelled")])
        held = (await History(journal).load()).slices["a"]
        assert (held.value == 2) == bool(known), "its outcome is unknown, but it is all or nothing"
        [outcome] = await write(journal, entry(value("a", 3)))
        assert [change.version for change in await changes_after(other, START, 9)][-1] == outcome.position.seq


@pytest.mark.slow
async def test_a_head_that_somebody_holds_is_unavailable_and_no_more(url: str) -> None:
    async with nodes(1, url) as [journal]:
        async with held_lock(url):
            error = await raised(Unavailable, write(journal, entry(value("a", 1))))
            assert "LockNotAvailable" in str(error)
            assert await journal.head() == START, "reading goes on"
        [outcome] = await write(journal, entry(value("a", 1)))
        assert outcome.position.seq == 1


@pytest.mark.slow
async def test_nobody_sees_what_no_standby_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after a timeout nor after a cancellation; and once a standby answers, it was written once."""
    monkeypatch.setattr(connection, "STATEMENT_SECONDS", 1.0)
    with PostgreSQL() as server:
        async with nodes(2, server.url()) as [journal, other]:
            await write(journal, entry(value("a", 1)))
            await server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
            await eventually(lambda: waits_for_standbys(journal))
            await raised(Unavailable, write(journal, entry(value("a", 2), id="late")))
            assert (await other.head()).seq == 1
            waiting = asyncio.create_task(write(journal, entry(value("a", 3), id="cancelled"), a=2))
            await eventually(lambda: waits_for_the_head(server))  # and so does its transaction, after the cancellation
            waiting.cancel()
            await asyncio.wait([waiting])
            assert (await other.head()).seq == 1
            assert await other.lookup([("ada", "late"), ("ada", "cancelled")]) == {}
            await server.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
            await eventually(lambda: has_seq(other, 3))
            for id in ("late", "cancelled"):
                await raised(Duplicate, write(other, entry(value("a", 4), id=id), a=3))


async def waits_for_the_head(server: PostgreSQL) -> bool:
    """Whether a transaction waits for another one that has the head of the journal."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%append%'"
    return bool(await server.value(waiting))


async def waits_for_standbys(journal: PostgresqlJournal) -> bool:
    return bool(await journal._writing.run(lambda driver: driver.fetchval("SHOW synchronous_standby_names")))


async def has_seq(journal: PostgresqlJournal, seq: int) -> bool:
    return (await journal.head()).seq == seq


async def test_a_node_that_stalls_in_a_checkpoint_holds_up_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "STALLED_MS", 100)
    portions = checkpoints.portions

    def frozen(*arguments: object) -> Iterator[object]:
        yield from portions(*arguments)  # type: ignore[arg-type]
        time.sleep(1)  # the whole process

    async with nodes(2, url) as [here, there]:
        await write(here, entry(value("a", 1)))
        state = await History(here).load()
        with monkeypatch.context() as patched:
            patched.setattr(checkpoints, "portions", frozen)
            await raised(Unavailable, here.save(state.position, state.slices))
        assert await there.checkpoints() == []
        await there.save(state.position, state.slices)
        assert [point.position for point in await here.checkpoints()] == [state.position]


async def test_only_one_node_at_a_time_makes_a_checkpoint(url: str) -> None:
    async with nodes(2, url) as [here, there]:
        await write(here, entry(value("a", 1)))
        state = await History(here).load()
        driver = await shared().connect()
        async with driver.transaction():
            assert await driver.fetchval(here._statements["lock_checkpoints"])
            error = await raised(Unavailable, there.save(state.position, state.slices))
            assert "another process" in str(error)
        await driver.close()
        await there.save(state.position, state.slices)


# what others do to the tables


async def test_a_head_that_comes_back_to_where_a_wait_began_is_news(url: str) -> None:
    """A node that waits has written meanwhile, and a restored backup undoes just that."""
    async with nodes(1, url) as [journal]:
        [outcome] = await write(journal, entry(value("a", 1)))
        waiting = await waiting_for_news(journal, outcome.position)
        await write(journal, entry(value("a", 2)), a=1)
        await shared().execute(
            f"DELETE FROM {table(url, 'changes')} WHERE seq > 1",
            f"UPDATE {table(url, 'head')} SET seq = 1, tag = '{outcome.position.tag}'",
            f"UPDATE {table(url, 'versions')} SET version = 1",
        )
        await asyncio.wait_for(waiting, 10)


async def test_a_tail_that_was_lost_is_another_history(url: str) -> None:
    """As after a restored backup, or a failover to a standby that had not received everything."""
    async with nodes(2, url) as [journal, other]:
        for number in range(4):
            [outcome] = await write(journal, entry(value("a", number)))
        second = (await changes_after(journal, START, 9))[1].position
        waiting = await waiting_for_news(journal, outcome.position)
        await shared().execute(
            f"DELETE FROM {table(url, 'changes')} WHERE seq > 2",
            f"UPDATE {table(url, 'head')} SET seq = 2, tag = '{second.tag}'",
            f"UPDATE {table(url, 'versions')} SET version = 2",
        )
        await asyncio.wait_for(waiting, 10)
        await raised(Forked, journal.read(outcome.position, 9))
        batch = Batch(read=outcome.position, versions={"a": 4}, entries=[entry(value("a", 5))])
        await raised(Forked, journal.append(batch))
        await write(other, entry(value("a", 8)))
        await write(other, entry(value("a", 9)))
        await raised(Forked, journal.read(outcome.position, 9))
        await raised(Forked, journal.append(batch))
        assert (await History(journal).load()).slices["a"].value == 9


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {changes} SET data = '7' WHERE seq = 2",
        "UPDATE {changes} SET slice = 'b' WHERE seq = 2",
        "DELETE FROM {changes} WHERE seq = 2",
        "DELETE FROM {changes} WHERE seq = 3",
        "DELETE FROM {head}",
    ],
)
async def test_a_damaged_change_is_refused(url: str, damage: str) -> None:
    async with nodes(1, url) as [journal]:
        for number in range(3):
            await write(journal, entry(value("a", number)))
        await shared().execute(damage.format(changes=table(url, "changes"), head=table(url, "head")))
        error = await raised(JournalUnusable, journal.read(START, 9))
        assert "damaged" in str(error)


@pytest.mark.parametrize(
    "damage", ["UPDATE {0} SET value = '7' WHERE slice = 'a'", "DELETE FROM {0} WHERE slice = 'a'"]
)
async def test_a_damaged_checkpoint_is_refused(url: str, damage: str) -> None:
    async with nodes(1, url) as [journal]:
        await write(journal, entry(value("a", 1), value("r/2", 1)))
        await keep(journal)
        await shared().execute(damage.format(table(url, "snapshots")))
        [point] = await journal.checkpoints()
        await raised(JournalUnusable, journal.saved(point.position, EVERYTHING))
        assert [each.name for each in await journal.saved(point.position, Selection.family("r"))] == ["r/2"]


async def test_a_damaged_record_is_refused(url: str) -> None:
    async with nodes(1, url) as [journal]:
        await write(journal, entry(value("a", 1), id="x"))
        await shared().execute(f"UPDATE {table(url, 'requests')} SET digest = 'other'")
        await raised(JournalUnusable, journal.lookup([("ada", "x")]))


async def test_a_trim_that_was_interrupted_is_completed(url: str) -> None:
    async with nodes(1, url) as [journal]:
        for number in range(3):
            await write(journal, entry(value("a", number), value(f"r/{number}", 1)))
            await keep(journal)
        before, head = plain(await History(journal).load()), await journal.head()
        await journal._upkeep.fetch(journal._statements["move_floor"], head.seq, head.tag)  # and no more
        await journal.tidy()
        assert await shared().value(f"SELECT count(*) FROM {table(url, 'changes')}") == 0
        assert await shared().value(f"SELECT count(*) FROM {table(url, 'snapshots')}") == len(before)
        assert plain(await History(journal).load()) == before


async def test_what_a_standby_says_is_that_it_accepts_no_writes(url: str) -> None:
    async with nodes(1, url) as [journal]:
        await journal.check_writable(by_writing=False)
        await journal.check_writable(by_writing=True)
        await journal._reading.run(lambda driver: driver.execute("SET default_transaction_read_only = on"))
        await raised(Unavailable, journal.check_writable(by_writing=False))
