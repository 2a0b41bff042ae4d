"""`statestream journal`: journals are looked at, verified, exported, imported and backed up, under a busy server."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from statestream.core.change import Position
from statestream.core.errors import Malformed
from statestream.journal import MemoryJournal, Retention, SqliteJournal
from statestream.journal.contract import Portable
from statestream.journal.export_file import MAX_LINE, ExportReader, ExportWriter
from statestream.journal.exporting import export
from statestream.journal.history import History
from statestream.journal.importing import examined, import_into
from statestream.journal.sqlite.checksums import change_checksum
from statestream.testing.journals import changes_after, entry, keep, plain, removed, value, write
from tests.support import Server, dispatch
from tests.support.damage import Truth, built, truth_of
from tests.support.nursery import finished

AGES = re.compile(rb'"(age|at|crc)":\d+')


def command(*arguments: str | Path, code: int = 0) -> str:
    """Runs `statestream journal`, and returns what it says, on both channels."""
    ran = finished("journal", *map(str, arguments))
    said = ran.out + ran.err
    assert ran.code == code, said
    assert "Traceback" not in said
    return said


def url(path: Path) -> str:
    return f"sqlite:///{path}"


async def filled(path: Path) -> SqliteJournal:
    """A journal with two slices, one that was removed, checkpoints and records. Its beginning is trimmed."""
    journal = SqliteJournal(path)
    await journal.open()
    for n in range(9):
        await write(journal, entry(value("a", n), value("room/1", [n]), value("room/2", {}), id=f"id-{n}"))
        await write(journal, entry(removed("room/2")))
        if n % 4 == 3:
            await keep(journal)
    await journal.trim((await journal.checkpoints())[0].position)
    return journal


async def exported(path: Path) -> list[bytes]:
    """The lines of an export of `filled`."""
    journal = await filled(path)
    lines: list[bytes] = []
    await export(journal, ExportWriter(lines.append))
    await journal.close()
    return lines


async def check_same(path: Path, truth: Truth) -> None:
    """The journal at the path has what the truth has, at the same positions."""
    journal = SqliteJournal(path)
    await journal.open()
    try:
        assert (await journal.earliest(), await journal.head()) == (truth.earliest, truth.head)
        kept = truth.changes[truth.earliest.seq :]
        assert await changes_after(journal, truth.earliest, len(kept) + 1) == kept
        for seq, state in truth.states.items():
            assert plain(await History(journal).load(truth.position(seq))) == state
        assert await journal.lookup(truth.records) == truth.records
        [outcome] = await write(journal, entry(value("room/new", [1]), id="new"))
        assert outcome.position.seq == truth.head.seq + 1
    finally:
        await journal.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["young", "trimmed"])
async def test_an_imported_journal_is_the_one_that_was_exported(tmp_path: Path, kind: str) -> None:
    truth = await truth_of(built(tmp_path / kind, kind), tmp_path / "scratch")
    file, again, path = tmp_path / "j.jsonl", tmp_path / "again.jsonl", tmp_path / "new.db"
    said = command("export", url(truth.path), "-o", file)
    assert f"exported {len(truth.changes) - truth.earliest.seq} changes" in said
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"The journal ends at {truth.head}" in command("import", file, url(path))
    assert "is intact" in command("verify", url(path))
    assert command("repair", path).count("intact") == 1
    command("export", url(path), "-o", again)
    assert AGES.sub(b"", again.read_bytes()) == AGES.sub(b"", file.read_bytes())
    await check_same(path, truth)


async def test_an_engine_that_numbers_anew_gets_the_state_the_history_and_the_ids(tmp_path: Path) -> None:
    lines = await exported(tmp_path / "j.db")
    journal = MemoryJournal(Retention(age=0.0))
    assert not isinstance(journal, Portable)
    done = await import_into(journal, examined(lambda: lines), lambda: lines)
    assert not done.same_positions
    original = SqliteJournal(tmp_path / "j.db")
    await original.open()
    state, wanted = await History(journal).load(), await History(original).load()
    assert {name: each.value for name, each in state.slices.items()} == {"a": 8, "room/1": [8]}
    old = await changes_after(original, await original.earliest(), 100)
    new = (await changes_after(journal, Position(seq=0, tag="0"), 200))[-len(old) :]
    assert [(c.slice, c.kind, c.data, c.cause, c.at) for c in new] == [
        (c.slice, c.kind, c.data, c.cause, c.at) for c in old
    ]
    assert wanted.position.tag != state.position.tag
    keys = [("ada", f"id-{n}") for n in range(9)]
    assert (await journal.lookup(keys)).keys() == set(keys)
    back: list[bytes] = []
    await export(journal, ExportWriter(back.append))
    assert examined(lambda: back).changes == done.changes + done.slices
    await original.close()


def replaced(number: int, old: bytes, new: bytes) -> Callable[[list[bytes]], list[bytes]]:
    def change(lines: list[bytes]) -> list[bytes]:
        assert old in lines[number]
        return [line.replace(old, new, 1) if at == number else line for at, line in enumerate(lines)]

    return change


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "empty": (lambda lines: [], "line 1 of the file: the file ends too early"),
    "another file": (lambda lines: [b'{"recording":1}\n'], "line 1 of the file: expected"),
    "text": (lambda lines: [b"hello\n"], "line 1 of the file: expected"),
    "newer": (replaced(0, b'"format":1', b'"format":2'), "line 1 of the file: .* got 2; upgrade statestream"),
    "without its end": (lambda lines: lines[:-1], "the file ends too early; export again"),
    "cut in a line": (lambda lines: [*lines[:4], lines[4][:-9]], "line 5 of the file: the file ends too early"),
    "something after it": (lambda lines: [*lines, b"\n"], "expected nothing after the last line"),
    "a line is missing": (lambda lines: lines[:5] + lines[6:], "line 6 of the file: expected change"),
    "lines are swapped": (
        lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
        "line 6 of the file: expected change",
    ),
    "a record is missing": (lambda lines: lines[:-2] + lines[-1:], "are not those that were written"),
    "a slice is missing": (lambda lines: lines[:1] + lines[2:], "line .* the change does not continue its slice"),
    "a slice comes late": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], "expected the slices first"),
    "another value": (replaced(4, b'"at":', b'"at":1'), "the lines before this one are not those"),
    "not a name": (replaced(3, b'"slice":"a"', b'"slice":"A"'), "line 4 of the file: expected a slice name"),
    "a perilous key": (replaced(3, b'"data":', b'"data":{"__proto__":1},"date":'), "__proto__"),
    "too deep": (replaced(3, b'"data":', b'"data":' + b"[" * 5000 + b"]" * 5000 + b',"date":'), "line 4 of the file"),
    "too long": (lambda lines: [lines[0], b" " * (MAX_LINE + 1)], "line 2 of the file: it is longer than 256 MiB"),
    "not UTF-8": (replaced(3, b'"type":"', b'"type":"\xff'), "line 4 of the file"),
}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return asyncio.run(exported(tmp_path_factory.mktemp("exported") / "j.db"))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_export_is_refused_with_the_line(lines: list[bytes], name: str) -> None:
    damage, sentence = DAMAGES[name]
    assert examined(lambda: lines).head == ExportReader(lines).head
    damaged = damage(lines)
    with pytest.raises(Malformed, match=sentence):
        examined(lambda: damaged)


def test_every_flipped_bit_of_an_export_is_noticed(lines: list[bytes]) -> None:
    whole = b"".join(lines)
    for at in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(Malformed):
            examined(lambda damaged=damaged: bytes(damaged).splitlines(keepends=True))


def test_a_failed_import_creates_nothing_and_a_journal_in_use_stays_as_it_is(
    tmp_path: Path, lines: list[bytes]
) -> None:
    file, path = tmp_path / "j.jsonl", tmp_path / "new.db"
    file.write_bytes(b"".join(lines[:-1]))
    assert re.fullmatch("statestream: line .*\n", command("import", file, url(path), code=1))
    assert "No such file" in command("import", tmp_path / "missing", url(path), code=1)
    assert not path.exists()
    file.write_bytes(b"".join(lines))
    command("import", file, url(path))
    before = command("info", url(path))
    assert "expected an empty journal" in command("import", file, url(path), code=1)
    assert command("info", url(path)) == before


async def test_what_a_journal_holds_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = await filled(path)
    head, earliest = await journal.head(), await journal.earliest()
    said = await asyncio.to_thread(command, "info", url(path))  # while it is open in another process
    await journal.close()
    assert re.search(rf"^engine +sqlite\nhead +{head}, 20..-.*\nearliest +{earliest}, followed", said)
    assert re.search(r"^history +20 changes, 4\.\d kB$", said, re.MULTILINE)
    assert re.search(r"^ids +9 remembered requests", said, re.MULTILINE)
    assert re.search(r"^a +1 +1 B +5 +\d.*\nroom/\* +1 +3 B +15 ", said, re.MULTILINE)


async def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    """A row that is not as it was written, and one that is, by its checksum, but leads to another state."""
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    assert "20 changes from 16." in command("verify", url(path))
    with sqlite3.connect(path) as sql:
        columns = "seq, tag, slice, from_version, kind, data, type, request, actor, payload, at"
        row = list(sql.execute(f"SELECT {columns} FROM changes WHERE seq = 29").fetchone())
        row[5] = b"1000"
        sql.execute("UPDATE changes SET data = ?, crc = ? WHERE seq = 29", (row[5], change_checksum(tuple(row))))
    sql.close()
    assert re.search(
        r"checkpoint at 32\.\w+ is not the one to which the changes lead", command("verify", url(path), code=1)
    )
    with sqlite3.connect(path) as sql:
        sql.execute("UPDATE changes SET data = x'39' WHERE seq = 21")
    sql.close()
    assert "change 21 of the journal is damaged" in command("verify", url(path), code=1)
    assert "is damaged" in command("export", url(path), "-o", tmp_path / "j.jsonl", code=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["j.db", "j.db-head"]


@pytest.mark.slow
async def test_a_busy_server_is_backed_up_and_exported(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    """Everything that was acknowledged before is in the copy, which a server continues from."""
    path, copy, file = tmp_path / "j.db", tmp_path / "copy.db", tmp_path / "j.jsonl"
    acknowledged: list[str] = []
    over = asyncio.Event()

    async def act(who: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            id = f"{who}-{number}"
            status, _ = await dispatch(http, server.url, "board/task_added", {"id": id, "title": "x"}, id=id)
            assert status == 200
            acknowledged.append(id)

    with Server.serving(journal=url(path)) as server:
        async with asyncio.TaskGroup() as tasks:
            for who in range(4):
                tasks.create_task(act(who))
            before = list(acknowledged)
            said = await asyncio.to_thread(command, "backup", url(path), copy)
            between = list(acknowledged)
            await asyncio.to_thread(command, "export", url(path), "-o", file)
            await asyncio.to_thread(command, "verify", url(path))
            over.set()
        assert len(acknowledged) > len(between) > len(before), "it went on meanwhile"
    position = re.search(r"ends at (\S+)\. Keep", said)
    assert position
    assert "intact" in command("verify", url(copy))
    assert command("backup", url(path), copy, code=1).count("exists already") == 1
    with Server.serving(journal=url(copy)) as server:
        async with http.get(f"{server.url}/state?slices=board") as response:
            state = await response.json()
        assert set(before) <= {task["id"] for task in state["slices"]["board"]["tasks"]}
        assert state["position"] == position[1]
        status, answer = (
            await dispatch(http, server.url, "board/task_added", {"id": before[0], "title": "x"}, id=before[0])
            if before
            else (200, {"duplicate": True})
        )
        assert (status, answer["duplicate"]) == (200, True)
        assert server.stop() == "", "no warning that the head file is missing"
    assert set(between) <= {each.key[1] for each in await records_of(file, tmp_path / "imported.db")}


async def records_of(file: Path, path: Path) -> list:
    await asyncio.to_thread(command, "import", file, url(path))
    journal = SqliteJournal(path)
    await journal.open()
    found, after = [], None
    while page := await journal.records(after):
        found += page
        after = page[-1].key
    await journal.close()
    return found


async def test_a_damaged_journal_is_not_backed_up_and_no_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await (await filled(path)).close()
    (tmp_path / "notes").write_text("x" * 600)
    assert "exists already" in command("backup", url(path), tmp_path / "notes", code=1)
    with sqlite3.connect(path) as sql:
        sql.execute("DELETE FROM versions")
    sql.close()
    assert "is damaged" in command("backup", url(path), tmp_path / "copy.db", code=1)
    assert "another kind of file" in command("backup", url(tmp_path / "notes"), tmp_path / "copy.db", code=1)
    assert "cannot write" in command("backup", url(path), tmp_path / "none" / "copy.db", code=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["j.db", "j.db-head", "notes"]


@pytest.mark.parametrize("name", ["info", "verify", "export"])
def test_a_wrong_url_creates_no_journal(tmp_path: Path, name: str) -> None:
    assert "there is no file" in command(name, url(tmp_path / "j.db"), code=1)
    assert list(tmp_path.iterdir()) == []
    if name == "info":
        assert "a journal in memory exists only in the process" in command(name, "memory:", code=2)
        said = " ".join(command(name, "j.db", code=2).replace("│", " ").split())
        assert "a file is written sqlite:///j.db" in said


def test_an_export_to_stdout_is_the_same(tmp_path: Path, lines: list[bytes]) -> None:
    file, path = tmp_path / "j.jsonl", tmp_path / "new.db"
    file.write_bytes(b"".join(lines))
    command("import", file, url(path))
    said = command("export", url(path))
    *found, notice = said.splitlines()
    assert notice.startswith("statestream: exported 20 changes, 2 slices before them, and 9 ids")
    assert [json.loads(line)["line"] for line in found] == [json.loads(line)["line"] for line in lines]
