"""Takes a damaged journal back to its last good change.

The damaged files are copied first. Then a new journal is made from the data that is certain, and replaces the damaged
one. The copies stay: nothing is deleted.

Invariants: no server may have the journal open. Until the new journal is complete, the damaged one stays in its place.
The report lists what is lost, without guesses about what cannot be known.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from statestream.core.change import START, Position, SliceState, now_ms
from statestream.core.errors import JournalUnusable, StatestreamError, Unavailable
from statestream.core.selection import EVERYTHING
from statestream.journal.history import Held
from statestream.journal.sqlite import changes, checkpoints, noted_time
from statestream.journal.sqlite.checksums import Checked, Ledger, checksum
from statestream.journal.sqlite.claims import Claims
from statestream.journal.sqlite.files import check_foreign
from statestream.journal.sqlite.head_file import SIZE, Acknowledged, HeadFile, read_slots
from statestream.journal.sqlite.salvage import RECORD, Salvage, Salvaged
from statestream.journal.sqlite.schema import Schema
from statestream.journal.sqlite.worker import transaction

_SHARED: Final = (510, 0x40000002)
"""The bytes of a database on which every open SQLite connection holds a lock."""
_PORTION: Final = 1_000


class Repaired(Struct, frozen=True, kw_only=True):
    """The result of a repair. `copies` is empty if the journal was intact and was not changed.

    `lost` is how many changes after `head` are known to have existed, `earliest` where the history begins now, and
    `earlier` where it began before; None if that is not known.
    """

    head: Position
    lost: int = 0
    earliest: Position
    earlier: int | None
    lost_requests: int = 0
    copies: tuple[Path, ...] = ()


def repair(path: Path) -> Repaired:
    """Takes a journal back to its last good change. Raises JournalUnusable if there is nothing to go back to."""
    real = Path(os.path.realpath(path))
    if not real.is_file():
        raise JournalUnusable(f"expected a journal at {path}, but there is no file; restore it, or delete {real}-head")
    check_foreign(real)
    _check_unused(real)
    copies = _copy(real)
    found = _examined(real)
    if found is not None:
        for copy in copies:
            copy.unlink()
        return found
    acknowledged = _acknowledged(HeadFile(real).path)
    with _salvaged(real, copies[0]) as (sql, salvaged):
        begun = real.with_name(f"{real.name}-repaired")
        for file in (begun, *_beside(begun)):
            file.unlink(missing_ok=True)
        newest = _build(begun, sql, salvaged, batch=1 if acknowledged is None else acknowledged.batch + 1)
    shutil.copymode(real, begun)
    for file in _beside(real):  # the log first: nobody must see the new journal with the old log
        file.unlink(missing_ok=True)
    begun.replace(real)
    head = HeadFile(real)
    head.open(newest, real.stat().st_mode & 0o777)
    head.close()
    known = max(salvaged.known, 0 if acknowledged is None else acknowledged.position.seq)
    return Repaired(
        head=salvaged.head,
        lost=known - salvaged.head.seq,
        earliest=salvaged.earliest,
        earlier=salvaged.trimmed,
        lost_requests=salvaged.lost_requests,
        copies=copies,
    )


def _beside(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}-{end}") for end in ("wal", "shm", "head")]


def _check_unused(path: Path) -> None:
    """Checks the lock that each connection of SQLite holds. This process must not have one."""
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SHARED)
        except OSError as error:
            raise JournalUnusable(f"{path} is open in another process; stop the server first") from error


def _copy(path: Path) -> tuple[Path, ...]:
    """Copies the files into their own directory, under unused names."""
    name = f"{path.name}-damaged-{now_ms()}"
    copies = []
    for file in (path, *_beside(path)):
        if file.exists() and not file.name.endswith("-shm"):
            target = path.with_name(name + file.name.removeprefix(path.name))
            with file.open("rb") as source, target.open("xb") as written:
                shutil.copyfileobj(source, written)
                written.flush()
                os.fsync(written.fileno())
            shutil.copymode(file, target)
            copies.append(target)
    return tuple(copies)


def _acknowledged(path: Path) -> Acknowledged | None:
    """The newest slot that can be read."""
    content = path.read_bytes()[:SIZE] if path.exists() else b""
    return max((slot for slot in read_slots(content) if slot), key=lambda slot: slot.batch, default=None)


def _examined(path: Path) -> Repaired | None:
    """Checks everything. Returns None if anything is damaged or lost."""
    try:
        known = HeadFile(path).newest()
        with closing(sqlite3.connect(path, isolation_level=None)) as sql:
            head, _ = Schema(sql, path).prepare(known)
            with transaction(sql, "DEFERRED"):
                earliest = changes.earliest(sql)
                position = earliest
                while (page := changes.read(sql, position, _PORTION, EVERYTHING, Checked())).until != position:
                    position = page.until
                for point in checkpoints.complete_points(sql):
                    checkpoints.saved_checked(sql, point.position, EVERYTHING, Checked())
                for actor, id in sql.execute("SELECT actor, id FROM requests").fetchall():
                    changes.lookup(sql, [(actor, id)], now=0)  # at a time at which no record is too old
    except (JournalUnusable, sqlite3.DatabaseError, UnicodeDecodeError):
        return None
    return Repaired(head=head, earliest=earliest, earlier=earliest.seq)


@contextmanager
def _salvaged(path: Path, copy: Path) -> Iterator[tuple[sqlite3.Connection, Salvaged]]:
    """The better result of the two, with the write-ahead log and without it, and a connection to read the rest from.

    The whole log may already be in the file; then damage to the log has lost nothing.
    """
    without = f"{copy.absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(path)) as with_log, closing(sqlite3.connect(without, uri=True)) as without_log:
        best: tuple[sqlite3.Connection, Salvaged] | None = None
        for sql in (with_log, without_log):
            sql.execute("PRAGMA writable_schema = ON")  # otherwise nothing can be read from a truncated file
            found = Salvage(sql).find()
            if found and (best is None or _worth(found) > _worth(best[1])):
                best = sql, found
        if best is None:
            raise JournalUnusable(
                f"no complete state was found in {path}; restore a backup. The files were copied, but not changed"
            )
        yield best


def _worth(salvaged: Salvaged) -> tuple[int, int, int]:
    return salvaged.head.seq, -salvaged.earliest.seq, -salvaged.lost_requests


def _build(path: Path, source: sqlite3.Connection, salvaged: Salvaged, batch: int) -> Acknowledged:
    """Writes a journal from the salvaged data."""
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        Schema(sql, path).prepare(None)
        with transaction(sql, "IMMEDIATE"):
            now = _noted_time(source, salvaged)
            noted_time.begin_at(sql, now)
            ledger = _build_rows(sql, salvaged, batch)
            changes.set_floor(sql, salvaged.earliest, ledger)
            _copy_changes(sql, Salvage(source), salvaged, ledger)
            if salvaged.earliest != START:
                _keep(sql, salvaged.earliest, salvaged.before, {}, now)
            if salvaged.head != salvaged.earliest:
                _keep(sql, salvaged.head, salvaged.state, salvaged.before, now)
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Acknowledged(position=salvaged.head, ledger=ledger)


def _noted_time(source: sqlite3.Connection, salvaged: Salvaged) -> int:
    """The last time of the damaged journal's clock, from which the ages of ids are measured."""
    try:
        noted = noted_time.noted(source)
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        noted = None
    return max((row[6] for row in salvaged.requests), default=now_ms()) if noted is None else noted


def _build_rows(sql: sqlite3.Connection, salvaged: Salvaged, batch: int) -> Ledger:
    """The versions and the records, and the ledger of both."""
    versions = [(name, position.seq) for name, (_, position) in salvaged.state.items()]
    rows = [(*row, checksum(row)) for row in versions]
    sql.executemany("INSERT INTO versions VALUES (?, ?, ?)", rows)
    sql.executemany(f"INSERT INTO requests ({RECORD}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", salvaged.requests)
    crcs = [row[-1] for row in (*rows, *salvaged.requests)]
    return Ledger(batch=batch, rows=len(crcs), total=sum(crcs))


def _copy_changes(sql: sqlite3.Connection, source: Salvage, salvaged: Salvaged, ledger: Ledger) -> None:
    rows: list[tuple[Any, ...]] = []
    for seq in range(salvaged.earliest.seq + 1, salvaged.head.seq + 1):
        change = source.change(seq)
        if change is None:
            raise Unavailable(f"change {seq} of the journal can no longer be read; try again")
        rows.append(changes.row_of(change))
        if len(rows) == _PORTION or seq == salvaged.head.seq:
            changes.insert(sql, rows, ledger if seq == salvaged.head.seq else None)
            rows = []


def _keep(sql: sqlite3.Connection, position: Position, state: Held, before: Held, now: int) -> None:
    """A checkpoint of a state, given the one at the checkpoint before."""
    slices: dict[str, SliceState | None] = dict.fromkeys(before)
    slices |= {name: SliceState(value, at) for name, (value, at) in state.items() if before.get(name) != (value, at)}
    for name in before.keys() & state.keys():
        if before[name] == state[name]:
            del slices[name]
    claim, saved = checkpoints.claim(sql, position, now, Claims()), 0
    if claim is None:
        raise StatestreamError(f"expected no checkpoint at {position} in a new journal")
    for rows in checkpoints.portions(position, slices):
        claim = checkpoints.save(sql, position, claim, rows, now)
        saved += sum(len(row[4] or b"") for row in rows)
    checkpoints.complete(sql, position, claim, saved, now)
