"""How a PostgreSQL journal takes over what another journal has numbered, and gives away its idempotency records.

Invariants: as in an append, the head is locked first and moves last, and everything is one transaction. Nothing is
renumbered: what does not continue the history is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statestream.core.change import PAGE, START, Change, IdempotencyKey, Position
from statestream.core.errors import Forked
from statestream.journal.contract import IDEMPOTENCY_MS, KeptRecord
from statestream.journal.postgresql.changes import head_of, record_of, slices_text
from statestream.journal.postgresql.checkpoints import STALLED_MS
from statestream.journal.postgresql.checksums import change_checksum, request_checksum
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements


async def records(sql: Connection, statements: Statements, after: IdempotencyKey, now: int) -> list[KeptRecord]:
    """The next records that are not too old, in the order of their keys."""
    rows = await sql.fetch(statements["records"], *after, now - IDEMPOTENCY_MS, PAGE)
    return [KeptRecord(key=(row["actor"], row["id"]), record=record_of(row), at=row["at"]) for row in rows]


async def begin_at(sql: Connection, statements: Statements, position: Position, versions: Mapping[str, int]) -> None:
    """Makes the history of an empty journal begin at a position, at which slices have these versions."""

    async def work(driver: Any) -> None:
        async with driver.transaction():
            newest = await lock(driver, statements)
            if newest != START:
                raise Forked(f"expected an empty journal, got one that ends at {newest}")
            await driver.execute(statements["set_versions"], [*versions], [*versions.values()])
            await driver.execute(statements["begin_at"], position.seq, position.tag)

    await sql.run(work)


async def adopt(
    sql: Connection, statements: Statements, changes: Sequence[Change], kept: Sequence[KeptRecord]
) -> Position:
    """Appends changes and records of another journal as they are. Returns the head."""

    async def work(driver: Any) -> Position:
        async with driver.transaction():
            newest = await lock(driver, statements)
            await _check_continued(driver, statements, newest, changes)
            if changes:
                newest = changes[-1].position
                await _write(driver, statements, changes)
            if kept:
                rows = [_record_row(each) for each in kept]
                await driver.execute(statements["adopt_records"], *zip(*rows, strict=True))
            return newest

    return await sql.run(work)


async def lock(driver: Any, statements: Statements) -> Position:
    """Locks the head for the rest of the transaction."""
    await driver.execute(f"SET LOCAL idle_in_transaction_session_timeout = {STALLED_MS}")
    return head_of(await driver.fetchrow(statements["lock_head"]))


async def _check_continued(driver: Any, statements: Statements, head: Position, changes: Sequence[Change]) -> None:
    first: dict[str, int] = {}
    for seq, change in enumerate(changes, head.seq + 1):
        if change.version != seq:
            raise Forked(f"expected change {seq}, got {change.version}")
        first.setdefault(change.slice, 0 if change.is_erased else change.from_version)
    moved = await driver.fetchval(statements["moved"], [*first], [*first.values()])
    if moved:
        raise Forked(f"{moved} has another version here")


async def _write(driver: Any, statements: Statements, changes: Sequence[Change]) -> None:
    rows = [_change_row(change) for change in changes]
    await driver.execute(statements["adopt_changes"], *zip(*rows, strict=True))
    after = {change.slice: 0 if change.kind == "removed" else change.version for change in changes}
    await driver.execute(statements["remove_versions"], [name for name, version in after.items() if not version])
    kept = {name: version for name, version in after.items() if version}
    await driver.execute(statements["set_versions"], [*kept], [*kept.values()])
    head = changes[-1].position
    await driver.execute(statements["move_head"], head.seq, head.tag)
    await driver.execute(f'NOTIFY "{statements.channel}"')


def _change_row(change: Change) -> tuple[Any, ...]:
    cause, position = change.cause, change.position
    row = (change.slice, change.kind, cause.type, cause.id, cause.actor, change.at, change.data, cause.payload)
    return (position.seq, position.tag, change.from_version, *row, change_checksum(*row))


def _record_row(kept: KeptRecord) -> tuple[Any, ...]:
    (actor, id), record = kept.key, kept.record
    slices = slices_text(record)
    crc = request_checksum(actor, id, record.digest, slices)
    return (actor, id, kept.at, record.position.seq, record.position.tag, record.digest, slices, crc)
