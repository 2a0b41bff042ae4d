"""The file `<journal>-head`: how far the acknowledged history goes, outside of SQLite's files.

SQLite silently drops the rest of a write-ahead log from the first damaged frame on. This file reveals it: after each
commit, the number of the batch and the position are written here. A journal that ends earlier has lost acknowledged
changes.

It has 64 slots of 64 bytes. A batch goes into the slot of its number, so that processes that write at the same time do
not need to agree on an order: the newest slot counts. The file is flushed when it is created. After that, the kernel
decides when to flush it. So after a power failure, the file may be older than the journal, which is accepted, but never
newer.

A slot has a position and the ledger that was current there, whose CRC covers both.

Invariants: a slot is written after its batch is durable, and before it is acknowledged. A damaged slot is never
ignored. A file that is not ours is not overwritten.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct as Layout
from typing import Final

from msgspec import Struct

from statestream.core.change import Position
from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal.sqlite.checksums import Ledger, damaged

SLOTS: Final = 64
_SLOT: Final = Layout(">8sq20s28s")
_MAGIC: Final = b"StSthead"
SIZE: Final = SLOTS * _SLOT.size


class Acknowledged(Struct, frozen=True, kw_only=True, gc=False):
    """The head after the newest batch that may have been acknowledged, and its ledger."""

    position: Position
    ledger: Ledger

    @property
    def batch(self) -> int:
        return self.ledger.batch


def head_path(path: str | Path) -> Path:
    """Where the file of the journal at `path` is: beside the journal itself, if `path` is a link."""
    return Path(os.path.realpath(path) + "-head")


def read_slots(content: bytes) -> list[Acknowledged | None]:
    """The slots of a file; None for each that is damaged."""
    return [_read(content[at : at + _SLOT.size]) for at in range(0, SIZE, _SLOT.size)]


def _read(slot: bytes) -> Acknowledged | None:
    if len(slot) != _SLOT.size:
        return None
    magic, seq, tag, packed = _SLOT.unpack(slot)
    try:
        position = Position(seq=seq, tag=tag.rstrip(b"\0").decode())
        found = Acknowledged(position=position, ledger=Ledger.unpacked(packed, position))
    except (UnicodeDecodeError, JournalUnusable):
        return None
    return found if magic == _MAGIC and _packed(found) == slot else None


def _packed(newest: Acknowledged) -> bytes:
    position = newest.position
    return _SLOT.pack(_MAGIC, position.seq, position.tag.encode(), newest.ledger.packed(position))


class HeadFile:
    """The file beside the journal at `path`. It is opened with the journal and written on the thread that commits."""

    def __init__(self, path: Path) -> None:
        self.path = head_path(path)
        self._descriptor: int | None = None
        self._newest = 0

    def newest(self) -> Acknowledged | None:
        """The newest batch by this file; None if there is no file. Raises JournalUnusable if it is damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if not content.startswith(_MAGIC) and _MAGIC not in content:
            raise JournalUnusable(f"expected the journal's file at {self.path}, but it is another program's; move it")
        slots = [slot for slot in read_slots(content) if slot is not None]
        if len(slots) < SLOTS or len(content) != SIZE:
            raise damaged(f"{self.path}, which shows whether the newest changes are there,")
        return max(slots, key=lambda slot: slot.batch)

    def open(self, newest: Acknowledged, mode: int) -> None:
        """Opens the file for writing, and creates it if it is missing."""
        if not self.path.exists():
            self._create(newest, mode)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.write(newest)

    def _create(self, newest: Acknowledged, mode: int) -> None:
        """Whole or not at all."""
        begun = self.path.with_name(f"{self.path.name}-new")
        descriptor = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            os.pwrite(descriptor, _packed(newest) * SLOTS, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        begun.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def write(self, newest: Acknowledged) -> None:
        """Records that a batch is durable. Raises Unavailable."""
        if self._descriptor is None:
            raise Unavailable("the journal is closed")
        try:
            if newest.batch >= self._newest:
                os.pwrite(self._descriptor, _packed(newest), newest.batch % SLOTS * _SLOT.size)
            else:  # a backup was restored into the open journal: earlier entries belong to another history
                os.pwrite(self._descriptor, _packed(newest) * SLOTS, 0)
        except OSError as error:
            raise Unavailable(f"the journal's head could not be recorded: {error.strerror}") from error
        self._newest = newest.batch

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
