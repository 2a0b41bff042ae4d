"""Folding on Redis: the memory that it saves, and what it does beside erasures, trims, failovers and open streams."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import pytest

from statestream.core.change import START, Change, PendingChange
from statestream.core.errors import Forked
from statestream.core.folding import folded
from statestream.journal import Retention
from statestream.journal.contract import Batch
from statestream.journal.history import History
from statestream.journal.redis import RedisJournal
from statestream.testing.journals import changes_after, entry, fold, keep, patches, raised, step, value, write
from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state
from tests.support.redis_journals import answers, key, opened, remove_shared, shared
from tests.support.redis_server import RedisServer

Http = aiohttp.ClientSession
AT_ONCE = Retention(fold_after=0.0)
GROWING = f"{ROOT / 'tests/apps/growing.py'}:store"
WORD = "w0000 "
KEY = "vWsVpnLVcPHtxdgb"


def teardown_module() -> None:
    remove_shared()


async def grow(journal: RedisJournal, names: Sequence[str], steps: int) -> None:
    """Instances that grow beside each other, a batch a step, and are done."""
    state = await History(journal).load()
    head, versions = state.position, {each: one.version for each, one in state.slices.items()}

    async def append(change: PendingChange) -> None:
        nonlocal head
        based_on = {change.slice: versions.get(change.slice, 0)}
        [outcome] = await journal.append(Batch(read=head, versions=based_on, entries=[entry(change)]))
        head, versions[change.slice] = outcome.position, outcome.position.seq

    for name in names:
        await append(value(name, {"chunks": [], "text": ""}))
    for at in range(steps):
        for name in names:
            await append(step(name, {"op": "add", "path": f"/chunks/{at}", "value": WORD}))
    for name in names:
        text = {"op": "replace", "path": "/text", "value": WORD * steps}
        await append(patches(name, text, {"op": "replace", "path": "/chunks", "value": []}))


async def every_change(journal: RedisJournal) -> list[Change]:
    return await changes_after(journal, await journal.earliest(), 9_999)


def memory(journal: RedisJournal) -> int:
    """What the changes take."""
    sizes = (shared()("MEMORY", "USAGE", key(journal, part), "SAMPLES", 0) for part in ("changes", "replaced"))
    return sum(size or 0 for size in sizes)


async def test_a_folded_reply_takes_a_bounded_multiple_of_its_text() -> None:
    """The bounds are those of the page on running a server."""
    journal = await opened(shared(), "bounds", AT_ONCE)
    names = [f"r/{KEY}{number}" for number in range(2)]
    await grow(journal, names, 700)
    text = len(names) * 700 * len(WORD)
    assert memory(journal) / text < 40
    await keep(journal)
    before = (await journal.checkpoints())[-1].bytes
    await fold(journal)
    assert sum(change.is_folded for change in await every_change(journal)) == len(names) * 699
    assert memory(journal) / text < 18
    assert (await journal.checkpoints())[-1].bytes < before, "so that more history is kept"
    await journal.close()


async def test_an_erasure_beside_it_is_complete(redis_server: RedisServer) -> None:
    journal, other = await opened(redis_server, "a", AT_ONCE), await opened(redis_server, "a", AT_ONCE)
    names = [f"r/{number}" for number in range(4)]
    await grow(journal, names, 150)
    await keep(journal)
    await journal.erase(names[:1])  # which moves entries from between
    await asyncio.gather(fold(journal), fold(other), *(other.erase([name]) for name in names[1:3]))
    await keep(journal)
    await fold(journal)
    changes = await every_change(journal)
    assert [change.version for change in changes] == [*range(1, 4 * 152 + 4)]
    assert all(change.is_erased for change in changes if change.slice != names[3])
    assert sum(change.is_folded for change in changes) == 149
    assert {name: each.value for name, each in (await History(journal).load()).slices.items()} == {
        names[3]: {"chunks": [], "text": WORD * 150}
    }
    await journal.erase(names[3:])
    redis_server("SAVE")
    assert WORD.encode() not in (redis_server.folder / "dump.rdb").read_bytes()
    assert [change.version for change in await every_change(journal)] == [*range(1, 4 * 152 + 5)]
    await journal.close()
    await other.close()


async def test_what_is_erased_but_not_overwritten_is_not_folded() -> None:
    journal = await opened(shared(), "unfinished", AT_ONCE)
    await grow(journal, ["r/1", "r/2"], 9)
    steps = [change for change in await every_change(journal) if change.cause.type == "r/grew"]
    await journal._erasing._append(["r/1"], "ada", journal.clock.now())  # by a process that is killed now
    assert not await journal.rewrite([(each, folded(each)) for each in steps if each.slice == "r/1"])
    assert await journal.rewrite([(each, folded(each)) for each in steps if each.slice == "r/2"])
    await journal.tidy()
    assert [c.is_erased or c.is_folded for c in await every_change(journal) if c.cause.type != "test/acted"] == [
        True
    ] * (9 + 11 + 1)
    await journal.close()


async def test_what_was_moved_goes_when_it_is_trimmed() -> None:
    journal = await opened(shared(), "trimmed", AT_ONCE)
    await grow(journal, ["r/1", "r/2"], 60)
    await keep(journal)
    await fold(journal)
    assert shared()("XLEN", key(journal, "changes")) < 30
    await grow(journal, ["r/3"], 60)
    state = await History(journal).load()
    await keep(journal)
    await fold(journal)
    await journal.trim((await journal.checkpoints())[-1].position)
    assert shared()("EXISTS", key(journal, "replaced")) == 0
    assert not await every_change(journal)
    await write(journal, entry(value("a", 1)))
    assert [change.slice for change in await every_change(journal)] == ["a"]
    assert set((await History(journal).load()).slices) == {*state.slices, "a"}
    await journal.close()


async def test_a_node_that_missed_a_failover_notes_and_replaces_nothing(redis_server: RedisServer) -> None:
    journal = await opened(redis_server, "a", AT_ONCE)
    await grow(journal, ["r/1"], 3)
    redis_server("SAVE")
    await grow(journal, ["r/2"], 3)
    lost = [change for change in await every_change(journal) if change.slice == "r/2"]
    redis_server.kill()
    redis_server.start()
    await answers(journal)
    await grow(journal, ["r/2"], 3)
    before = await every_change(journal)
    assert [change.data for change in before if change.slice == "r/2"] == [change.data for change in lost]
    assert not await journal.rewrite([(each, folded(each)) for each in lost[1:3]])
    await raised(Forked, journal.note_folded(lost[-1].position))
    assert (await every_change(journal), await journal.folded_until()) == (before, START)
    await journal.close()


@pytest.mark.slow
async def test_readers_resume_around_what_was_folded_on_another_node(redis_server: RedisServer, http: Http) -> None:
    name, words = f"reply/{KEY}", [f"w{at:05d} " for at in range(120)]
    env = {"FOLDED": redis_server.url}
    with Server.serving(GROWING, env=env) as one, Server.serving(GROWING, env=env) as two:
        reader = PlainClient(one.port, query=f"slices={name}").connect()
        for at, word in enumerate(words):
            _, body = await dispatch(http, one.url, "reply/grew", {"index": at, "text": word}, key=KEY)
            if at == 60:
                reader.read_to(body["position"])
                reader.close()
        _, body = await dispatch(http, two.url, "reply/done", {"title": "Done"}, key=KEY)
        with PlainClient(one.port, query=f"slices={name}") as up_to_date:
            up_to_date.read_to(body["position"])
        one.stop()  # which makes a checkpoint, of what it knows
        one.start()

        async def is_folded() -> bool:
            async with http.get(f"{two.url}/history?slices={name}") as response:
                return (await response.text()).count("reply/grew") == 2

        await eventually(is_folded, seconds=30)
        for server in (one, two):
            server.kill()
            server.start()
            again = PlainClient(server.port, query=f"slices={name}")
            again.state, again.versions, again.last_id = dict(reader.state), dict(reader.versions), reader.last_id
            again.connect().read_to(body["position"])
            again.close()
            assert (again.state, again.reasons) == ((await get_state(http, server.url, f"slices={name}"))["slices"], [])
            assert again.state[name] == {"title": "Done", "text": "".join(words), "chunks": []}
