"""Writes everything that a journal keeps to an export.

Invariants: an export is one history up to the head at its beginning, whatever is appended meanwhile. It uses the
contract only, so any engine can be exported. A page of changes is in memory at a time, and the state at the earliest
position as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from statestream.core.change import START, Change, IdempotencyKey, Position, now_ms
from statestream.journal.contract import Journal, KeptRecord, Portable
from statestream.journal.export_file import ExportWriter
from statestream.journal.history import History


async def export(journal: Journal, writer: ExportWriter) -> None:
    """Raises Expired if the history is trimmed in the meantime, JournalUnusable, Unavailable."""
    earliest, head = await journal.earliest(), await journal.head()
    writer.begin(earliest, head, now_ms())
    if earliest != START:
        snapshot = await History(journal).load(earliest)
        for name, state in sorted(snapshot.slices.items()):
            writer.add_slice(name, state.position, state.encoded())
    causes: dict[IdempotencyKey, int] = {}
    async for changes in pages(journal, earliest, head):
        for change in changes:
            writer.add_change(change)
        if not isinstance(journal, Portable):
            causes |= {(change.cause.actor or "", change.cause.id): change.at for change in changes}
    now = journal.clock.now()
    async for records in _records(journal, causes):
        for record in records:
            if record.record.position.seq <= head.seq:
                writer.add_record(record, now)
    writer.end()


async def pages(journal: Journal, after: Position, head: Position) -> AsyncIterator[Sequence[Change]]:
    """The changes in between, a page at a time."""
    while after.seq < head.seq:
        page = await journal.read(after, head.seq - after.seq)
        yield page.changes
        after = page.until


async def _records(journal: Journal, causes: dict[IdempotencyKey, int]) -> AsyncIterator[Sequence[KeptRecord]]:
    """The idempotency records, in the order of their keys.

    An engine that cannot list them is asked for those of `causes`, which are the requests that have changed something.
    """
    if not isinstance(journal, Portable):
        found = await journal.lookup(causes)
        now, wall = journal.clock.now(), now_ms()
        kept = sorted(found.items())
        yield [KeptRecord(key=key, record=record, at=now - (wall - causes[key])) for key, record in kept]
        return
    after: IdempotencyKey | None = None
    while records := await journal.records(after):
        yield records
        after = records[-1].key
