"""The format in which a journal is exported: JSON lines, from any engine to any other.

    {"line":"journal","format":1,"earliest":"0.0","head":"2.o5as4bj","at":1795273610700}
    {"line":"slice","slice":"board","position":"1.k3v9x2m","value":{…}}
    {"line":"change","position":"2.o5as4bj","slice":"board","from":1,"kind":"value","data":{…},"type":"board/task_added",
     "id":"uavJaCLbqUQg","actor":null,"payload":{…},"at":1795273610663}
    {"line":"record","actor":"","id":"order-7","digest":"…","position":"2.o5as4bj","changes":[["board",2]],"age":37}
    {"line":"end","slices":1,"changes":1,"records":1,"crc":2774356613}

The lines `slice` are the state at `earliest`, the lines `change` everything after it, in order. A `record` is how a
request with an id ended, `age` ms before the export; they are in the order of `actor` and `id`. `at` is Unix ms. `crc`
is the CRC-32 of all lines before the last one.

Invariants: pure. A file that is truncated, altered or out of order is refused with the number of the line. Every value
is checked as if it came from a client, because it may. Changes and values are encoded anew, so that a file with other
spaces leads to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Final, TypeVar
from zlib import crc32

import msgspec
import orjson
from msgspec import Meta, Raw, Struct, field

from statestream.core.change import Cause, Change, IdempotencyKey, IdempotencyRecord, Kind, Position
from statestream.core.errors import Malformed
from statestream.core.names import check_id, split_name
from statestream.core.values import MAX_INT, encode, plain
from statestream.journal.contract import KeptRecord, SavedSlice

FORMAT: Final = 1
MAX_LINE: Final = 256 << 20
"""The longest line in bytes. A line has one value, so it is as long as the largest slice."""

Number = Annotated[int, Meta(ge=0, le=MAX_INT)]


class Opening(Struct, frozen=True, kw_only=True, tag_field="line", tag="journal"):
    """The first line: from where to where the history reaches, and when it was exported."""

    format: int
    earliest: str
    head: str
    at: Number


class SliceLine(Struct, frozen=True, kw_only=True, tag_field="line", tag="slice"):
    slice: str
    position: str
    value: Raw


class ChangeLine(Struct, frozen=True, kw_only=True, tag_field="line", tag="change"):
    position: str
    slice: str
    from_version: Number = field(name="from")
    kind: Kind
    data: Raw
    type: str
    id: str
    actor: str | None
    payload: Raw
    at: Number


class RecordLine(Struct, frozen=True, kw_only=True, tag_field="line", tag="record"):
    actor: str
    id: str
    digest: bytes
    position: str
    changes: list[tuple[str, Number]]
    age: Number


class Ending(Struct, frozen=True, kw_only=True, tag_field="line", tag="end"):
    """The last line, by which a truncated file is noticed."""

    slices: int
    changes: int
    records: int
    crc: int


class AgedRecord(Struct, frozen=True, kw_only=True):
    """An idempotency record of an export, that many ms old."""

    key: IdempotencyKey
    record: IdempotencyRecord
    age: int


Line = Opening | SliceLine | ChangeLine | RecordLine | Ending
Item = SavedSlice | Change | AgedRecord
_NULL: Final = Raw(b"null")
T = TypeVar("T")


class ExportWriter:
    """Writes the lines of an export, in the order of the format, to `write`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write, self._crc = write, 0
        self.slices = self.changes = self.records = 0

    def begin(self, earliest: Position, head: Position, at: int) -> None:
        self._line(Opening(format=FORMAT, earliest=str(earliest), head=str(head), at=at))

    def add_slice(self, name: str, position: Position, data: bytes) -> None:
        self.slices += 1
        self._line(SliceLine(slice=name, position=str(position), value=Raw(data)))

    def add_change(self, change: Change) -> None:
        self.changes += 1
        cause = change.cause
        line = ChangeLine(
            position=str(change.position),
            slice=change.slice,
            from_version=change.from_version,
            kind=change.kind,
            data=Raw(change.data) if change.data else _NULL,
            type=cause.type,
            id=cause.id,
            actor=cause.actor,
            payload=Raw(cause.payload),
            at=change.at,
        )
        self._line(line)

    def add_record(self, kept: KeptRecord, now: int) -> None:
        self.records += 1
        actor, id = kept.key
        record = kept.record
        line = RecordLine(
            actor=actor,
            id=id,
            digest=record.digest,
            position=str(record.position),
            changes=list(record.changes),
            age=max(0, now - kept.at),
        )
        self._line(line)

    def end(self) -> None:
        self._line(Ending(slices=self.slices, changes=self.changes, records=self.records, crc=self._crc))

    def _line(self, line: Line) -> None:
        text = msgspec.json.encode(line) + b"\n"
        self._crc = crc32(text, self._crc)
        self._write(text)


class ExportReader:
    """Reads an export. `lines` yields it line by line, at most MAX_LINE + 1 bytes each. Raises Malformed."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._decoder = msgspec.json.Decoder(Line)
        self._lines = iter(lines)
        self.number = self._crc = 0
        opening = self._next()
        if not isinstance(opening, Opening):
            raise self.wrong('expected the first line of an export, {"line":"journal","format":1,…}')
        if opening.format != FORMAT:
            raise self.wrong(f"expected an export of format {FORMAT}, got {opening.format}; upgrade statestream")
        self.earliest = self._checked(Position.parse, opening.earliest)
        self.head = self._checked(Position.parse, opening.head)
        self.at = opening.at

    def wrong(self, sentence: str) -> Malformed:
        """An error about the current line."""
        return Malformed(f"line {self.number} of the file: {sentence}")

    def items(self) -> Iterator[Item]:
        """The state at the earliest position, the changes, and the records. Whether they fit is not checked here."""
        counts: dict[type[Any], int] = {SliceLine: 0, ChangeLine: 0, RecordLine: 0}
        crc = self._crc
        stage = 0
        while not isinstance(line := self._next(), Ending):
            at = list(counts).index(type(line)) if type(line) in counts else -1
            if at < stage:
                raise self.wrong("expected the slices first, then the changes, then the records, each of them once")
            stage = at
            counts[type(line)] += 1
            yield self._checked(_item, line)
            crc = self._crc
        if crc != line.crc or tuple(counts.values()) != (line.slices, line.changes, line.records):
            raise self.wrong("the lines before this one are not those that were written; export again")
        self._expect_nothing()

    def _next(self) -> Line:
        self.number += 1
        text = next(self._lines, b"")
        if not text.endswith(b"\n"):
            what = f"it is longer than {MAX_LINE >> 20} MiB" if len(text) > MAX_LINE else "the file ends too early"
            raise self.wrong(f"{what}; export again")
        self._crc = crc32(text, self._crc)
        line: Line = self._checked(self._decoder.decode, text)
        return line

    def _expect_nothing(self) -> None:
        if next(self._lines, b""):
            self.number += 1
            raise self.wrong("expected nothing after the last line of the export")

    def _checked(self, parse: Callable[[Any], T], value: Any) -> T:
        try:
            return parse(value)
        except (msgspec.MsgspecError, orjson.JSONDecodeError, RecursionError, UnicodeDecodeError):
            raise self.wrong("expected a line of an export, which is a JSON object with its members") from None
        except Malformed as error:
            raise self.wrong(str(error)) from None


def _item(line: SliceLine | ChangeLine | RecordLine) -> Item:
    """Raises Malformed."""
    if isinstance(line, RecordLine):
        changes = tuple((name, version) for name, version in line.changes)
        record = IdempotencyRecord(digest=line.digest, position=Position.parse(line.position), changes=changes)
        return AgedRecord(key=(line.actor, check_id(line.id)), record=record, age=line.age)
    split_name(line.slice)
    if isinstance(line, SliceLine):
        return SavedSlice(name=line.slice, position=Position.parse(line.position), data=_encoded(line.value))
    return Change(
        position=Position.parse(line.position),
        slice=line.slice,
        from_version=line.from_version,
        kind=line.kind,
        data=b"" if line.kind == "removed" else _encoded(line.data),
        cause=Cause(type=line.type, id=line.id, actor=line.actor, payload=_encoded(line.payload)),
        at=line.at,
    )


def _encoded(raw: Raw) -> bytes:
    return encode(plain(orjson.loads(bytes(raw))))
