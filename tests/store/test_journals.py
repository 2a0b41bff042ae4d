"""Every engine against the contract, SQLite against files that are not a journal, and engines by their URL."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import settings

from statestream.core.change import START, IdempotencyKey, IdempotencyRecord, Page, Position
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import Checkpoints, Journal, MemoryJournal, Retention, SqliteJournal, from_url
from statestream.journal.contract import PAGE, Appended, Batch, Checkpoint
from statestream.journal.history import History
from statestream.journal.sqlite import checkpoints as keeping
from statestream.journal.sqlite import claims
from statestream.testing import JournalContract, journal_machine
from statestream.testing.journals import changes_after, entry, keep, plain, raised, value, wall_clock_ahead, write
from tests.support import ROOT
from tests.support.often import often

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


class WithoutCheckpoints:
    """An engine that has the primitives and nothing else. The changes are those of a journal in memory."""

    def __init__(self, retention: Retention) -> None:
        self.retention = retention
        self._engine = MemoryJournal(retention)
        self.clock = self._engine.clock

    async def open(self) -> None:
        await self._engine.open()

    async def close(self) -> None:
        await self._engine.close()

    async def head(self) -> Position:
        return await self._engine.head()

    async def earliest(self) -> Position:
        return await self._engine.earliest()

    async def append(self, batch: Batch) -> list[Appended]:
        return await self._engine.append(batch)

    async def lookup(self, keys: Iterable[IdempotencyKey]) -> dict[IdempotencyKey, IdempotencyRecord]:
        return await self._engine.lookup(keys)

    async def read(self, after: Position, limit: int = PAGE, selection: Selection = EVERYTHING) -> Page:
        return await self._engine.read(after, limit, selection)

    async def wait(self, after: Position) -> None:
        await self._engine.wait(after)


async def new_without_checkpoints(retention: Retention) -> Journal:
    return WithoutCheckpoints(retention)


class TestMemory(JournalContract):
    make = staticmethod(new_memory)
    reopen = staticmethod(same)


class TestSqlite(JournalContract):
    make = staticmethod(new_sqlite)
    reopen = staticmethod(reopened)


class TestWithoutCheckpoints(JournalContract):
    make = staticmethod(new_without_checkpoints)
    reopen = staticmethod(same)


TestMemoryMachine = journal_machine(new_memory, same).TestCase
TestMemoryMachine.settings = settings(max_examples=often(24), stateful_step_count=40, deadline=None)
TestSqliteMachine = journal_machine(new_sqlite, reopened).TestCase
TestSqliteMachine.settings = settings(max_examples=often(10), stateful_step_count=30, deadline=None)
TestWithoutCheckpointsMachine = journal_machine(new_without_checkpoints, same).TestCase
TestWithoutCheckpointsMachine.settings = settings(max_examples=often(8), stateful_step_count=30, deadline=None)


async def test_an_engine_without_checkpoints_keeps_its_whole_history() -> None:
    journal = await new_without_checkpoints(Retention(changes=0, age=0.0, bytes=0, checkpoint=1))
    assert not isinstance(journal, Checkpoints)
    for number in range(2_500):
        [outcome] = await journal.append(
            Batch(read=await journal.head(), versions={"a": number}, entries=[entry(value("a", number))])
        )
    history = History(journal)
    await history.save(outcome.position, (await history.load()).slices)
    assert await history.trim() == START
    assert await journal.earliest() == START
    snapshot = await history.load()
    assert (plain(snapshot), len(snapshot.changes)) == ({"a": (2_499, outcome.position)}, 2_500)
    middle = snapshot.changes[1_233].position
    assert plain(await history.load(middle)) == {"a": (1_233, middle)}


async def test_an_engine_with_a_part_of_the_checkpoints_is_refused() -> None:
    class Half(WithoutCheckpoints):
        async def checkpoints(self) -> list[Checkpoint]:
            return []

    with pytest.raises(TypeError, match="Half has only checkpoints of Checkpoints; implement all of it, or nothing"):
        History(Half(Retention()))


async def test_the_wait_ends_when_another_process_writes(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j.db")
    await journal.open()
    script = (
        "import asyncio, sys; from statestream.journal import SqliteJournal\n"
        "from statestream.testing.journals import entry, value, write\n"
        "async def main():\n"
        "    j = SqliteJournal(sys.argv[1]); await j.open(); await write(j, entry(value('a', 1))); await j.close()\n"
        "asyncio.run(main())"
    )
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "j.db")])
    await journal.wait(START)
    assert len(await changes_after(journal, START, 9)) == 1
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
    assert len(await changes_after(journal, START, 9)) == 2
    await journal.close()


async def test_only_one_process_at_a_time_makes_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, other = await filled(tmp_path / "j.db", 3), SqliteJournal(tmp_path / "j.db")
    await other.open()
    state = await History(journal).load()
    claim = await other._writing.run(keeping.claim, state.position, other.clock.now(), claims.Claims())
    assert claim is not None
    error = await raised(Unavailable, journal.save(state.position, state.slices))
    assert "another process" in str(error)
    with wall_clock_ahead(3600):
        await raised(Unavailable, journal.save(state.position, state.slices))
    assert await journal.checkpoints() == []
    monkeypatch.setattr(claims, "CLAIM_MS", -1)  # the other one has stalled for so long that its claim has run out
    await journal.save(state.position, state.slices)
    error = await raised(Unavailable, other._writing.run(keeping.complete, state.position, claim, 0, claim))
    assert "another process" in str(error)
    assert [each.position for each in await other.checkpoints()] == [state.position]
    await other.save(state.position, {"a": None})
    assert [each.name for each in await other.saved(state.position)] == ["a"]
    await journal.close()
    await other.close()


async def test_a_checkpoint_whose_process_was_killed_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await filled(tmp_path / "j.db", 3)
    dead = await History(journal).load()
    claim = await journal._writing.run(keeping.claim, dead.position, journal.clock.now(), claims.Claims())
    assert claim is not None
    for rows in keeping.portions(dead.position, dead.slices):
        claim = await journal._writing.run(keeping.save, dead.position, claim, rows, journal.clock.now())
    journal = await reopened(journal)  # whoever was to complete it does not come back
    assert await journal.checkpoints() == []
    assert plain(await History(journal).load()) == plain(dead)
    await write(journal, entry(value("b", 1)))
    monkeypatch.setattr(claims, "CLAIM_MS", -1)
    await keep(journal)
    assert [each.position for each in await journal.checkpoints()] == [await journal.head()]
    assert {each.name for each in await journal.saved(await journal.head())} == {"a", "b"}
    with sqlite3.connect(tmp_path / "j.db") as db:
        assert db.execute("SELECT DISTINCT checkpoint FROM snapshots").fetchall() == [((await journal.head()).seq,)]
    db.close()
    await journal.close()


async def test_a_trim_that_was_killed_is_completed(tmp_path: Path) -> None:
    journal = await filled(tmp_path / "j.db", 3)
    await keep(journal)
    await journal._writing.run(keeping.move_earliest, await journal.head())  # and no more
    journal = await reopened(journal)
    await journal.tidy()  # type: ignore[attr-defined]
    await journal.close()
    with sqlite3.connect(tmp_path / "j.db") as db:
        assert db.execute("SELECT count(*) FROM changes").fetchone() == (0,)
    db.close()


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
    assert isinstance(from_url("memory:"), MemoryJournal)
    relative, absolute = from_url("sqlite:///a%20b.db"), from_url("sqlite:////var/x.db")
    assert isinstance(relative, SqliteJournal)
    assert isinstance(absolute, SqliteJournal)
    assert (str(relative.path), str(absolute.path)) == ("a b.db", "/var/x.db")
    for url in ("", "board.db", "sqlite://host/x", "sqlite:///", "mysql://x/y"):
        with pytest.raises(ValueError, match="expected a journal URL"):
            from_url(url)


ENGINE = """
from statestream.journal import MemoryJournal

class PillarJournal(MemoryJournal):
    @classmethod
    def from_url(cls, url):
        if "nowhere" in url:
            raise ValueError("expected a pillar that stands somewhere")
        journal = cls()
        journal.url = url
        return journal
"""


def test_the_engine_of_another_package_is_found_by_its_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed: a module, and beside it what tells of its entry point."""
    (tmp_path / "pillar_engine.py").write_text(ENGINE)
    about = tmp_path / "pillar_engine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: pillar-engine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[statestream.journals]\npillar = pillar_engine:PillarJournal.from_url\n")
    with pytest.raises(ValueError, match="expected a journal URL"):
        from_url("pillar://host/x")
    monkeypatch.syspath_prepend(tmp_path)
    journal = from_url("pillar://ada:secret@host/x")
    assert type(journal).__name__ == "PillarJournal"
    assert journal.url == "pillar://ada:secret@host/x"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="stands somewhere"):
        from_url("pillar://nowhere")
    assert isinstance(from_url("memory:"), MemoryJournal)


@pytest.mark.parametrize(
    "url",
    ["mysql://ada:s3cret@host/x", "mysql+tls://:s3cret@host", "mysql://ada:s3cret@[host/x", "mysql://ada:s3cret@h:x"],
)
def test_a_scheme_without_an_engine_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="expected a journal URL") as refused:
        from_url(url)
    assert "s3cret" not in str(refused.value)
    assert "memory:, " in str(refused.value)


def teardown_module() -> None:
    while DIRECTORIES:  # emptied, because pytest-xdist may come back to this module after its teardown
        shutil.rmtree(DIRECTORIES.pop())
