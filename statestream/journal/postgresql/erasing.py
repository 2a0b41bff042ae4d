"""Erases slices from the tables of a PostgreSQL journal.

The history is searched first, a portion at a time, while others write. One transaction then replaces what was found,
and what has been written meanwhile; it holds the lock of the head, so that no append comes in between, and that of the
checkpoints.

Invariants: all of it or nothing. What the database keeps of the replaced rows is its own: dead rows until a VACUUM, the
write-ahead log, standbys and backups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import orjson

from statestream.core.change import IdempotencyKey, Position
from statestream.core.erasing import without_erased
from statestream.journal.erasing import erasure
from statestream.journal.postgresql.adopting import lock
from statestream.journal.postgresql.changes import append_in, change_columns, change_of, head
from statestream.journal.postgresql.checksums import request_checksum
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements

SEARCHED: Final = 10_000
"""The changes that one statement searches."""
PORTION: Final = 500
"""The changes that one statement replaces."""


async def erase(
    sql: Connection, statements: Statements, names: Collection[str], actor: str | None, now: int
) -> Position | None:
    """The position of the erasure; None if there is nothing to erase. Raises Unavailable."""
    wanted, seqs, after = sorted(names), list[int](), 0
    until = (await head(sql, statements)).seq
    while after < until:
        rows = await sql.fetch(statements["changes_of"], after, min(until, after + SEARCHED), wanted)
        seqs += [row["seq"] for row in rows]
        after += SEARCHED
    records = await sql.fetch(statements["records_of"], wanted)
    keys = {(row["actor"], row["id"]) for row in records}

    async def work(driver: Any) -> Position | None:
        async with driver.transaction():
            await driver.execute(statements["await_checkpoints"])
            newest = await lock(driver, statements)
            newer = await driver.fetch(statements["changes_of"], until, newest.seq, wanted)
            found = [*seqs, *(row["seq"] for row in newer)]
            versions = dict.fromkeys(wanted, 0) | {
                row["slice"]: row["version"] for row in await driver.fetch(statements["versions_of"], wanted)
            }
            more = await _erase_changes(driver, statements, wanted, found)
            saved = await _erase_saved(driver, statements, wanted)
            recorded = await _erase_records(driver, statements, wanted, {*keys, *more})
            if not (found or saved or recorded or any(versions.values())):
                return None
            return await append_in(driver, statements, erasure(newest, versions, actor), now)

    return await sql.run(work)


async def _erase_changes(
    driver: Any, statements: Statements, names: Collection[str], seqs: Sequence[int]
) -> set[IdempotencyKey]:
    """Returns the keys of the requests that made them."""
    keys = set[IdempotencyKey]()
    for begin in range(0, len(seqs), PORTION):
        rows = await driver.fetch(statements["affected"], seqs[begin : begin + PORTION])
        changes = [change_of(tuple(row)) for row in rows]
        keys.update((change.cause.actor or "", change.cause.id) for change in changes)
        gone = without_erased(changes, names)
        replaced = [(change.version, *change_columns(change)) for change in gone.values()]
        if replaced:
            await driver.execute(statements["replace_changes"], *zip(*replaced, strict=True))
    return keys


async def _erase_saved(driver: Any, statements: Statements, names: Collection[str]) -> bool:
    """Whether checkpoints had any of the slices."""
    rows = await driver.fetch(statements["saved_of"], names)
    for point in await driver.fetch(statements["checkpoints"]) if rows else ():
        there = {row["slice"]: row["crc"] for row in rows if row["checkpoint"] <= point["seq"]}
        gone = [crc for crc in there.values() if crc is not None]
        if gone:
            left = (point["slices"] - len(gone), point["total"] - sum(gone))
            await driver.execute(statements["recount"], point["seq"], *left)
    await driver.execute(statements["erase_saved"], names)
    return any(row["crc"] is not None for row in rows)


async def _erase_records(
    driver: Any, statements: Statements, names: Collection[str], keys: Iterable[IdempotencyKey]
) -> bool:
    """Whether there were any records about the slices."""
    wanted = sorted(keys)
    if not wanted:
        return False
    replaced = []
    for row in await driver.fetch(statements["lookup"], *zip(*wanted, strict=True), 0):
        slices = orjson.loads(row["slices"])
        if any(name in names for name in slices):
            text = orjson.dumps(["" if name in names else name for name in slices]).decode()
            key = (row["actor"], row["id"])
            replaced.append((*key, text, request_checksum(*key, b"", text)))
    if replaced:
        await driver.execute(statements["replace_records"], *zip(*replaced, strict=True))
    return bool(replaced)
