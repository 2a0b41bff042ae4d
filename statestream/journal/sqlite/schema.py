"""The tables of a SQLite journal: creates them, upgrades those of older versions, and verifies that they match.

Invariants: all of this happens in one transaction, so that a process that is killed leaves the file as it was. A file
that is another program's, of a newer version or damaged is refused and not modified. The messages contain the path,
because only the person who starts the server sees them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

from statestream.core.change import START, Position
from statestream.core.errors import JournalUnusable
from statestream.journal.sqlite import changes, checkpoints, folding, space
from statestream.journal.sqlite.checksums import Ledger, change_checksum, checksum, damaged, fits, request_checksum
from statestream.journal.sqlite.head_file import Acknowledged, head_path
from statestream.journal.sqlite.worker import transaction

log = logging.getLogger("statestream")

APPLICATION_ID: Final = 0x53745374  # "StSt"
SCHEMA_VERSION: Final = 3
_UPGRADE: Final = """
ALTER TABLE changes ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE changes ADD COLUMN ledger BLOB;
ALTER TABLE versions ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE checkpoints ADD COLUMN slices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE checkpoints ADD COLUMN total INTEGER NOT NULL DEFAULT 0;
ALTER TABLE checkpoints ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
ALTER TABLE floor ADD COLUMN ledger BLOB NOT NULL DEFAULT x'';
ALTER TABLE floor ADD COLUMN crc INTEGER NOT NULL DEFAULT 0;
DELETE FROM snapshots WHERE checkpoint IN (SELECT seq FROM checkpoints WHERE bytes < 0);
DELETE FROM checkpoints WHERE bytes < 0;
UPDATE changes SET crc = change_crc(seq, tag, slice, from_version, kind, data, type, request, actor, payload, at);
UPDATE versions SET crc = version_crc(slice, version);
UPDATE requests SET crc = request_crc(actor, id, digest, seq, tag, changes, at);
UPDATE snapshots SET crc = snapshot_crc(slice, checkpoint, version, tag, value)
"""
_ERASURES: Final = (
    "CREATE TABLE IF NOT EXISTS erasures"
    " (slice TEXT PRIMARY KEY, seq INTEGER NOT NULL, overwritten INTEGER NOT NULL) STRICT, WITHOUT ROWID"
)
"""Also for files from before there was such a table."""
_STANDING: Final = """
SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM versions),
       (SELECT coalesce(sum(crc), 0) FROM requests) + (SELECT coalesce(sum(crc), 0) FROM versions)
"""


class Schema:
    """The tables of the file that a connection has open."""

    def __init__(self, sql: sqlite3.Connection, path: Path) -> None:
        self._sql, self._path = sql, path

    def prepare(self, acknowledged: Acknowledged | None) -> tuple[Position, Ledger]:
        """Makes the tables ready, and returns the head and its ledger.

        `acknowledged` is the head that the journal must contain, according to the head file. Raises JournalUnusable,
        sqlite3.Error.
        """
        version = self._version()
        if version == 0 and acknowledged is not None and acknowledged.batch:
            raise self._lost(acknowledged, "it is empty")
        space.prepare(self._sql)
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        with transaction(self._sql, "IMMEDIATE"):
            version = self._sql.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._create()
            elif version == 1:
                log.info("upgrading the journal %s, which can take a minute for each gigabyte", self._path)
                self._upgrade()
            if version < SCHEMA_VERSION:  # version 2 had no folded changes
                self._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._sql.execute(_ERASURES)
            self._sql.execute(folding.TABLE)
            self._check_fit()
            head, ledger = changes.newest(self._sql)
            if acknowledged is not None:
                self._check_end(acknowledged, head, ledger)
        return head, ledger

    def _version(self) -> int:
        """The version of the tables, 0 if there are none. Refuses a file of another program, and a damaged one."""
        owner = self._sql.execute("PRAGMA application_id").fetchone()[0]
        version: int = self._sql.execute("PRAGMA user_version").fetchone()[0]
        tables = self._sql.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if owner != APPLICATION_ID and (owner or version or tables):
            raise JournalUnusable(f"expected a statestream journal, but {self._path} is another program's database")
        if version > SCHEMA_VERSION:
            raise JournalUnusable(
                f"expected a journal of format {SCHEMA_VERSION}, {self._path} has format {version}; upgrade statestream"
            )
        checks = ["PRAGMA quick_check(1)", "PRAGMA integrity_check(requests)" if version else "SELECT 'ok'"]
        for check in checks:
            damage = self._sql.execute(check).fetchone()[0]
            if damage != "ok":
                raise damaged(f"{self._path} ({' '.join(str(damage).split())})")
        return version

    def _create(self) -> None:
        script = resources.files("statestream.journal.sqlite").joinpath("schema.sql").read_text()
        for statement in script.split(";\n"):
            self._sql.execute(statement)
        changes.set_floor(self._sql, START, Ledger())
        self._sql.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _upgrade(self) -> None:
        """Upgrades version 1, which had no checksums: its contents are assumed to be intact."""
        functions: dict[str, Callable[..., int]] = {
            "change_crc": lambda *row: change_checksum(row),
            "version_crc": lambda *row: checksum(row),
            "request_crc": lambda *row: request_checksum(row),
            "snapshot_crc": checkpoints.row_checksum,
        }
        for name, function in functions.items():
            self._sql.create_function(name, -1, function, deterministic=True)
        for statement in _UPGRADE.split(";\n"):
            self._sql.execute(statement)
        seq, tag = self._sql.execute("SELECT seq, tag FROM floor").fetchone()
        position = Position(seq=seq, tag=tag)
        rows, total = self._sql.execute(_STANDING).fetchone()
        ledger = Ledger(batch=1, rows=rows, total=total)
        changes.set_floor(self._sql, position, ledger)
        last = self._sql.execute("SELECT seq, tag FROM changes ORDER BY seq DESC LIMIT 1").fetchone()
        if last:
            changes.set_ledger(self._sql, Position(seq=last[0], tag=last[1]), ledger)
        self._sum_up()

    def _sum_up(self) -> None:
        """Gives the checkpoints their sums."""
        for seq, tag, at, size in self._sql.execute("SELECT seq, tag, at, bytes FROM checkpoints").fetchall():
            rows = self._sql.execute(
                "SELECT value IS NULL, crc, max(checkpoint) FROM snapshots WHERE checkpoint <= ? GROUP BY slice", (seq,)
            ).fetchall()
            crcs = [crc for removed, crc, _ in rows if not removed]
            checkpoints.Point(seq, tag, at, size, len(crcs), sum(crcs)).put(self._sql)

    def _check_fit(self) -> None:
        """Checks that the tables match each other. Changes and slices are checked when they are read."""
        head, ledger = changes.newest(self._sql)
        floor = changes.earliest(self._sql)
        oldest: Any = self._sql.execute("SELECT min(seq) FROM changes").fetchone()[0]
        points = checkpoints.complete_points(self._sql)
        if (oldest is not None and oldest > floor.seq + 1) or head.seq < floor.seq:
            raise damaged(f"the oldest history in {self._path}")
        if floor != START and all(point.position != floor for point in points):
            raise damaged(f"the oldest checkpoint in {self._path}")
        if self._sql.execute(_STANDING).fetchone() != (ledger.rows, ledger.total):
            raise damaged(f"the table of versions or ids in {self._path}")
        for name, version, crc in self._sql.execute("SELECT slice, version, crc FROM versions"):
            if not fits(crc, checksum, (name, version)):
                raise damaged(f"the version of a slice in {self._path}")

    def _check_end(self, acknowledged: Acknowledged, head: Position, ledger: Ledger) -> None:
        """Checks that all acknowledged changes exist."""
        position = acknowledged.position
        if ledger.batch < acknowledged.batch or head.seq < position.seq:
            raise self._lost(acknowledged, f"it ends at {head}")
        floor = changes.earliest(self._sql)
        row = self._sql.execute("SELECT tag FROM changes WHERE seq = ?", (position.seq,)).fetchone()
        if position.seq > floor.seq and (row is None or row[0] != position.tag):
            raise self._lost(acknowledged, "it has another history")

    def _lost(self, acknowledged: Acknowledged, how: str) -> JournalUnusable:
        return JournalUnusable(
            f"expected {self._path} to contain change {acknowledged.position}, which was acknowledged, but {how}; run"
            " `statestream journal repair` to continue without what is lost. If you restored a backup or want to start"
            f" over, delete {head_path(self._path)}"
        )
