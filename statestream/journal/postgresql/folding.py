"""Folded changes of a PostgreSQL journal: replaces what folding makes of them, and notes how far it has got.

Invariants: the rows to replace are locked without waiting, and all of them or nothing. So it never holds up an erasure,
which replaces rows as well, nor an append, which only adds some. The noted position saves work and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from statestream.core.change import START, Change, Position
from statestream.journal.postgresql.changes import change_columns
from statestream.journal.postgresql.connection import Connection
from statestream.journal.postgresql.statements import Statements


async def rewrite(sql: Connection, statements: Statements, pairs: Sequence[tuple[Change, Change]]) -> bool:
    """Whether all of the changes were as they were read, and have been replaced."""
    expected = [(before.version, before.position.tag, change_columns(before)[-1]) for before, _ in pairs]
    replaced = [(after.version, *change_columns(after)) for _, after in pairs]

    async def work(driver: Any) -> bool:
        async with driver.transaction():
            found = await driver.fetch(statements["lock_changes"], *zip(*expected, strict=True))
            if len(found) < len(expected):
                return False
            await driver.execute(statements["replace_changes"], *zip(*replaced, strict=True))
        saved = [before.size - after.size for before, after in pairs]
        await driver.execute(statements["shrink_checkpoints"], [each[0] for each in expected], saved)
        return True

    done: bool = await sql.run(work)
    return done


async def folded_until(sql: Connection, statements: Statements) -> Position:
    row = await sql.fetch_one(statements["folded_until"])
    return START if row is None or not row["seq"] else Position(seq=row["seq"], tag=row["tag"])


async def note(sql: Connection, statements: Statements, position: Position) -> None:
    await sql.run(lambda driver: driver.execute(statements["note_folded"], position.seq, position.tag))
