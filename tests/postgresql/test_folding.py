"""Folding in PostgreSQL: what it leaves in the tables, and beside an erasure of the same rows."""

from __future__ import annotations

import asyncio

from statestream.core.change import START
from statestream.journal import PostgresqlJournal, Retention
from statestream.journal.history import History
from statestream.testing.journals import changes_after, entry, fold, keep, patches, step, value, write
from tests.support.postgresql import shared

KEY = "r/vWsVpnLVcPHtxdgb"
STEPS = 700
WORD = "w0000 "


async def grown(journal: PostgresqlJournal, name: str) -> None:
    await write(journal, entry(value(name, {"chunks": [], "title": ""})))
    for begin in range(0, STEPS, 50):
        steps = (step(name, {"op": "add", "path": f"/chunks/{at}", "value": WORD}) for at in range(begin, begin + 50))
        await write(journal, *(entry(each) for each in steps))
    await write(journal, entry(patches(name, {"op": "replace", "path": "/title", "value": "done"})))
    await keep(journal)


async def test_a_folded_reply_takes_a_bounded_multiple_of_its_text_after_a_vacuum() -> None:
    """The bounds are those of the page on running a server. They are for the changes: pages are shared."""
    url = shared().new_url()
    table = f"{url.rpartition('schema=')[2]}.changes"
    journal = PostgresqlJournal(url, Retention(fold_after=0.0))
    await journal.open()
    await grown(journal, KEY)
    size = f"SELECT pg_total_relation_size('{table}')"
    before = await shared().value(size)
    await fold(journal)
    assert await shared().value(f"SELECT count(*) FROM {table} WHERE kind = ''") == STEPS - 1
    await shared().execute(f"VACUUM FULL {table}")
    text = STEPS * len(WORD)
    assert before / text < 56
    assert await shared().value(size) / text < 36
    await journal.close()


async def test_an_erasure_beside_it_is_complete() -> None:
    journal = PostgresqlJournal(shared().new_url(), Retention(fold_after=0.0))
    await journal.open()
    names = [f"r/{number}" for number in range(4)]
    for name in names:
        await grown(journal, name)
    await asyncio.gather(fold(journal), *(journal.erase([name]) for name in names[:3]))
    await fold(journal)
    changes = await changes_after(journal, START, 9_999)
    assert [change.version for change in changes] == [*range(1, 4 * (STEPS + 2) + 4)]
    assert all(change.is_erased for change in changes if change.slice != names[3])
    assert sum(change.is_folded for change in changes) == STEPS - 1
    state = (await History(journal).load()).slices
    assert set(state) == {names[3]}
    assert state[names[3]].value == {"chunks": [WORD] * STEPS, "title": "done"}
    await journal.close()
