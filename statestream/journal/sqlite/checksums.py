"""The proof that a row is as it was written, and that no row is missing.

Every row has a CRC-32 of its columns. A CRC cannot reveal that a row is gone, or that an older version of a page has
come back. So there are three more checks: changes are numbered without a gap, a checkpoint knows how many slices it has
and the sum of their CRCs, and the last change of each batch carries a ledger.

The ledger numbers the batches, and has the number of rows in `versions` and `requests` together, and the sum of their
CRCs. It belongs to the head: a batch without changes replaces the ledger there, and if the head itself has been
trimmed, the row in `floor` has it.

Invariants: pure functions of rows; SQL is elsewhere. A mismatch raises JournalUnusable and never returns a wrong value.
CRCs find damage, not forgery.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout
from typing import Any, Final, Self
from zlib import crc32

from msgspec import Struct

from statestream.core.change import Position
from statestream.core.errors import JournalUnusable

_LEDGER: Final = Layout(">qqq")
_CRC: Final = Layout(">I")


def damaged(what: str) -> JournalUnusable:
    """The error for a part that is not as it was written. It contains no path, because clients see it."""
    return JournalUnusable(
        f"{what} is damaged; stop the server and run `statestream journal repair`, or restore a backup"
    )


def checksum(columns: tuple[Any, ...], blob: bytes = b"") -> int:
    """The CRC of a row. A value that may be long is passed as `blob`."""
    return crc32(blob, crc32(f"{columns!r}{len(blob)}".encode()))


def change_checksum(row: tuple[Any, ...]) -> int:
    """The CRC of a row of `changes`, without its ledger: that has its own, because it may be replaced.

    Each action pays for it, so it is as short as it can be.
    """
    seq, tag, name, before, kind, data, type, request, actor, payload, at = row
    text = f"{seq} {tag} {name} {before} {kind} {type} {request} {actor} {at} {len(data)}"
    return crc32(payload, crc32(data, crc32(text.encode())))


def request_checksum(row: tuple[Any, ...]) -> int:
    """The CRC of a row of `requests`, likewise."""
    actor, id, digest, seq, tag, changes, at = row
    return crc32(digest, crc32(f"{seq} {tag} {at} {changes}{id} {len(actor)} {actor}".encode()))


def fits(crc: object, checksum: Callable[..., int], *row: Any) -> bool:
    """Whether a row is as it was written. Damage may have changed the types of its columns as well."""
    try:
        return checksum(*row) == crc
    except (TypeError, ValueError):
        return False


class Ledger(Struct, frozen=True, kw_only=True, gc=False):
    """The number of a batch, and what the tables hold after it."""

    batch: int = 0
    rows: int = 0
    total: int = 0

    def packed(self, head: Position) -> bytes:
        """As it is stored with the head."""
        numbers = _LEDGER.pack(self.batch, self.rows, self.total)
        return numbers + _CRC.pack(crc32(str(head).encode(), crc32(numbers)))

    @classmethod
    def unpacked(cls, packed: object, head: Position) -> Self:
        """Raises JournalUnusable if it is damaged, or was not written with this head."""
        if not isinstance(packed, bytes) or len(packed) != _LEDGER.size + _CRC.size:
            raise damaged("the head of the journal")
        batch, rows, total = _LEDGER.unpack_from(packed)
        ledger = cls(batch=batch, rows=rows, total=total)
        if ledger.packed(head) != packed:
            raise damaged("the head of the journal")
        return ledger

    def after(self, gone: list[int], new: list[int]) -> Ledger:
        """The ledger of the next batch, given the CRCs of the rows that it removes and of those that it adds."""
        rows, total = self.rows + len(new) - len(gone), self.total + sum(new) - sum(gone)
        return Ledger(batch=self.batch + 1, rows=rows, total=total)


class Checked:
    """The rows that one connection has checked completely since it was opened, so that it can skip unselected ones.

    Rows that are returned are checked each time. Damage may have changed the slice's name of an unselected row, so the
    first time, all rows in between are checked.
    """

    def __init__(self) -> None:
        self._after = self._until = 0
        self.checkpoints: set[int] = set()

    def covers(self, after: int, until: int) -> bool:
        """Whether all changes after `after` up to `until` have been checked."""
        return self._after <= after and until <= self._until

    def add(self, after: int, until: int) -> None:
        """Notes a range. Of ranges that do not touch, the newest is kept."""
        if after <= self._until and self._after <= until:
            self._after, self._until = min(after, self._after), max(until, self._until)
        else:
            self._after, self._until = after, until
