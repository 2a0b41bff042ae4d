"""Damage to the files of a journal, and the required outcome: every read is correct or refused.

A trial copies a journal with a real history, damages one of its files, and reads everything that it can.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from statestream.core.change import START, Change, IdempotencyKey, IdempotencyRecord, Position
from statestream.core.errors import JournalUnusable
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal import SqliteJournal
from statestream.journal.history import History, advance
from statestream.journal.sqlite.repair import repair
from statestream.testing.journals import changes_after, entry, plain, value, write
from tests.support.long_history import KINDS
from tests.support.paths import ROOT

PAGE = 4096
SELECTIONS = (EVERYTHING, Selection.family("room"), Selection(names=frozenset(("board", "room/7"))))
State = dict[str, tuple[Any, Position]]


class Truth(Struct, kw_only=True):
    """What a journal contained before it was damaged. `changes` are all that there ever were."""

    path: Path
    head: Position
    earliest: Position
    changes: list[Change]
    states: dict[int, State]
    records: dict[IdempotencyKey, IdempotencyRecord]

    def position(self, seq: int) -> Position:
        return self.changes[seq - 1].position if seq else START

    def state(self, seq: int) -> State:
        """The state at a change, made from the first one on."""
        state: State = {}
        advance(state, self.changes[:seq])
        return state


def built(folder: Path, kind: str) -> Path:
    """A journal with a history, as its process has left it."""
    folder.mkdir()
    path = folder / "j.db"
    subprocess.run([sys.executable, "-m", "tests.support.long_history", path, kind], cwd=ROOT, check=True)
    return path


def copied(path: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in path.parent.iterdir():
        if not file.name.endswith("-shm"):
            shutil.copy(file, folder / file.name)
    return folder / path.name


async def truth_of(path: Path, scratch: Path) -> Truth:
    """What the journal contains, read from a copy. `path` stays as it is, with its write-ahead log."""
    journal = SqliteJournal(copied(path, scratch))
    await journal.open()
    history = History(journal)
    head, earliest = await journal.head(), await journal.earliest()
    changes = msgspec.msgpack.decode(path.with_suffix(".changes").read_bytes(), type=list[Change])
    kept = changes[earliest.seq :]
    assert await changes_after(journal, earliest, len(kept) + 1) == kept
    states = {earliest.seq: plain(await history.load(earliest))}
    for change in (*random.Random(1).sample(kept, 12), kept[-1]):
        states[change.version] = plain(await history.load(change.position))
    keys = [("", f"id-{number}") for number in range(1, 20 + 2 * max(count for _, count, _ in KINDS.values()))]
    records = await journal.lookup(keys)
    await journal.close()
    shutil.rmtree(scratch)
    assert head == changes[-1].position
    assert len(records) > 20
    truth = Truth(path=path, head=head, earliest=earliest, changes=changes, states=states, records=records)
    assert all(truth.state(seq) == state for seq, state in states.items())
    return truth


def damage(path: Path, chance: random.Random) -> str:
    """Damages one of the journal's files, and returns a description."""
    wal = path.with_name(f"{path.name}-wal")
    file = chance.choice([path, wal]) if wal.exists() and wal.stat().st_size else path
    content = bytearray(file.read_bytes())
    page = chance.randrange(len(content) // PAGE) * PAGE
    at = chance.randrange(len(content))
    how = chance.choice(["flip", "flip", "flips", "zeroed page", "zeroed sector", "truncated", "missing", "misplaced"])
    if how == "flip":
        content[at] ^= 1 << chance.randrange(8)
    elif how == "flips":
        for _ in range(chance.randrange(2, 20)):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif how == "zeroed page":
        content[page : page + PAGE] = bytes(PAGE)
    elif how == "zeroed sector":
        content[at // 512 * 512 : at // 512 * 512 + 512] = bytes(512)
    elif how == "truncated":
        del content[at:]
    elif how == "missing":
        del content[at : at + chance.randrange(1, 5_000)]
    else:
        other = chance.randrange(len(content) // PAGE) * PAGE
        content[page : page + PAGE] = content[other : other + PAGE]
    file.write_bytes(content)
    return f"{how} in {file.name} at {at if 'page' not in how and how != 'misplaced' else page}"


async def consequence(path: Path, truth: Truth, chance: random.Random) -> str:
    """Reads everything: "intact", "refused at once" or "refused in part". A wrong read is an AssertionError."""
    journal = SqliteJournal(path)
    try:
        await journal.open()
        snapshot = await History(journal).load()
    except JournalUnusable:
        await journal.close()
        return "refused at once"
    try:
        assert snapshot.position == truth.head, "something is missing at the end, and nobody says so"
        assert plain(snapshot) == truth.states[truth.head.seq], "a wrong state"
        assert list(snapshot.changes) == truth.changes[snapshot.since.seq :], "a wrong history"
        assert await journal.earliest() == truth.earliest
        refusals = await _reads(journal, truth, chance) + await _lookups(journal, truth)
    finally:
        await journal.close()
    return "refused in part" if refusals else "intact"


async def after_repair(path: Path, truth: Truth, consequence: str) -> str:
    """Repairs a journal. What it then contains is the truth up to its head, and the report says what is missing."""
    try:
        report = repair(path)
    except JournalUnusable:
        return "not repairable"
    assert bool(report.copies) == (consequence != "intact")
    assert all(file.exists() for file in report.copies)
    journal = SqliteJournal(path)
    await journal.open()
    try:
        assert await journal.head() == report.head == truth.position(report.head.seq)
        assert report.lost == truth.head.seq - report.head.seq
        assert plain(await History(journal).load()) == truth.state(report.head.seq), "a wrong state"
        assert await journal.earliest() == report.earliest == truth.position(report.earliest.seq)
        known = truth.changes[report.earliest.seq : report.head.seq]
        assert await changes_after(journal, report.earliest, len(known) + 1) == known, "a wrong history"
        records = await journal.lookup(truth.records)
        expected = {key: record for key, record in truth.records.items() if record.position.seq <= report.head.seq}
        assert records.items() <= expected.items(), "a wrong record"
        if not report.lost:
            assert len(expected) - len(records) <= report.lost_requests, "more ids are forgotten than it says"
        [outcome] = await write(journal, entry(value("room/new", [1]), id="new"))
        assert outcome.position.seq == report.head.seq + 1
    finally:
        await journal.close()
    journal = SqliteJournal(path)
    await journal.open()
    assert plain(await History(journal).load())["room/new"] == ([1], outcome.position)
    await journal.close()
    return "nothing lost" if not (report.lost or report.lost_requests) else "repaired"


async def _reads(journal: SqliteJournal, truth: Truth, chance: random.Random) -> int:
    refusals = 0
    for selection in chance.sample(SELECTIONS, len(SELECTIONS)):
        after = truth.earliest
        wanted = selection.among(truth.changes[truth.earliest.seq :])
        found: list[Change] = []
        try:
            while (page := await journal.read(after, chance.choice([7, 1000]), selection)).until != after:
                found += page.changes
                after = page.until
            assert found == wanted, "a wrong history"
        except JournalUnusable:
            refusals += 1
            assert found == wanted[: len(found)], "a wrong history"
        for seq, state in chance.sample(sorted(truth.states.items()), 4):
            try:
                past = plain(await History(journal).load(truth.position(seq), selection))
            except JournalUnusable:
                refusals += 1
            else:
                assert past == {name: state[name] for name in state if selection.matches(name)}, "a wrong past"
    return refusals


async def _lookups(journal: SqliteJournal, truth: Truth) -> int:
    refusals = 0
    for key, record in truth.records.items():
        try:
            assert await journal.lookup([key]) == {key: record}, "an id that is forgotten"
        except JournalUnusable:
            refusals += 1
    return refusals
