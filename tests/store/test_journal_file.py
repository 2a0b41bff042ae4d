"""The file of a SQLite journal: which files are accepted, older versions, and files that move while they are open."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from statestream.core.change import START, now_ms
from statestream.core.errors import Forked, JournalUnusable, Unavailable
from statestream.core.selection import Selection
from statestream.journal import Retention, SqliteJournal
from statestream.journal.history import History
from statestream.journal.sqlite.changes import condition_of
from statestream.testing.journals import changes_after, entry, fold, keep, patches, plain, raised, step, value, write
from tests.support import Server, dispatch, get_state
from tests.support.paths import ROOT

Http = aiohttp.ClientSession


@pytest.mark.parametrize("size", [1, 7, 8, 100, 511, 512, 5_000])
@pytest.mark.parametrize("beside", [False, True])
async def test_a_file_that_is_not_empty_and_not_ours_stays_as_it_is(tmp_path: Path, size: int, beside: bool) -> None:
    """Also beside the write-ahead log of a journal that was there before, which SQLite would put over it."""
    path = tmp_path / "notes.txt"
    content = b"n" * size
    if beside:
        journal = SqliteJournal(tmp_path / "j.db")
        await journal.open()
        await write(journal, entry(value("a", 1)))
        shutil.copy(tmp_path / "j.db-wal", tmp_path / "notes.txt-wal")
        await journal.close()
    path.write_bytes(content)
    with pytest.raises(JournalUnusable, match=r"notes\.txt"):
        await SqliteJournal(path).open()
    assert path.read_bytes() == content
    assert not (tmp_path / "notes.txt-head").exists()


async def test_a_journal_of_version_2_is_upgraded_in_place(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "old.db")
    await journal.open()
    await write(journal, entry(value("r/1", ["x" * 200])))
    for number in range(1, 4):
        await write(journal, entry(step("r/1", {"op": "replace", "path": "/0", "value": f"{number}" * 100})))
    await write(journal, entry(patches("r/1", {"op": "add", "path": "/1", "value": "end"})))
    await keep(journal)
    await journal.close()
    with sqlite3.connect(journal.path) as sql:  # version 2 lacked this table only
        sql.execute("DROP TABLE folding")
        sql.execute("PRAGMA user_version = 2")
    sql.close()
    journal = SqliteJournal(journal.path, Retention(fold_after=0.0))
    await journal.open()
    await fold(journal)
    changes = await changes_after(journal, START, 99)
    assert [change.is_folded for change in changes] == [False, True, True, False, False]
    assert (await History(journal).load()).slices["r/1"].value == ["3" * 100, "end"]
    await journal.close()


async def test_a_journal_of_version_1_is_upgraded_in_place(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    script = (ROOT / "tests/store/journal_version_1.sql").read_text()
    with sqlite3.connect(path) as sql:
        sql.executescript(script)
        sql.execute("PRAGMA journal_mode = WAL")
        sql.execute("UPDATE requests SET at = ?", (now_ms(),))
        sql.execute("INSERT INTO checkpoints VALUES (13, 'interrupted', 0, -1)")
        kept = sql.execute("SELECT seq, tag, slice, data FROM changes ORDER BY seq").fetchall()
        records = sql.execute("SELECT actor, id, seq FROM requests").fetchall()
    sql.close()
    for _ in range(2):
        journal = SqliteJournal(path)
        await journal.open()
        history = History(journal)
        snapshot = await history.load()
        assert {name: state.value for name, state in snapshot.slices.items()} == {
            "counter": 6,
            "room/0": {"members": ["n0", "n3"]},
            "room/2": {"members": ["n2", "n5"]},
        }
        changes = await changes_after(journal, await journal.earliest(), 99)
        assert [(c.version, c.position.tag, c.slice, c.data) for c in changes] == kept
        assert (await history.load(changes[3].position)).slices["counter"].value == 4
        found = await journal.lookup([(actor, id) for actor, id, _ in records])
        assert [(*key, record.position.seq) for key, record in found.items()] == records
        await journal.close()
    journal = SqliteJournal(path)
    await journal.open()
    [outcome] = await write(journal, entry(value("counter", 7), id="new"))
    assert outcome.position.seq == 15
    await keep(journal)
    await journal.trim(outcome.position)
    await journal.close()
    await journal.open()
    assert plain(await History(journal).load())["counter"] == (7, outcome.position)
    await journal.close()


def deleted(path: Path) -> Callable[[], None] | None:
    path.unlink()
    return None


def renamed(path: Path) -> Callable[[], None] | None:
    away = path.with_name("away.db")
    path.rename(away)
    return lambda: away.rename(path) and None


def replaced(path: Path) -> Callable[[], None] | None:
    away = path.with_name("away.db")
    path.rename(away)
    shutil.copy(away, path)
    return lambda: away.replace(path) and None


def without_log(path: Path) -> Callable[[], None] | None:
    path.with_name(f"{path.name}-wal").unlink()
    return None


def folder_renamed(path: Path) -> Callable[[], None] | None:
    away = path.parent.with_name("elsewhere")
    path.parent.rename(away)
    return lambda: away.rename(path.parent) and None


@pytest.mark.parametrize("move", [deleted, renamed, replaced, without_log, folder_renamed])
@pytest.mark.slow
async def test_what_is_not_in_the_file_at_the_path_is_not_acknowledged(
    tmp_path: Path, http: Http, move: Callable[[Path], Callable[[], None] | None]
) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "j.db"
    acknowledged = 0
    with Server.serving(journal=f"sqlite:///{path}") as server:
        acknowledged += await counted(http, server, 200)
        back = move(path)
        for _ in range(3):
            assert not await counted(http, server, 503)
        state = await get_state(http, server.url)
        assert state["slices"]["counter"] == acknowledged, "what is not certain is not shown either"
        if back is not None:
            back()
            acknowledged += await counted(http, server, 200)
            state = await get_state(http, server.url)
            assert state["slices"]["counter"] >= acknowledged
    if back is not None:
        with Server.serving(journal=f"sqlite:///{path}") as server:
            assert (await get_state(http, server.url))["slices"] == state["slices"]


async def counted(http: Http, server: Server, expected: int) -> bool:
    status, body = await dispatch(http, server.url, "board/counted")
    assert status == expected, body
    return status == 200


async def test_reading_stops_while_the_file_is_away(tmp_path: Path) -> None:
    """Otherwise a change that was written to it and refused would be announced."""
    path, away = tmp_path / "j.db", tmp_path / "away.db"
    journal = SqliteJournal(path)
    await journal.open()
    [first] = await write(journal, entry(value("a", 1)))
    path.rename(away)
    error = await raised(Unavailable, write(journal, entry(value("a", 2))))
    assert "put it back" in str(error)
    await raised(Unavailable, journal.read(START))
    await raised(Unavailable, journal.head())
    away.rename(path)
    assert [change.value for change in await changes_after(journal, first.position, 9)] == [2], "it was in doubt"
    await write(journal, entry(value("a", 3)))
    await journal.close()
    await journal.open()
    assert plain(await History(journal).load())["a"][0] == 3
    await journal.close()


async def test_a_backup_that_is_restored_into_the_open_file_can_be_opened_again(tmp_path: Path) -> None:
    path, backup = tmp_path / "j.db", tmp_path / "backup.db"
    journal = SqliteJournal(path)
    await journal.open()
    await write(journal, entry(value("a", 0)))
    copy(path, backup)
    for n in range(9):
        [last] = await write(journal, entry(value("a", n)))
    copy(backup, path)
    await raised(Forked, journal.read(last.position))
    await write(journal, entry(value("a", "again")))
    await journal.close()
    await journal.open()
    assert plain(await History(journal).load())["a"][0] == "again"
    await journal.close()


def copy(source: Path, target: Path) -> None:
    one, other = sqlite3.connect(source), sqlite3.connect(target)
    one.backup(other)
    one.close()
    other.close()


async def test_statements_are_few_however_many_names_they_have(tmp_path: Path) -> None:
    """The driver keeps what it has prepared, so a statement for each number of names is memory that is lost."""
    names = [f"room/{number}" for number in range(300)]
    few = {condition_of(Selection(names=frozenset(names[:count])))[0] for count in range(1, 300)}
    assert len(few) < 12
    few = {condition_of(Selection(names=frozenset(), families=frozenset(names[:count])))[0] for count in range(1, 300)}
    assert len(few) < 12
    journal = SqliteJournal(tmp_path / "j.db")
    await journal.open()
    for name in names[:7]:
        await write(journal, entry(value(name, 1)))
    for count in range(1, 8):
        page = await journal.read(START, 100, Selection(names=frozenset(names[:count])))
        assert sorted(change.slice for change in page.changes) == sorted(names[:count])
    await write(journal, entry(*(value(name, 2) for name in names[:7])))
    await journal.close()
