"""Checkpoints of a PostgreSQL journal: the saved slices, and how the earliest position moves to one of them.

A checkpoint is made in one transaction, which never holds up an append. An interrupted one leaves nothing.

Invariants: of each slice, the newest row of `snapshots` at or before a checkpoint is its state there. Each checkpoint
knows how many slices exist there and the sum of their CRCs, so that a missing slice is noticed. Only one node at a time
makes a checkpoint; if that node stalls, the server ends its transaction after `STALLED_MS`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from statestream.core.change import Position, SliceState
from statestream.core.errors import Expired
from statestream.core.selection import Selection
from statestream.journal.contract import Checkpoint, CheckpointClaimed, SavedSlice
from statestream.journal.postgresql.changes import check_place
from statestream.journal.postgresql.checksums import damaged, slice_checksum
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements

PORTION_BYTES: Final = 1 << 20
PORTION_ROWS: Final = 1_000
PAGE_ROWS: Final = 1_000
STALLED_MS: Final = 10_000
_ALL_NAMES: Final = ("", "\x7f")
"""Names are ASCII, and sorted by their bytes."""

Row = tuple[str, int, int, str, bytes | None]
"""The name of a slice, its version, its CRC, the tag of its position, its value."""


async def checkpoints(sql: Connection, statements: Statements) -> list[Checkpoint]:
    rows = await sql.fetch(statements["checkpoints"])
    return [
        Checkpoint(position=Position(seq=row["seq"], tag=row["tag"]), at=row["at"], bytes=row["bytes"]) for row in rows
    ]


async def saved(
    sql: Connection, statements: Statements, checkpoint: Position, selection: Selection
) -> list[SavedSlice]:
    """In pages. Nothing but a trim changes what belongs to a checkpoint, so it must be there still at the end."""
    rows = await _selected(sql, statements, "saved", checkpoint, selection)
    point = await _point(sql, statements, checkpoint)
    kept = [row for row in rows if row["value"] is not None]
    if selection.everything and (len(kept), sum(row["crc"] for row in kept)) != (point["slices"], point["total"]):
        raise damaged(f"the checkpoint at change {checkpoint.seq} of the journal")
    return [_saved(row) for row in kept]


async def index(sql: Connection, statements: Statements, checkpoint: Position, selection: Selection) -> dict[str, int]:
    """The versions only: values are not read, and so the rows are not checked, but counted."""
    rows = await _selected(sql, statements, "index", checkpoint, selection)
    point = await _point(sql, statements, checkpoint)
    found = {row["slice"]: row["version"] for row in rows if not row["removed"]}
    if selection.everything and len(found) != point["slices"]:
        raise damaged(f"the checkpoint at change {checkpoint.seq} of the journal")
    return found


async def _point(sql: Connection, statements: Statements, checkpoint: Position) -> Any:
    """Raises Expired."""
    for row in await sql.fetch(statements["checkpoints"]):
        if (row["seq"], row["tag"]) == (checkpoint.seq, checkpoint.tag):
            return row
    raise Expired("the checkpoint is not kept any more; read the checkpoints again")


async def _selected(
    sql: Connection, statements: Statements, what: str, checkpoint: Position, selection: Selection
) -> list[Any]:
    """The rows of the selected slices. `what` is how the statements begin that read them."""
    rows: list[Any] = []
    if selection.names:
        rows += await sql.fetch(statements[f"{what}_names"], checkpoint.seq, sorted(selection.names))
    for lower, upper in _ranges(selection):
        while page := await sql.fetch(statements[f"{what}_range"], checkpoint.seq, lower, upper, PAGE_ROWS):
            rows += page
            upper = page[-1]["slice"]
    return rows


def _ranges(selection: Selection) -> list[tuple[str, str]]:
    if selection.everything:
        return [_ALL_NAMES]
    return [(f"{family}/", f"{family}0") for family in sorted(selection.families)]  # 0 follows the slash


def _saved(row: Any) -> SavedSlice:
    name, checkpoint, version, crc, tag, value = row
    if slice_checksum(name, checkpoint, version, tag, value) != crc:
        raise damaged(f"a slice in the checkpoint at change {checkpoint} of the journal")
    return SavedSlice(name=name, position=Position(seq=version, tag=tag), data=value)


async def save(
    sql: Connection, statements: Statements, position: Position, slices: Mapping[str, SliceState | None], at: int
) -> None:
    """Raises CheckpointClaimed while another node makes a checkpoint."""
    await sql.run(lambda driver: _save(driver, statements, position, slices, at))


async def _save(
    driver: Any, statements: Statements, position: Position, slices: Mapping[str, SliceState | None], at: int
) -> None:
    async with driver.transaction():
        await driver.execute(f"SET LOCAL idle_in_transaction_session_timeout = {STALLED_MS}")
        check_place(await driver.fetchrow(statements["place"], position.seq), position)
        if not await driver.fetchval(statements["lock_checkpoints"]):
            raise CheckpointClaimed
        previous = await driver.fetch(statements["checkpoints"])  # as of now, because the lock has just been taken
        before, count, total = (previous[-1][each] for each in ("seq", "slices", "total")) if previous else (0, 0, 0)
        if before >= position.seq:
            return
        size = 0
        erased = {row["slice"] for row in await driver.fetch(statements["erased_since"], position.seq)}
        for rows in portions(position, {name: slices[name] for name in slices.keys() - erased} if erased else slices):
            replaced = await driver.fetchrow(statements["save"], position.seq, *zip(*rows, strict=True))
            new = [row for row in rows if row[4] is not None]
            count += len(new) - replaced["slices"]
            total += sum(row[2] for row in new) - replaced["total"]
            size += sum(len(row[4] or b"") for row in new)
        await driver.execute(statements["complete"], position.seq, position.tag, at, count, total, size, before)


def portions(position: Position, slices: Mapping[str, SliceState | None]) -> Iterator[Sequence[Row]]:
    """The rows of a checkpoint, as many at a time as one statement should write."""
    rows: list[Row] = []
    size = 0
    for name, state in slices.items():
        value = None if state is None else state.encoded()
        version, tag = (0, "0") if state is None else (state.version, state.position.tag)
        rows.append((name, version, slice_checksum(name, position.seq, version, tag, value), tag, value))
        size += len(value or b"")
        if size > PORTION_BYTES or len(rows) == PORTION_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
