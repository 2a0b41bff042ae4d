"""The tables of a PostgreSQL journal: creates and migrates them, and checks that a role may use them.

Invariants: a migration is one transaction, and one node at a time runs it, so one that is killed leaves the schema as
it was. A schema of a newer version, or one that is not ours, is refused and not modified. Messages may contain the
address but never a password, because only the person who starts the server sees them.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from statestream.core.errors import JournalUnusable
from statestream.journal.postgresql.statements import Statements

log = logging.getLogger("statestream")

VERSION: Final = 2
OLDEST_RELEASE: Final = 130_000
MIGRATION_SECONDS: Final = 3600.0
RIGHTS: Final = {
    "about": ("SELECT",),
    "head": ("SELECT", "UPDATE"),
    "changes": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "versions": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "requests": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "checkpoints": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "snapshots": ("SELECT", "INSERT", "DELETE"),
    "clock": ("SELECT", "INSERT", "UPDATE"),
    "folding": ("SELECT", "INSERT", "UPDATE"),
}
"""What a running journal needs of each table."""


async def prepare(driver: Any, statements: Statements, *, migrate: bool) -> tuple[int, int]:
    """Makes the tables ready, and returns the version that was found and the one that is there now.

    0 is a schema without tables of ours. Raises JournalUnusable, and what the driver raises.
    """
    around = await _surroundings(driver, statements)
    found = await _version(driver, statements, around)
    if found < VERSION and migrate:
        async with driver.transaction():
            await driver.fetchval(statements["lock_migration"])
            around = await _surroundings(driver, statements)  # another node may have been first
            found = await _version(driver, statements, around)
            await _migrate(driver, statements, around, found)
    elif found < VERSION:
        missing = "no tables" if found == 0 else f"tables of version {found}"
        raise JournalUnusable(
            f"expected tables of version {VERSION} in {_place(statements, around)}, got {missing};"
            " run `statestream migrate` with the journal's URL as a role that may create them"
        )
    await _check_rights(driver, statements, around)
    return found, VERSION


async def _surroundings(driver: Any, statements: Statements) -> Any:
    """What the database is. Raises JournalUnusable if it cannot hold a journal."""
    around = await driver.fetchrow(statements["surroundings"], statements.schema)
    if around["release"] < OLDEST_RELEASE:
        raise JournalUnusable(
            f"expected PostgreSQL {OLDEST_RELEASE // 10_000} or newer, got {around['version']}; upgrade the server"
        )
    if around["encoding"] != "UTF8":
        raise JournalUnusable(
            f"expected a database with the encoding UTF8, {around['database']} has {around['encoding']};"
            " create one WITH ENCODING 'UTF8' TEMPLATE template0"
        )
    if around["isolation"] != "read committed":
        raise JournalUnusable(
            f"expected default_transaction_isolation to be 'read committed', it is {around['isolation']!r};"
            f" run ALTER ROLE {around['role']} SET default_transaction_isolation = 'read committed'"
        )
    return around


async def _version(driver: Any, statements: Statements, around: Any) -> int:
    """The version of the tables, 0 if there are none of ours. Raises JournalUnusable for a newer one."""
    if not around["tables"]:
        return 0
    version: int = await driver.fetchval(statements["version"]) or 0
    if version > VERSION:
        raise JournalUnusable(
            f"expected tables of version {VERSION} in {_place(statements, around)}, got version {version};"
            " upgrade statestream"
        )
    return version


async def _migrate(driver: Any, statements: Statements, around: Any, found: int) -> None:
    if not around["schema"]:
        await driver.execute(statements["create_schema"])
    for version in range(found + 1, VERSION + 1):
        log.info("migrating the journal in %s to version %d", _place(statements, around), version)
        await driver.execute(statements.migration(version), timeout=MIGRATION_SECONDS)
    await driver.execute(statements["set_version"], VERSION)


async def _check_rights(driver: Any, statements: Statements, around: Any) -> None:
    pairs = [(table, right) for table, rights in RIGHTS.items() for right in rights]
    missing = await driver.fetch(statements["missing_rights"], statements.schema, *zip(*pairs, strict=True))
    if missing:
        table, right = missing[0]
        raise JournalUnusable(
            f"the role {around['role']} lacks rights in {_place(statements, around)}, such as {right} on {table};"
            " grant them as the page on running a server shows"
        )


def _place(statements: Statements, around: Any) -> str:
    return f"the schema {statements.schema} of the database {around['database']}"
