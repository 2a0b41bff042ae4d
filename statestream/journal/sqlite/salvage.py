"""The data that can still be read from a damaged journal: the state at the last good change, and its history.

Salvaging begins at the newest complete checkpoint, or at the beginning of the history. It applies the changes after
that, as long as each is as it was written and continues the previous one. A batch counts as a whole or not at all. The
history before that point is kept as far back as it is good and begins with a complete checkpoint.

Invariants: nothing is written. Rows that SQLite cannot read count as damaged. Only rows with a correct CRC are used, so
the result contains only what was written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.core.change import START, Change, Position
from statestream.core.errors import JournalUnusable, StatestreamError
from statestream.core.folding import Merged
from statestream.core.selection import EVERYTHING
from statestream.journal.history import Held, advance
from statestream.journal.sqlite import changes, checkpoints
from statestream.journal.sqlite.checksums import Checked, Ledger, checksum, fits, request_checksum
from statestream.journal.sqlite.worker import SQLITE_ERRORS

RECORD: Final = "actor, id, digest, seq, tag, changes, at, crc"


class Salvaged(Struct, kw_only=True):
    """`state` is the one at `head`, `before` the one at `earliest`.

    `known` is the last change of which there is a trace, and `trimmed` the earliest position before the damage, if it
    can be read. `requests` are rows, and `lost_requests` counts the rows that are known to be lost.
    """

    head: Position
    state: Held
    earliest: Position
    before: Held
    known: int
    trimmed: int | None
    requests: list[tuple[Any, ...]]
    lost_requests: int


class Salvage:
    """Reads a damaged journal through a connection, which must not be in use by anybody else."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self._sql = sql

    def find(self) -> Salvaged | None:
        """The newest certain state, with its history and records; None if there is none."""
        for base in reversed(self._bases()):
            state = self._state(base)
            if state is not None:
                head = self._walk(base, state)
                return self._around(head, state)
        return None

    def change(self, seq: int) -> Change | None:
        """An undamaged change."""
        try:
            return changes.change_at(self._sql, seq)
        except (*SQLITE_ERRORS, StatestreamError, OverflowError):
            return None

    def _bases(self) -> list[Position]:
        """The bases from which a state can be built, oldest first."""
        found = [point.position for point in self._points()]
        floor = self._floor()
        begins = floor == START or self.change(1) is not None
        return [START, *found] if begins else found

    def _points(self) -> list[checkpoints.Point]:
        query = "SELECT seq, tag, at, bytes, slices, total, crc FROM checkpoints WHERE bytes >= 0 ORDER BY seq"
        points = (checkpoints.Point(*row[:6]) for row in self._rows(query) if fits(row[6], checksum, row[:6]))
        return [point for point in points if point.seq > 0]

    def _floor(self) -> Position | None:
        try:
            return changes.earliest(self._sql)
        except (*SQLITE_ERRORS, StatestreamError):
            return None

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows up to the first that cannot be read."""
        try:
            yield from self._sql.execute(query)
        except (*SQLITE_ERRORS, OverflowError):
            return

    def _state(self, base: Position) -> Held | None:
        """The state at a base, if it is complete."""
        if base == START:
            return {}
        try:
            saved = checkpoints.saved_checked(self._sql, base, EVERYTHING, Checked())
            return {each.name: (orjson.loads(each.data), each.position) for each in saved}
        except (*SQLITE_ERRORS, StatestreamError, OverflowError, orjson.JSONDecodeError):
            return None

    def _walk(self, base: Position, held: Held, limit: int | None = None) -> Position:
        """Applies the whole batches after a base to its state. Returns the position of the last one.

        Where changes are folded, but the one that has what they did is missing, the state is not known.
        """
        last, batch = base, list[Change]()
        certain, merged = base, Merged()
        while limit is None or last.seq + len(batch) < limit:
            change = self.change(last.seq + len(batch) + 1)
            if batch and (change is None or change.position.tag != batch[-1].position.tag):
                break  # the end of this batch is missing
            if change is None:
                break
            batch.append(change)
            if self._ends_batch(change.position):
                try:
                    advance(held, merged(batch))
                except (StatestreamError, orjson.JSONDecodeError):
                    return self._walk_again(base, held, last)
                last, batch = change.position, []
                certain = certain if merged.open else last
        return last if certain == last else self._walk_again(base, held, certain)

    def _walk_again(self, base: Position, held: Held, until: Position) -> Position:
        held.clear()
        held.update(self._state(base) or {})
        return self._walk(base, held, limit=until.seq)

    def _ends_batch(self, position: Position) -> bool:
        """By its ledger. Rows of an older format have none; there, the next change has another tag."""
        ledgers = list(self._rows(f"SELECT ledger FROM changes WHERE seq = {position.seq}"))
        if not ledgers or ledgers[0][0] is not None:
            return bool(ledgers) and self._ledger(ledgers[0][0], position) is not None
        after = self.change(position.seq + 1)
        return after is not None and after.position.tag != position.tag

    def _ledger(self, packed: object, position: Position) -> Ledger | None:
        try:
            return Ledger.unpacked(packed, position)
        except JournalUnusable:
            return None

    def _around(self, head: Position, state: Held) -> Salvaged:
        earliest, before = self._earliest(head, state)
        floor = self._floor()
        requests, lost = self._requests(head, len(state))
        last = list(self._rows("SELECT coalesce(max(seq), 0) FROM changes"))
        return Salvaged(
            head=head,
            state=state,
            earliest=earliest,
            before=before,
            known=max(head.seq, last[0][0] if last and isinstance(last[0][0], int) else 0),
            trimmed=None if floor is None else floor.seq,
            requests=requests,
            lost_requests=lost,
        )

    def _earliest(self, head: Position, state: Held) -> tuple[Position, Held]:
        """The oldest base from which good changes lead to the head's state."""
        oldest = head.seq
        while self.change(oldest) is not None:
            oldest -= 1
        for base in self._bases():
            if oldest <= base.seq <= head.seq and (before := self._state(base)) is not None:
                reached = self._state(base) or {}
                if self._walk(base, reached, limit=head.seq) == head and reached == state:
                    return base, before
        return head, state

    def _requests(self, head: Position, slices: int) -> tuple[list[tuple[Any, ...]], int]:
        """The records of requests up to the head, and how many others there were."""
        found: dict[tuple[str, str], tuple[Any, ...]] = {}
        damaged = 0
        for order in ("actor, id", "actor DESC, id DESC"):  # from both ends, in case the middle cannot be read
            damaged = 0
            for row in self._rows(f"SELECT {RECORD} FROM requests ORDER BY {order}"):
                if not fits(row[7], request_checksum, row[:7]):
                    damaged += 1
                elif row[3] <= head.seq:
                    found[row[0], row[1]] = row
        packed = list(self._rows(f"SELECT ledger FROM changes WHERE seq = {head.seq}"))
        ledger = self._ledger(packed[0][0], head) if packed else None
        missing = 0 if ledger is None else ledger.rows - slices - len(found)
        return list(found.values()), max(damaged, missing)
