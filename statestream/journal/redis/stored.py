"""Chunks as the scripts return them: those of the history that are looked at in order to replace some of them.

Invariants: pure. A chunk is the same as another one only if the bytes of both are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from statestream.core.change import Change
from statestream.journal.redis.packing import unpacked


class StoredChunk(NamedTuple):
    """A chunk with its last seq, its tag and its changes."""

    last: int
    tag: str
    data: bytes
    changes: Sequence[Change]

    @property
    def sha(self) -> str:
        """What a script compares, which replaces it only as it is."""
        return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()


def stored_chunks(found: Sequence[bytes]) -> list[StoredChunk]:
    """Of the last seq, the base, the tag and the data of each in turn. Raises JournalUnusable."""
    each = iter(found)
    return [
        StoredChunk(int(last), tag.decode(), data, unpacked(int(last), int(base), tag.decode(), data))
        for last, base, tag, data in zip(each, each, each, each, strict=True)
    ]
