"""Both journals against the contract, and SQLite against files that are not what they should be."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from statestream.core.change import START
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal import Journal, MemoryJournal, Retention, SqliteJournal, of
from statestream.testing import JournalContract, entry, journal_machine, value, write
from tests.support import ROOT

DIRECTORIES: list[Path] = []
"""Of the journals that were made here: a Hypothesis machine has no fixture that takes them away."""


async def new_memory(retention: Retention) -> Journal:
    return MemoryJournal(retention)


async def same(journal: Journal) -> Journal:
    return journal


async def new_sqlite(retention: Retention) -> Journal:
    DIRECTORIES.append(Path(tempfile.mkdtemp(prefix="statestream-")))
    journal = SqliteJournal(DIRECTORIES[-1] / "journal.db", retention)
    await journal.open()
    return journal


async def reopened(journal: Journal) -> Journal:
    assert isinstance(journal, SqliteJournal)
    await journal.close()
    again = SqliteJournal(journal.path, journal.retention)
    await again.open()
    return again


class TestMemory(JournalContract):
    make = staticmethod(new_memory)
    reopen = staticmethod(same)


class TestSqlite(JournalContract):
    make = staticmethod(new_sqlite)
    reopen = staticmethod(reopened)


TestMemoryMachine = journal_machine(new_memory, same).TestCase
TestMemoryMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqliteMachine = journal_machine(new_sqlite, reopened).TestCase
TestSqliteMachine.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


async def test_the_wait_ends_when_another_process_writes(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db")
    await journal.open()
    script = (
        "import asyncio, sys; from statestream.journal import SqliteJournal; from statestream.testing import *\n"
        "async def main():\n"
        "    j = SqliteJournal(sys.argv[1]); await j.open(); await write(j, entry(value('a', 1))); await j.close()\n"
        "asyncio.run(main())"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "j.db")])
    await journal.wait(START)
    assert len(await journal.read(START, 9)) == 1
    assert other.wait() == 0
    await journal.close()


def another_program(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()


def not_a_database(path: Path) -> None:
    path.write_text("these are my notes, not a database " * 100)


def a_directory(path: Path) -> None:
    path.mkdir()


def from_the_future(path: Path) -> None:
    another_program(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA application_id = {0x53745374}")
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("spoil", [another_program, not_a_database, a_directory, from_the_future])
async def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, spoil: object) -> None:
    path = tmp_path / "file.db"
    spoil(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalUnusable, match=r"expected .*file\.db|file\.db"):
        await SqliteJournal(path).open()
    assert (path.read_bytes() if path.is_file() else b"") == before


async def filled(path: Path, count: int = 200) -> SqliteJournal:
    journal = SqliteJournal(path)
    await journal.open()
    for n in range(count):
        await write(journal, entry(value("a", "x" * 200 + str(n))))
    return journal


async def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(JournalUnusable, match=r"restore a backup|damaged|malformed"):
        await SqliteJournal(path).open()


async def test_a_locked_file_is_unavailable_for_as_long_as_it_is(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "j.db", 1)
    other = sqlite3.connect(tmp_path / "j.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        await write(journal, entry(value("a", 2)))
    other.execute("ROLLBACK")
    other.close()
    await write(journal, entry(value("a", 2)))
    assert len(await journal.read(START, 9)) == 2
    await journal.close()


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="mounts a file system, which takes root on Linux"
)
@pytest.mark.parametrize("trouble", ["full", "read-only"])
async def test_a_full_or_read_only_disk_loses_nothing(tmp_path: Path, trouble: str) -> None:
    """On a small file system of its own. In a process of its own name space, so that nothing stays mounted."""
    script = ROOT / "tests/support/disk_trouble.py"
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} {script} {tmp_path} {trouble}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost" in done.stdout


def test_urls() -> None:
    assert isinstance(of("memory:"), MemoryJournal)
    relative, absolute = of("sqlite:///a%20b.db"), of("sqlite:////var/x.db")
    assert isinstance(relative, SqliteJournal)
    assert isinstance(absolute, SqliteJournal)
    assert (str(relative.path), str(absolute.path)) == ("a b.db", "/var/x.db")
    for url in ("", "board.db", "sqlite://host/x", "sqlite:///", "mysql://x/y"):
        with pytest.raises(ValueError, match="expected a journal URL"):
            of(url)


def teardown_module() -> None:
    for directory in DIRECTORIES:
        shutil.rmtree(directory)
