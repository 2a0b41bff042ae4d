"""The tables of a PostgreSQL journal: who may create them, who may use them, and what is refused without a change."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import subprocess
import sys
from itertools import count
from typing import Any

import pytest

from statestream.core.errors import JournalUnusable
from statestream.journal import PostgresqlJournal, from_url
from statestream.journal.history import History
from statestream.journal.postgresql import schema
from statestream.journal.postgresql.statements import Statements
from statestream.testing.journals import SMALL, entry, keep, value, write
from tests.support import BOARD, ROOT
from tests.support.pages import DOCS
from tests.support.postgresql import PASSWORD, shared

roles, ids = count(1), count(1)


@pytest.fixture
def url() -> str:
    return shared().new_url()


def schema_of(url: str) -> str:
    return re.search(r"schema=(\w+)", url)[1]  # type: ignore[index]


async def tables(name: str) -> list[str]:
    query = "SELECT array_agg(tablename ORDER BY tablename) FROM pg_tables WHERE schemaname = $1"
    return await shared().value(query, name) or []


async def refused(url: str) -> str:
    """The message of an open that is refused."""
    journal = PostgresqlJournal(url)
    with pytest.raises(JournalUnusable) as error:
        await journal.open()
    assert PASSWORD not in str(error.value)
    return str(error.value)


async def used(url: str) -> None:
    """Everything that a node does with a journal."""
    journal = PostgresqlJournal(url, SMALL)
    await journal.open()
    for number in range(9):
        await write(journal, entry(value("a", number), value("r/1", 1), id=f"{next(ids)}"))
        await keep(journal)
    assert (await journal.earliest()).seq > 0
    await journal.erase(["r/1"])
    await journal.tidy()
    await History(journal).load()
    await journal.check_writable(by_writing=True)
    await journal.close()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "statestream", *arguments]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)


async def test_nodes_that_start_at_once_create_the_tables_once(url: str) -> None:
    journals = [PostgresqlJournal(url) for _ in range(5)]
    await asyncio.gather(*(journal.open() for journal in journals))
    assert await tables(schema_of(url)) == sorted(schema.RIGHTS)
    await write(journals[0], entry(value("a", 1)))
    assert {(await journal.head()).seq for journal in journals} == {1}
    for journal in journals:
        await journal.close()


@pytest.mark.parametrize("version", range(schema.VERSION))
async def test_the_tables_of_every_older_version_are_migrated(url: str, version: int) -> None:
    statements = Statements(schema_of(url))
    if version:
        scripts = [statements.migration(number) for number in range(1, version + 1)]
        known = f"INSERT INTO {statements.schema}.about VALUES (true, {version})"
        await shared().execute(statements["create_schema"], *scripts, known)
    done = command("migrate", url)
    assert done.returncode == 0, done.stderr
    assert f"now version {schema.VERSION}" in done.stdout
    await used(url)


async def test_without_leave_to_migrate_it_says_how(url: str) -> None:
    message = await refused(f"{url}&migrate=off")
    assert "no tables" in message
    assert "statestream migrate" in message
    assert await tables(schema_of(url)) == []
    done = command("migrate", f"{url}&migrate=off")
    assert done.stdout == f"The tables were created; now version {schema.VERSION}.\n"
    assert command("migrate", url).stdout.endswith("Nothing was changed.\n")
    await used(f"{url}&migrate=off")


async def test_other_journals_need_no_migration() -> None:
    assert "needs no migration" in command("migrate", "memory:").stdout
    done = command("migrate", "mysql://ada:s3cret@host/x")
    assert done.returncode == 2
    assert "s3cret" not in done.stderr


async def test_tables_of_a_newer_version_are_refused(url: str) -> None:
    await used(url)
    await shared().execute(f"UPDATE {schema_of(url)}.about SET version = 99")
    message = await refused(url)
    assert "got version 99; upgrade statestream" in message
    assert command("migrate", url).returncode == 1
    assert await shared().value(f"SELECT version FROM {schema_of(url)}.about") == 99


async def test_tables_of_another_program_are_refused_and_left_alone(url: str) -> None:
    name = schema_of(url)
    await shared().execute(f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.changes (theirs int)")
    await refused(url)
    assert await tables(name) == ["changes"]
    await shared().execute(f"CREATE TABLE {name}.about (theirs int)")
    await refused(url)
    assert await tables(name) == ["about", "changes"]


def documented(title: str) -> list[str]:
    """The statements of a block of the documentation."""
    page = (DOCS / "operations.md").read_text()
    [block] = re.findall(rf'^```sql title="{title}"\n(.*?)^```', page, flags=re.DOTALL | re.MULTILINE)
    return [statement for statement in block.split(";\n") if statement.strip()]


async def granted(name: str) -> tuple[str, str]:
    """The roles of the documentation, by names of this test's own: who owns the tables, and who uses them."""
    owner, app = (f"{role}_{next(roles)}_{name}" for role in ("owner", "app"))

    def named(statement: str) -> str:
        statement = (
            statement.replace("app_owner", owner)
            .replace("app_server", app)
            .replace("DATABASE app", "DATABASE postgres")
        )
        return re.sub(r"\bboard\b", name, statement).replace("'…'", f"'{PASSWORD}'")

    await shared().execute(*map(named, documented("roles.sql")))
    done = command("migrate", shared().url(name, role=owner))
    assert done.returncode == 0, done.stderr
    driver = await shared().connect(owner)
    for statement in documented("grants.sql"):
        await driver.execute(named(statement))
    await driver.close()
    return owner, app


async def test_a_server_needs_no_more_rights_than_documented(url: str) -> None:
    name = schema_of(url)
    _, app = await granted(name)
    await used(shared().url(name, role=app, migrate="off"))
    await used(shared().url(name, role=app))
    new = shared().new_url(role=app)
    assert "permission denied" in await refused(new)
    held = await shared().value(
        "SELECT array_agg(table_name || ' ' || privilege_type) FROM information_schema.role_table_grants"
        " WHERE grantee = $1",
        app,
    )
    assert sorted(held) == sorted(f"{table} {right}" for table, rights in schema.RIGHTS.items() for right in rights)
    driver = await shared().connect(app)
    for forbidden in (
        f"CREATE TABLE {name}.x ()",
        f"DROP TABLE {name}.head",
        f"UPDATE {name}.snapshots SET version = 1",
    ):
        with pytest.raises(Exception, match=r"permission denied|must be owner"):
            await driver.execute(forbidden)
    await driver.close()


@pytest.mark.parametrize(("table", "right"), [(t, r) for t, rights in schema.RIGHTS.items() for r in rights])
async def test_a_missing_right_is_found_at_the_start(url: str, table: str, right: str) -> None:
    name = schema_of(url)
    app = await reduced(name)
    await shared().execute(f"REVOKE {right} ON {name}.{table} FROM {app}")
    message = await refused(shared().url(name, role=app))
    assert f"{right} on {table}" in message or (table == "about" and "permission denied" in message)


async def reduced(name: str) -> str:
    """A role that may use a journal."""
    app = f"app_{next(roles)}"
    done = PostgresqlJournal(shared().url(name))
    await done.migrate()
    await shared().execute(
        f"CREATE ROLE {app} LOGIN PASSWORD '{PASSWORD}'",
        f"GRANT USAGE ON SCHEMA {name} TO {app}",
        *(f"GRANT {', '.join(rights)} ON {name}.{table} TO {app}" for table, rights in schema.RIGHTS.items()),
    )
    return app


async def test_a_database_that_cannot_hold_a_journal_is_refused(url: str) -> None:
    await shared().execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    assert "UTF8" in await refused(url.replace("/postgres?", "/latin?"))
    app = await reduced(schema_of(url))
    await shared().execute(f"ALTER ROLE {app} SET default_transaction_isolation = 'serializable'")
    assert "read committed" in await refused(shared().url(schema_of(url), role=app))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("/postgres?", "/nowhere?"), "nowhere"),
        ((f"{PASSWORD}@", f"{PASSWORD}-2@"), "password authentication failed"),
        (("://owner:", "://nobody:"), "password authentication failed"),
        ((":{port}/", ":1/"), "cannot be used"),
        (("/postgres?", "/postgres?sslmode=require&"), "SSL"),
        (("/postgres?", "/postgres?shema=x&"), "shema"),
    ],
)
async def test_what_cannot_be_reached_is_explained_without_the_password(url: str, changed: Any, says: str) -> None:
    before, after = (each.replace("{port}", str(shared().port)) for each in changed)
    wrong = url.replace(before, after)
    assert says in await refused(wrong)
    done = command("migrate", wrong)
    assert done.returncode == 1
    assert says in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_without_its_database_says_so(url: str) -> None:
    wrong = url.replace(f":{shared().port}/", ":1/")
    done = command("serve", BOARD, "--journal", wrong, "--port", "0")
    assert done.returncode == 1
    assert "the journal's database cannot be used" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:board",
        "postgresql:///board?schema=Board",
        "postgresql:///board?schema=pg_board",
        "postgresql:///board?schema=a-b",
        "postgresql:///board?migrate=maybe",
        "postgresql://ada:s3cret@[host/x",
        "postgresql://ada:s3#cret@host/x",
    ],
)
def test_a_wrong_url_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        from_url(url)
    assert "s3" not in str(refused.value)


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "asyncpg" else real(name))
    with pytest.raises(ValueError, match="asyncpg is not installed; it comes with the extra postgresql"):
        from_url("postgresql://host/x")


def test_the_driver_is_imported_by_its_users_only() -> None:
    script = "import sys, statestream.journal; assert 'asyncpg' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0
