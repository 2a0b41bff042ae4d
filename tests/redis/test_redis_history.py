"""What a Redis journal keeps and forgets: lost tails and checkpoints, space, ids, and how those who wait are woken."""

from __future__ import annotations

import asyncio
import time

import pytest

from statestream.core.change import START
from statestream.core.errors import Forked, Unavailable
from statestream.journal import Retention
from statestream.journal.contract import Batch
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal, waking
from statestream.testing.journals import changes_after, entry, keep, plain, raised, removed, value, write
from tests.support.redis_journals import answers, key, opened, remove_shared, shared
from tests.support.redis_server import RedisServer


def teardown_module() -> None:
    remove_shared()


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
    await answers(journal)
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
    await answers(journal)
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


async def test_a_wait_ends_when_another_node_writes(journal: RedisJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waking, "POLL_SECONDS", 60.0)  # so that polling cannot be what ends it
    journal._waking.link.seconds = 60.0
    other = await opened(shared(), journal._address.namespace)
    for number in range(3):
        waiting = asyncio.create_task(journal.wait(await journal.head()))
        while b"xread" not in shared()("CLIENT", "LIST"):
            await asyncio.sleep(0.01)
        await write(other, entry(value("a", number)))
        await asyncio.wait_for(waiting, 10)
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
        assert time.monotonic() - began < 3
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
