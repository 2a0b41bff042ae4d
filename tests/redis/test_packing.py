"""Batches as Redis keeps them: whatever is packed comes back as the same changes, and damage never does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.core.change import Cause, Change, PendingChange, Position
from statestream.core.errors import JournalUnusable
from statestream.journal.contract import Batch, Entry, idempotency_record, number
from statestream.journal.redis.packing import CHUNK_BYTES, Packed, packed, unpacked, unpacked_record

NAMES = ("a", "b", "r/1", "r/2", "r/10")
causes = st.builds(
    Cause, type=st.just("a/acted"), id=st.text(max_size=5), actor=st.none() | st.text(max_size=5), payload=st.binary()
)
changes = st.builds(
    PendingChange,
    slice=st.sampled_from(NAMES),
    kind=st.sampled_from(["patches", "value", "removed"]),
    data=st.binary(max_size=50) | st.sampled_from([b"x" * CHUNK_BYTES, b"y" * (CHUNK_BYTES // 2)]),
    cause=causes,
)
entries = st.builds(
    Entry,
    idempotency_key=st.none() | st.tuples(st.text(max_size=3), st.text(max_size=3)),
    digest=st.binary(max_size=32),
    changes=st.lists(changes, max_size=6).map(tuple),
    at=st.integers(0, 2**43),
)
batches = st.builds(
    Batch,
    read=st.just(Position(seq=5, tag="read")),
    versions=st.fixed_dictionaries({name: st.integers(0, 5) for name in NAMES}),
    entries=st.lists(entries, max_size=6),
)
BASE = Position(seq=2**40, tag="before")


def stored(content: Packed) -> list[Change]:
    """The changes, as `lua/append.lua` stores them after BASE."""
    return [
        change for chunk in content.chunks for change in unpacked(BASE.seq + chunk.last, BASE.seq, "tag", chunk.data)
    ]


@given(batches)
def test_a_batch_comes_back_as_it_was_numbered(batch: Batch) -> None:
    outcomes = number(batch, BASE, "tag")
    expected = [change for outcome in outcomes for change in outcome.changes]
    content = packed(batch, "tag")
    assert stored(content) == expected
    assert content.count == len(expected)
    assert sum(chunk.size for chunk in content.chunks) == sum(change.size for change in expected)
    last = {change.slice: 0 if change.kind == "removed" else change.version - BASE.seq for change in expected}
    assert content.offsets == last
    records = [
        idempotency_record(entry, outcome)
        for entry, outcome in zip(batch.entries, outcomes, strict=True)
        if entry.idempotency_key is not None
    ]
    kept = [unpacked_record(b"17 99 %d before %b" % (BASE.seq, record)) for _, record in content.records]
    assert kept == [(17, record) for record in records]


@given(batches.filter(lambda batch: any(entry.changes for entry in batch.entries)), st.data())
def test_a_chunk_that_was_damaged_is_refused(batch: Batch, data: st.DataObject) -> None:
    chunk = data.draw(st.sampled_from(packed(batch, "tag").chunks))
    at = data.draw(st.integers(0, 8 * len(chunk.data) - 1))
    damaged = bytearray(chunk.data)
    damaged[at // 8] ^= 1 << at % 8
    for content in (bytes(damaged), chunk.data[: at // 8], b""):
        with pytest.raises(JournalUnusable, match="restore a backup"):
            unpacked(chunk.last, 0, "tag", content)
