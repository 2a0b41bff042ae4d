"""The proof that what a node reads is what a node has written, whatever happened to the tables in between.

PostgreSQL has checksums of its pages if the cluster was made with them, and of its write-ahead log always. Beside them,
each change, saved slice and idempotency record has the CRC-32 of its contents. A row that is missing shows by the
numbers of the changes, which have no gaps, and by the number of slices of a checkpoint.

The numbers of a change are not in its CRC, because the database gives them out after the CRC was made.

Invariants: pure functions of rows. A mismatch raises JournalUnusable and never returns a wrong value. CRCs find damage,
not forgery.
"""

from __future__ import annotations

from zlib import crc32

from statestream.core.errors import JournalUnusable


def damaged(what: str) -> JournalUnusable:
    """The error for a part that is not as it was written. It contains no address, because clients see it."""
    return JournalUnusable(f"{what} is damaged; stop the servers and restore a backup of the database")


def change_checksum(
    name: str, kind: str, type: str, request: str, actor: str | None, at: int, data: bytes, payload: bytes
) -> int:
    """Each action pays for it, so it is as short as it can be."""
    text = f"{name} {kind} {type} {request} {actor} {at} {len(data)}"
    return crc32(payload, crc32(data, crc32(text.encode())))


def request_checksum(actor: str, id: str, digest: bytes, slices: str) -> int:
    return crc32(digest, crc32(f"{slices}{id} {len(actor)} {actor}".encode()))


def slice_checksum(name: str, checkpoint: int, version: int, tag: str, value: bytes | None) -> int:
    return crc32(value or b"", crc32(f"{name} {checkpoint} {version} {tag} {value is None}".encode()))
