"""How batches, records and saved slices are written in Redis: as bytes that only this file reads and writes.

A batch is stored in a few chunks rather than change by change: the script that appends it has less to do, and so does
whoever reads it. The seqs of a batch are not known before the script numbers them. So a chunk counts from the base, the
seq before its batch: `origin` is the version that a change continues, or, negative, which change of the same batch.

Invariants: pure. A chunk that was damaged, or that another program wrote, is refused with JournalUnusable: it begins
with a CRC-32, and its contents have the types that they must have.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from statestream.core.change import (
    START,
    Cause,
    Change,
    IdempotencyKey,
    IdempotencyRecord,
    Kind,
    PendingChange,
    Position,
    SliceState,
)
from statestream.core.folding import folded
from statestream.journal.contract import Batch, KeptRecord, SavedSlice
from statestream.journal.redis.translation import damaged

CHUNK_BYTES: Final = 16 << 10
"""A chunk ends after the change that reaches this size. Those who wait for changes are sent one chunk."""
_CRC_BYTES: Final = 4
HOLE: Final = 2**63 - 1
"""Stands for a version that only the script knows. Nothing else in a row is written as it is: no text has its bytes."""

_FOLDED: Final = folded(
    Change(
        position=START,
        slice="",
        from_version=0,
        kind="patches",
        data=b"",
        cause=Cause(type="", id="", actor=None, payload=b""),
        at=0,
    )
)
"""What all folded changes have in common."""


class _Row(Struct, frozen=True, array_like=True, gc=False):
    """A folded change has only the first three members, because many of these follow each other: its time is `kind`."""

    slice: str
    origin: int
    kind: Kind | int
    data: bytes = _FOLDED.data
    type: str = _FOLDED.cause.type
    request: str = _FOLDED.cause.id
    actor: str | None = _FOLDED.cause.actor
    payload: bytes = _FOLDED.cause.payload
    at: int = 0


class _Record(Struct, frozen=True, array_like=True, gc=False):
    digest: bytes
    offset: int
    tag: str
    changes: tuple[tuple[str, int], ...]


class Chunk(Struct, frozen=True, kw_only=True, gc=False):
    """Successive changes of a batch. `last` is the number of the last one in it, from 1, `size` what they count as."""

    last: int
    size: int
    data: bytes


class Packed(Struct, frozen=True, kw_only=True):
    """A batch before it is numbered: its chunks, the records, and the last change of each slice, 0 if it is removed."""

    count: int
    chunks: Sequence[Chunk]
    records: Sequence[tuple[bytes, bytes]]
    offsets: dict[str, int]


_encoder: Final = msgspec.msgpack.Encoder()
_HOLE: Final = _encoder.encode(HOLE)
_rows: Final = msgspec.msgpack.Decoder(list[_Row])
_key: Final = msgspec.msgpack.Decoder(tuple[str, str])
_record: Final = msgspec.msgpack.Decoder(_Record)


def packed(batch: Batch, tag: str) -> Packed:
    chunks: list[Chunk] = []
    rows: list[_Row] = []
    records: list[tuple[bytes, bytes]] = []
    offsets: dict[str, int] = {}
    number = size = 0
    for entry in batch.entries:
        written = []
        for pending in entry.changes:
            number += 1
            last = offsets.get(pending.slice)
            origin = batch.versions.get(pending.slice, 0) if last is None else -last
            rows.append(_row(pending, origin, entry.at))
            size += len(pending.data) + len(pending.cause.payload) + 200
            offsets[pending.slice] = 0 if pending.kind == "removed" else number
            written.append((pending.slice, number))
            if size >= CHUNK_BYTES:
                chunks.append(_chunk(number, size, rows))
                rows, size = [], 0
        if entry.idempotency_key is not None:
            record = _Record(digest=entry.digest, offset=number, tag=tag, changes=tuple(written))
            records.append((packed_key(entry.idempotency_key), _encoder.encode(record)))
    if rows:
        chunks.append(_chunk(number, size, rows))
    return Packed(count=number, chunks=chunks, records=records, offsets=offsets)


def _row(pending: PendingChange, origin: int, at: int) -> _Row:
    cause = pending.cause
    return _Row(
        slice=pending.slice,
        origin=origin,
        kind=pending.kind,
        data=pending.data,
        type=cause.type,
        request=cause.id,
        actor=cause.actor,
        payload=cause.payload,
        at=at,
    )


def _changed(change: Change) -> _Row | tuple[str, int, int]:
    """Of a change that has its number."""
    if change.is_folded:
        return change.slice, change.from_version, change.at
    pending = PendingChange(slice=change.slice, kind=change.kind, data=change.data, cause=change.cause)
    return _row(pending, change.from_version, change.at)


def _chunk(last: int, size: int, rows: Sequence[_Row | tuple[str, int, int]]) -> Chunk:
    return Chunk(last=last, size=size, data=_data(rows))


def _data(rows: Sequence[_Row | tuple[str, int, int]]) -> bytes:
    data = _encoder.encode(rows)
    return crc32(data).to_bytes(_CRC_BYTES, "big") + data


def unpacked(last: int, base: int, tag: str, data: bytes) -> list[Change]:
    """The changes of a chunk that ends at the seq `last`, of a batch after `base`. Raises JournalUnusable."""
    content = data[_CRC_BYTES:]
    try:
        rows = _rows.decode(content) if crc32(content) == int.from_bytes(data[:_CRC_BYTES], "big") else []
    except msgspec.DecodeError:  # written by another program, with a CRC of its own
        rows = []
    if not rows:
        raise damaged(f"the history at change {last}")
    first = last - len(rows) + 1
    return [
        Change(
            position=Position(seq=seq, tag=tag),
            slice=row.slice,
            from_version=row.origin if row.origin >= 0 else base - row.origin,
            kind=_FOLDED.kind if isinstance(row.kind, int) else row.kind,
            data=row.data,
            cause=Cause(type=row.type, id=row.request, actor=row.actor, payload=row.payload),
            at=row.kind if isinstance(row.kind, int) else row.at,
        )
        for seq, row in enumerate(rows, first)
    ]


def repacked(changes: Sequence[Change]) -> bytes:
    """The changes of a chunk as its data."""
    return _data([_changed(change) for change in changes])


def packed_folding(
    before: Mapping[int, Change], after: Mapping[int, Change], lasts: Sequence[int], tags: Sequence[str]
) -> bytes:
    """What `lua/fold.lua` expects of changes, by seq and in order, and of the chunks that they are in."""
    firsts: dict[str, int] = {}
    for seq, change in before.items():
        firsts.setdefault(change.slice, seq)
    saved = [change.size - after[seq].size for seq, change in before.items()]
    return _encoder.encode((list(before), saved, list(firsts), list(firsts.values()), lasts, tags))


def packed_arguments(batch: Batch, tag: str, limits: tuple[int, int, int], content: Packed) -> list[bytes]:
    """What `lua/append.lua` expects. `limits` are the time, that before which ids are forgotten, and their bytes."""
    read, chunks, records = batch.read, content.chunks, content.records
    head = _encoder.encode(
        (
            *(read.seq, read.tag, tag, *limits, content.count, len(records)),
            *(list(batch.versions), list(batch.versions.values())),
            *(list(content.offsets), list(content.offsets.values())),
            *([chunk.last for chunk in chunks], [chunk.size for chunk in chunks]),
        )
    )
    return [head, *(text for record in records for text in record), *(chunk.data for chunk in chunks)]


def packed_erasure(batch: Batch, tag: str, now: int) -> list[bytes]:
    """What `lua/erase.lua` expects, of a batch whose slices have HOLE as their version: the script fills it in."""
    chunks = packed(batch, tag).chunks
    lasts, sizes = [chunk.last for chunk in chunks], [chunk.size for chunk in chunks]
    head = _encoder.encode((tag, now, list(batch.versions), lasts, sizes))
    return [head, *(text for chunk in chunks for text in chunk.data[_CRC_BYTES:].split(_HOLE))]


def packed_beginning(position: Position, versions: dict[str, int], now: int, *, first: bool) -> bytes:
    """What `lua/begin.lua` expects."""
    return _encoder.encode((position.seq, position.tag, now, first, list(versions), list(versions.values())))


def packed_adoption(
    changes: Sequence[Change],
    records: Sequence[KeptRecord],
    before: dict[str, int],
    after: dict[str, int],
    now: int,
) -> list[bytes]:
    """What `lua/adopt.lua` expects. `before` and `after` have the versions of the slices that change."""
    chunks: list[tuple[Position, Chunk]] = []
    rows: list[_Row | tuple[str, int, int]] = []
    size = 0
    for change, following in zip(changes, (*changes[1:], None), strict=True):
        rows.append(_changed(change))
        size += change.size
        if following is None or following.position.tag != change.position.tag or size >= CHUNK_BYTES:
            chunks.append((change.position, _chunk(change.version, size, rows)))
            rows, size = [], 0
    head = _encoder.encode(
        (
            *(now, changes[0].version if changes else 0, len(chunks), len(records)),
            *(list(before), list(before.values()), list(after.values())),
            *([chunk.last for _, chunk in chunks], [position.tag for position, _ in chunks]),
            [chunk.size for _, chunk in chunks],
        )
    )
    return [head, *(chunk.data for _, chunk in chunks), *(text for each in records for text in _adopted(each))]


def _adopted(kept: KeptRecord) -> tuple[bytes, bytes, bytes]:
    """The key, the time and the record, which counts from the beginning of the history."""
    record = kept.record
    position = record.position
    content = _Record(digest=record.digest, offset=position.seq, tag=position.tag, changes=record.changes)
    return packed_key(kept.key), str(kept.at).encode(), b"0 0 " + _encoder.encode(content)


def packed_key(key: IdempotencyKey) -> bytes:
    """One text for an actor and an id, different for any other two."""
    return _encoder.encode(key)


def unpacked_key(key: bytes) -> IdempotencyKey:
    """Raises JournalUnusable."""
    try:
        return _key.decode(key)
    except msgspec.DecodeError:
        raise damaged("the key of a request") from None


def packed_name(name: str) -> bytes:
    """What every chunk and record that names a slice contains."""
    return _encoder.encode(name)


def record_without(value: bytes, erasures: Mapping[str, float]) -> bytes:
    """The record without what it says of slices before their erasure, given by seq. Raises JournalUnusable."""
    _, changed = unpacked_record(value)
    left = [version >= erasures.get(name, 0) for name, version in changed.changes]
    if all(left):
        return value
    *head, content = value.split(b" ", 4)
    record = _record.decode(content)
    changes = tuple(pair for pair, stays in zip(record.changes, left, strict=True) if stays)
    return b" ".join((*head, _encoder.encode(replace(record, digest=b"", changes=changes))))


def unpacked_record(value: bytes) -> tuple[int, IdempotencyRecord]:
    """When it was recorded, and the record. Raises JournalUnusable."""
    try:
        at, _, base, base_tag, content = value.split(b" ", 4)
        record = _record.decode(content)
        position = Position(seq=int(base) + record.offset, tag=record.tag if record.offset else base_tag.decode())
        changes = tuple((name, int(base) + offset) for name, offset in record.changes)
        return int(at), IdempotencyRecord(digest=record.digest, position=position, changes=changes)
    except (ValueError, msgspec.DecodeError):
        raise damaged("the record of a request") from None


def packed_state(state: SliceState | None) -> bytes:
    """A slice as of a checkpoint; empty if it did not exist."""
    return b"" if state is None else f"{state.position} ".encode() + state.encoded()


def unpacked_states(rows: Iterable[bytes]) -> list[SavedSlice]:
    """Of names and values in turn. Raises JournalUnusable."""
    found = []
    each = iter(rows)
    for name, value in zip(each, each, strict=True):
        position, space, data = value.partition(b" ")
        seq, dot, tag = position.partition(b".")
        if not space or not dot or not seq.isdigit():
            raise damaged("a saved slice")
        found.append(SavedSlice(name=name.decode(), position=Position(seq=int(seq), tag=tag.decode()), data=data))
    return found
