"""A damaged journal is never served: every read is correct or refused, and `repair` reports what is lost."""

from __future__ import annotations

import os
import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from statestream.core.change import START, Position
from statestream.core.errors import JournalUnusable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import Retention, SqliteJournal
from statestream.journal.history import History
from statestream.journal.sqlite.repair import repair
from statestream.testing.journals import changes_after, entry, fold, keep, plain, raised, step, value, write
from tests.support.damage import Truth, after_repair, built, consequence, copied, damage, truth_of
from tests.support.long_history import KINDS
from tests.support.nursery import finished


async def filled(path: Path, count: int = 9) -> SqliteJournal:
    """A journal with two slices, checkpoints and records."""
    journal = SqliteJournal(path)
    await journal.open()
    for n in range(count):
        await write(journal, entry(value("a", n), value("room/1", [n]), id=f"id-{n}"))
        if n % 4 == 3:
            await keep(journal)
    return journal


def altered(path: Path, statement: str) -> None:
    """Changes rows as damage might, leaving their checksums as they were."""
    with sqlite3.connect(path) as sql:
        sql.execute(statement)
    sql.close()


async def truths(folder: Path) -> list[Truth]:
    return [await truth_of(built(folder / kind, kind), folder / "scratch") for kind in KINDS]


async def trials(folder: Path, count: int) -> Counter[str]:
    """That many damages, and the outcome of each."""
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    known = await truths(folder)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        truth = chance.choice(known)
        path = copied(truth.path, folder / "trial")
        how = damage(path, chance)
        try:
            read = await consequence(path, truth, chance)
            outcomes[read] += 1
            outcomes[await after_repair(path, truth, read)] += 1
        except AssertionError as wrong:
            raise AssertionError(f"seed {seed}, trial {number}: {how}, {truth.path.parent.name}: {wrong}") from wrong
        shutil.rmtree(path.parent)
    return outcomes


@pytest.mark.slow
async def test_what_is_damaged_is_refused_or_read_as_it_was(tmp_path: Path) -> None:
    outcomes = await trials(tmp_path, 24)
    print(dict(outcomes))
    assert outcomes["refused at once"]


@pytest.mark.soak
async def test_what_is_damaged_is_refused_or_read_as_it_was_500_times(tmp_path: Path) -> None:
    print("500 damages, 0 wrong states, 0 wrong histories, 0 lost in silence:", dict(await trials(tmp_path, 500)))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE changes SET data = x'39' WHERE seq = 18",
        "UPDATE changes SET slice = 'b' WHERE seq = 17",
        "UPDATE changes SET ledger = NULL WHERE seq = 18",
        "DELETE FROM changes WHERE seq = 17",
        "DELETE FROM changes WHERE seq = 18",
        "UPDATE snapshots SET value = x'39' WHERE slice = 'a' AND checkpoint = 16",
        "UPDATE snapshots SET checkpoint = 17 WHERE slice = 'a' AND checkpoint = 16",
        "DELETE FROM snapshots WHERE slice = 'a' AND checkpoint = 16",
        "UPDATE checkpoints SET total = total + 1 WHERE seq = 16",
        "UPDATE checkpoints SET bytes = -1 WHERE seq = 16",
        "UPDATE versions SET version = 15 WHERE slice = 'a'",
        "DELETE FROM versions WHERE slice = 'a'",
        "DELETE FROM requests WHERE id = 'id-3'",
        "UPDATE requests SET crc = crc + 1 WHERE id = 'id-3'",
        "UPDATE floor SET tag = '1'",
        "DELETE FROM floor",
    ],
)
async def test_a_row_that_does_not_fit_is_refused_at_the_start_and_repaired(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "j.db"
    journal = await filled(path)
    before = plain(await History(journal).load())
    await journal.close()
    altered(path, statement)
    journal = SqliteJournal(path)
    with pytest.raises(JournalUnusable, match=r"statestream journal repair"):
        await opened_and_loaded(journal)
    await journal.close()
    report = repair(path)
    journal = await opened(path)
    after = plain(await History(journal).load())
    assert (after == before) == (report.lost == 0)
    assert report.lost in (0, 2), "at most the batch that was damaged"
    assert report.copies
    await journal.close()


async def test_what_was_folded_is_lost_as_a_whole_if_its_summary_is(tmp_path: Path) -> None:
    """The state in the middle is not known. A repair that ended there would give it an older value."""
    journal = SqliteJournal(tmp_path / "j.db", Retention(fold_after=0.0))
    await journal.open()
    await write(journal, entry(value("r/1", ["begun"])))
    for number in range(1, 6):
        await write(journal, entry(step("r/1", {"op": "replace", "path": "/0", "value": f"{number}" * 100})))
    await write(journal, entry(value("r/1", ["over"])))
    await keep(journal)
    await fold(journal)
    folded = [change.version for change in await changes_after(journal, START, 99) if change.is_folded]
    assert folded == [2, 3, 4, 5]
    await journal.close()
    altered(journal.path, "UPDATE checkpoints SET tag = 'x'")
    altered(journal.path, "UPDATE changes SET data = x'00' WHERE seq = 6")
    assert repair(journal.path).head.seq == 1
    journal = await opened(journal.path)
    state = await History(journal).load()
    assert plain(state) == {"r/1": (["begun"], Position(seq=1, tag=state.position.tag))}
    await journal.close()


async def opened(path: Path) -> SqliteJournal:
    journal = SqliteJournal(path)
    await journal.open()
    return journal


async def opened_and_loaded(journal: SqliteJournal) -> None:
    await journal.open()
    await History(journal).load()


async def test_old_history_that_is_damaged_is_refused_and_the_state_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await filled(path, 10)
    for n in range(8):
        await write(journal, *(entry(value("a", n), value("room/1", n)) for _ in range(100)))
        await keep(journal)
    state = plain(await History(journal).load())
    position = (await changes_after(journal, START, 30))[-1].position
    await journal.close()
    altered(path, "UPDATE changes SET slice = 'b' WHERE seq = 20")
    journal = await opened(path)
    assert plain(await History(journal).load()) == state
    for selection in (EVERYTHING, Selection.family("room"), Selection(names=frozenset(("b",)))):
        await raised(JournalUnusable, journal.read(START, 99, selection))
        await raised(JournalUnusable, History(journal).load(position, Selection(names=frozenset(("a",)))))
    assert len(await changes_after(journal, position, 9, Selection.family("room"))) == 4
    await journal.close()
    report = repair(path)
    assert (report.lost, report.lost_requests, report.earlier) == (0, 0, 0)
    assert report.earliest.seq == 220, "the oldest checkpoint after the damage"
    journal = await opened(path)
    assert plain(await History(journal).load()) == state
    assert await journal.earliest() == report.earliest
    await journal.close()


async def test_a_record_that_is_damaged_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    altered(path, "UPDATE requests SET seq = 1 WHERE id = 'id-3'")
    journal = await opened(path)
    await raised(JournalUnusable, journal.lookup([("ada", "id-3")]))
    await raised(JournalUnusable, write(journal, entry(value("a", 1), id="id-3")))
    assert set(await journal.lookup([("ada", "id-4")])) == {("ada", "id-4")}
    await journal.close()
    assert repair(path).lost_requests == 1
    journal = await opened(path)
    assert set(await journal.lookup([("ada", "id-3"), ("ada", "id-4")])) == {("ada", "id-4")}
    await journal.close()


async def test_a_batch_without_changes_is_missed_at_the_end_as_well(tmp_path: Path) -> None:
    """All that such a batch leaves is a record, and a client may rely on it."""
    path = tmp_path / "j.db"
    journal = await filled(path)
    await journal._reading.run(lambda sql: sql.execute("PRAGMA wal_checkpoint(TRUNCATE)") and None)
    shutil.copy(path, tmp_path / "copy.db")
    await write(journal, entry(id="nothing"))
    await journal.close()
    shutil.copy(tmp_path / "copy.db", path)
    with pytest.raises(JournalUnusable, match="acknowledged"):
        await SqliteJournal(path).open()


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [gone, emptied])
async def test_a_journal_that_is_gone_is_not_begun_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    harm(path)
    with pytest.raises(JournalUnusable, match=r"18\.\w+, which was acknowledged.* delete .*j\.db-head"):
        await SqliteJournal(path).open()
    assert not path.exists() or path.read_bytes() == b""
    (tmp_path / "j.db-head").unlink()
    journal = await opened(path)
    assert await journal.head() == START
    await journal.close()


async def test_the_file_with_the_head_is_checked_as_well(tmp_path: Path) -> None:
    path, head = tmp_path / "j.db", tmp_path / "j.db-head"
    journal = await filled(path)
    end = await journal.head()
    await journal.close()
    content = head.read_bytes()
    head.write_bytes(content[:500] + b"x" + content[501:])
    with pytest.raises(JournalUnusable, match=r"j\.db-head.* damaged"):
        await SqliteJournal(path).open()
    report = repair(path)
    assert (report.head, report.lost, report.lost_requests) == (end, 0, 0)
    head.write_text("somebody's notes")
    with pytest.raises(JournalUnusable, match="another program's"):
        await SqliteJournal(path).open()
    assert head.read_text() == "somebody's notes"
    head.unlink()  # as it is after a backup was copied to another place
    journal = await opened(path)
    assert await journal.head() == end
    await journal.close()


@pytest.mark.slow
async def test_the_command_says_what_was_lost(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    done = finished("journal", "repair", str(path))
    assert done.code == 0
    assert "intact" in done.out
    assert sorted(each.name for each in tmp_path.iterdir()) == ["j.db", "j.db-head"]
    altered(path, "UPDATE changes SET data = x'39' WHERE seq = 13")
    altered(path, "UPDATE snapshots SET value = x'39' WHERE checkpoint = 16")
    before = path.read_bytes()
    done = finished("journal", "repair", f"sqlite:///{path}")
    assert done.code == 0, done.err
    assert re.search(r"ends at 12\..*\nLost changes: 6, from number 13 on", done.out), done.out
    [copy] = tmp_path.glob("j.db-damaged-*[0-9]")
    assert copy.read_bytes() == before
    assert str(copy) in done.out
    assert "intact" in finished("journal", "repair", str(path)).out


@pytest.mark.slow
async def test_the_command_touches_no_journal_that_is_in_use_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await filled(path)
    done = finished("journal", "repair", str(path))
    assert (done.code, done.out) == (1, "")
    assert "stop the server" in done.err
    await journal.close()
    (tmp_path / "notes").write_text("x" * 600)
    for name in ("missing.db", "notes"):
        done = finished("journal", "repair", str(tmp_path / name))
        assert (done.code, done.out) == (1, "")
        assert re.fullmatch("statestream: .+\n", done.err), done.err
    assert finished("journal", "repair", "memory:").code == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["j.db", "j.db-head", "notes"]
