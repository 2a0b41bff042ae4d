"""Erasing from PostgreSQL: what is left in the database, and in its files after a VACUUM."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from statestream.journal import PostgresqlJournal
from statestream.journal.history import History
from statestream.testing.journals import entry, keep, value, write
from tests.support.postgresql import PostgreSQL, shared

CANARY = "canary-b52e07"


def in_tables(data: Path) -> bool:
    """Whether a file of a table has it. The write-ahead log is not searched: what it keeps is the database's."""
    return any(CANARY.encode() in path.read_bytes() for path in (data / "base").rglob("*") if path.is_file())


async def fill(journal: PostgresqlJournal) -> None:
    for number in range(20):
        secret = f"{CANARY} {number} " + "".join(chr(33 + (number * 7 + at * 13) % 90) for at in range(number * 200))
        await write(journal, entry(value("r/1", secret), value("a", number), id=f"id {CANARY[-6:]} {number}"))
        if number % 5 == 0:
            await keep(journal)


async def test_nothing_is_left_in_the_files_of_the_tables_after_a_vacuum() -> None:
    with PostgreSQL() as server:
        url = server.new_url()
        name = re.search(r"schema=(\w+)", url)[1]  # type: ignore[index]
        journal = PostgresqlJournal(url)
        await journal.open()
        await fill(journal)
        await server.value("CHECKPOINT")
        assert in_tables(server.data), "it would be found"
        await journal.erase(["r/1"])
        rows = await server.value(
            f"SELECT count(*) FROM {name}.changes c WHERE strpos(c::text, $1) > 0"
            " OR position($2::bytea IN c.data) > 0 OR position($2::bytea IN c.payload) > 0",
            CANARY,
            CANARY.encode(),
        )
        assert rows == 0
        assert await server.value(f"SELECT count(*) FROM {name}.snapshots WHERE slice = 'r/1'") == 0
        for table in ("changes", "snapshots", "requests", "versions"):
            await server.value(f"VACUUM (FULL) {name}.{table}")
        await server.value("CHECKPOINT")
        assert not in_tables(server.data)
        await keep(journal)
        assert set((await History(journal).load()).slices) == {"a"}
        await journal.close()


async def test_other_nodes_append_while_one_erases() -> None:
    url = shared().new_url()
    journals = [PostgresqlJournal(url) for _ in range(3)]
    await asyncio.gather(*(journal.open() for journal in journals))
    await fill(journals[0])
    erasing = asyncio.gather(journals[0].erase(["r/1"]), journals[1].erase(["r/1", "r/2"]))
    for number in range(20):
        await write(journals[2], entry(value("a", number)))
    await erasing
    for journal in journals:
        snapshot = await History(journal).load()
        assert snapshot.slices["a"].value == 19
        assert CANARY not in repr(await journal.read(await journal.earliest(), 200))
        await journal.close()
