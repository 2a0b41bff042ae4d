"""Reads an export into an empty journal, of any engine.

An engine that is Portable takes over positions, tags and idempotency records as they are: clients continue with their
cursors and do not notice. Any other engine numbers the changes anew. Then every cursor is of another history, so
clients receive the state again (`forked`); a repeated request is recognized, and its answer has no changes.

Invariants: nothing is written before the whole file has been read and every change fits. An import that is interrupted
leaves a journal that is not complete; nothing else is possible, because the contract has no transaction of that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import orjson
from msgspec import Struct

from statestream.core.change import START, Cause, Change, PendingChange, Position, SliceState, new_id
from statestream.core.errors import JournalUnusable, StatestreamError
from statestream.core.names import split_name
from statestream.core.values import encode
from statestream.journal.contract import IDEMPOTENCY_MS, Batch, Checkpoints, Entry, Journal, KeptRecord, Portable
from statestream.journal.export_file import AgedRecord, ExportReader
from statestream.journal.history import Held, advance

PORTION: Final = 1_000
"""How many changes or records are appended at a time. A batch is never divided, so that it may be more."""
PORTION_BYTES: Final = 4 << 20

Lines = Callable[[], Iterable[bytes]]
"""Opens the file again, and yields its lines."""


class Imported(Struct, frozen=True, kw_only=True):
    """What was read. `same_positions`: whether cursors are still valid. `head` is that of the new journal."""

    head: Position
    slices: int
    changes: int
    records: int
    same_positions: bool


class Content(Struct, kw_only=True):
    """What a file was found to contain: the state at its beginning and at its end."""

    earliest: Position
    head: Position
    before: Held
    state: Held
    changes: int = 0
    records: int = 0


async def import_into(journal: Journal, content: Content, lines: Lines) -> Imported:
    """Writes an export that was `examined` into a journal, which must be empty. Raises StatestreamError."""
    head = await journal.head()
    if head != START:
        raise StatestreamError(f"expected an empty journal, got one that ends at {head}; import into a new one")
    target: Target = _TakenOver(journal, journal.clock.now()) if isinstance(journal, Portable) else _Anew(journal)
    try:
        await target.begin(content)
        for changes, records in _portions(ExportReader(lines())):
            await target.add(changes, records)
        await target.end(content)
        head = await journal.head()
    except StatestreamError as error:
        raise StatestreamError(
            f"the import did not finish: {error}. The journal is not complete; delete it and import again"
        ) from error
    return Imported(
        head=head,
        slices=len(content.state),
        changes=content.changes,
        records=content.records,
        same_positions=head == content.head,
    )


def examined(lines: Lines) -> Content:
    """Reads a whole export and checks that everything in it fits. Raises Malformed."""
    reader = ExportReader(lines())
    content = Content(earliest=reader.earliest, head=reader.head, before={}, state={})
    position, key = reader.earliest, ("", "")
    for item in reader.items():
        if isinstance(item, Change):
            if item.version != position.seq + 1:
                raise reader.wrong(f"expected change {position.seq + 1}, got {item.version}")
            try:
                advance(content.state, [item])
            except (JournalUnusable, ValueError, TypeError, AttributeError, LookupError):
                raise reader.wrong("the change does not continue its slice") from None
            position, content.changes = item.position, content.changes + 1
        elif isinstance(item, AgedRecord):
            if item.key <= key or item.record.position.seq > reader.head.seq:
                raise reader.wrong("the record of a request is not in order, or later than the head")
            key, content.records = item.key, content.records + 1
        else:
            if item.name in content.state or item.position.seq > reader.earliest.seq:
                raise reader.wrong("the slice is there twice, or later than the earliest position")
            for held in (content.before, content.state):
                held[item.name] = (orjson.loads(item.data), item.position)
    if position != reader.head or (reader.earliest == START and content.before):
        raise reader.wrong(f"expected the changes to end at {reader.head}, they end at {position}")
    return content


def _portions(reader: ExportReader) -> Iterator[tuple[list[Change], list[AgedRecord]]]:
    """The changes, and then the records. A portion of changes ends where a batch ends."""
    changes: list[Change] = []
    records: list[AgedRecord] = []
    size = 0
    for item in reader.items():
        if isinstance(item, Change):
            ends = not changes or item.position.tag != changes[-1].position.tag
            if ends and (len(changes) >= PORTION or size >= PORTION_BYTES):
                yield changes, []
                changes, size = [], 0
            changes.append(item)
            size += item.size
        elif isinstance(item, AgedRecord):
            records.append(item)
            if len(records) == PORTION:
                yield changes, records
                changes, records = [], []
    if changes or records:
        yield changes, records


class Target(Protocol):
    """How an export gets into a journal."""

    async def begin(self, content: Content) -> None:
        """Writes the state at the earliest position."""

    async def add(self, changes: list[Change], records: list[AgedRecord]) -> None:
        """Writes the next changes and records."""

    async def end(self, content: Content) -> None:
        """Is called once everything has been written."""


class _TakenOver:
    """Positions and records stay as they are. `now` is the time of the journal's clock."""

    def __init__(self, journal: Portable, now: int) -> None:
        self._journal, self._now = journal, now

    async def begin(self, content: Content) -> None:
        if content.earliest != START:
            await self._journal.begin_at(content.earliest, _states(content.before))

    async def add(self, changes: list[Change], records: list[AgedRecord]) -> None:
        kept = [KeptRecord(key=each.key, record=each.record, at=self._now - each.age) for each in records]
        await self._journal.adopt(changes, kept)

    async def end(self, content: Content) -> None:
        """Makes a checkpoint, so that the first start does not read the whole history."""
        before, state = content.before, content.state
        moved = {name: held for name, held in state.items() if name not in before or before[name][1] != held[1]}
        gone: dict[str, SliceState | None] = dict.fromkeys(before.keys() - state.keys())
        if content.head != content.earliest and isinstance(self._journal, Checkpoints):
            await self._journal.save(content.head, gone | _states(moved))


class _Anew:
    """The journal numbers the changes itself. The state at the earliest position becomes changes as well."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._versions: dict[str, int] = {}

    async def begin(self, content: Content) -> None:
        for name, (value, _) in content.before.items():
            cause = Cause(type=f"{split_name(name)[0]}/imported", id=new_id(), actor=None, payload=b"{}")
            await self._append([_entry(PendingChange(slice=name, kind="value", data=encode(value), cause=cause), 0)])

    async def add(self, changes: list[Change], records: list[AgedRecord]) -> None:
        entries = [
            _entry(PendingChange(slice=each.slice, kind=each.kind, data=each.data, cause=each.cause), each.at)
            for each in changes
        ]
        entries += [
            Entry(idempotency_key=each.key, digest=each.record.digest, changes=(), at=0)
            for each in records
            if each.age < IDEMPOTENCY_MS
        ]
        await self._append(entries)

    async def end(self, content: Content) -> None:
        """The first store that opens the journal makes a checkpoint."""

    async def _append(self, entries: list[Entry]) -> None:
        versions = {change.slice: self._versions.get(change.slice, 0) for each in entries for change in each.changes}
        batch = Batch(read=await self._journal.head(), versions=versions, entries=entries)
        for outcome in await self._journal.append(batch):
            for change in outcome.changes:
                self._versions[change.slice] = 0 if change.kind == "removed" else change.version


def _entry(change: PendingChange, at: int) -> Entry:
    return Entry(idempotency_key=None, digest=b"", changes=(change,), at=at)


def _states(held: Held) -> dict[str, SliceState]:
    return {name: SliceState(value, position) for name, (value, position) in held.items()}
