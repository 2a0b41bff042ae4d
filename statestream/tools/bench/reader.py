"""What the bytes of one stream say: which changes of this run came, and whether anything is missing.

A reader keeps the versions that it holds and its cursor, no state. All readers get the same bytes, so
what a piece of bytes says is worked out once for all of them (`Frames`), wherever it begins and ends
with a frame; a reader then only compares numbers.

Invariants: pure, no I/O, no clock: bytes in, numbers out, the same for every way to split the bytes. It reads the
protocol, not the server's habits: the order of members and the grouping of frames mean nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import orjson
from msgspec import Struct, field

from statestream.core.errors import StreamRefused, TooLarge
from statestream.protocol.sse import MAX_EVENT
from statestream.tools.bench.body import Body

MAX_KNOWN: Final = 512
MAX_KNOWN_BYTES: Final = 16 << 10
VERSIONS: Final = b'"versions":{'
NOT_OURS: Final = -1

Change = tuple[str, int, int]
"""(slice, from, version); a removed slice's version is the last."""


class Frame(Struct, frozen=True, kw_only=True):
    """What counts of one frame. `number` is the change of this run that caused it; `end` ends the stream."""

    event: str
    seq: int = 0
    number: int = NOT_OURS
    changes: tuple[Change, ...] = ()
    removed: frozenset[str] = frozenset()
    versions: dict[str, int] = field(default_factory=dict)
    end: str | None = None


class Counts(Struct, kw_only=True):
    """What all readers of a worker have seen beside the changes of this run. `resyncs` counts (from, to) in seq."""

    updates: int = 0
    repeated: int = 0
    breaks: int = 0
    initials: int = 0
    catchups: int = 0
    heartbeats: int = 0
    resyncs: Counter[tuple[int, int]] = field(default_factory=Counter)


class Frames:
    """Bytes to frames, each piece of bytes once. `run` is the prefix of this run's action ids."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._frames: dict[bytes, Frame | None] = {}
        self.pieces: dict[tuple[bytes, bool], tuple[Frame, ...]] = {}

    def of(self, blocks: Sequence[bytes]) -> tuple[Frame, ...]:
        return tuple(frame for block in blocks if (frame := self._of(block)) is not None)

    def know(self, data: bytes, chunked: bool, frames: tuple[Frame, ...]) -> None:
        if len(data) <= MAX_KNOWN_BYTES:
            if len(self.pieces) >= MAX_KNOWN:
                self.pieces.clear()
            self.pieces[data, chunked] = frames

    def _of(self, block: bytes) -> Frame | None:
        if len(block) > MAX_KNOWN_BYTES:
            return parse(block, self._run)
        if block not in self._frames:
            if len(self._frames) >= MAX_KNOWN:
                self._frames.clear()
            self._frames[block] = parse(block, self._run)
        return self._frames[block]


class Reader:
    """One stream. `joined` once the state has come, `end` once the server has said that it ends."""

    __slots__ = ("_body", "_counts", "_frames", "_last", "_rest", "_versions", "cursor", "end", "joined")

    def __init__(self, frames: Frames, counts: Counts) -> None:
        self._frames, self._counts = frames, counts
        self._body = Body()
        self._rest = bytearray()
        self._versions: dict[str, int] = {}
        self._last = NOT_OURS
        self.cursor = 0
        self.joined = False
        self.end: str | None = None

    def feed(self, data: bytes) -> Sequence[int]:
        """The numbers of this run's changes that `data` completes, each once. Raises StreamRefused, TooLarge."""
        body, frames = self._body, None
        between = not self._rest and body.between
        if between:
            frames = self._frames.pieces.get((data, body.chunked))
        if frames is None:
            frames = self._frames.of(self._blocks(body.feed(data)))
            if between and not self._rest and body.between and not body.ended:
                self._frames.know(data, body.chunked, frames)
            if body.ended and self.end is None:
                self.end = "the body ended"
        found: list[int] = []
        for frame in frames:
            if frame.event == "state.update":
                self._update(frame, found)
            else:
                self._other(frame)
        return found

    def _blocks(self, data: bytes) -> list[bytes]:
        """The blocks that `data` completes; the rest is kept."""
        seam = max(0, len(self._rest) - 1)
        self._rest += data
        end = self._rest.rfind(b"\n\n", seam)
        if end < 0:
            if len(self._rest) > MAX_EVENT:
                raise TooLarge(f"expected events of at most {MAX_EVENT} bytes, got a longer one")
            return []
        whole = bytes(memoryview(self._rest)[:end])
        del self._rest[: end + 2]
        return whole.split(b"\n\n")

    def _update(self, frame: Frame, found: list[int]) -> None:
        counts = self._counts
        counts.updates += 1
        name, since, version = frame.changes[0]
        held = self._versions.get(name, 0)
        if version <= held:
            counts.repeated += 1
            return
        if since != held or frame.seq <= self.cursor:
            counts.breaks += 1
        self._versions[name] = version
        if frame.removed:
            del self._versions[name]
        if frame.seq > self.cursor:
            self.cursor = frame.seq
        if frame.number not in (self._last, NOT_OURS):
            self._last = frame.number
            found.append(frame.number)

    def _other(self, frame: Frame) -> None:
        counts = self._counts
        match frame.event:
            case "state.initial":
                if self.joined:
                    counts.initials += 1
                    counts.resyncs[self.cursor, frame.seq] += 1
                self._versions, self.joined = dict(frame.versions), True
                self.cursor = frame.seq
            case "state.catchup":
                counts.catchups += 1
                counts.resyncs[self.cursor, frame.seq] += 1
                for change in frame.changes:
                    self._caught_up(*change, removed=change[0] in frame.removed)
                self.cursor = max(self.cursor, frame.seq)
            case "heartbeat":
                counts.heartbeats += 1
                self.cursor = max(self.cursor, frame.seq)
            case "stream.end":
                self.end = frame.end

    def _caught_up(self, name: str, since: int, version: int, *, removed: bool) -> None:
        held = self._versions.get(name, 0)
        self._counts.repeated += version <= held
        self._counts.breaks += since != held < version
        self._versions[name] = version
        if removed:
            del self._versions[name]


def parse(block: bytes, run: str) -> Frame | None:
    """The block's frame; None where it says nothing (a comment, an event of a later version). Raises StreamRefused."""
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    event = fields.get(b"event", b"").decode(errors="replace")
    try:
        known = _PARSERS.get(event)
        if known is None:
            return None
        seq = int(fields.get(b"id", b"0").partition(b".")[0])
        return known(event, seq, fields[b"data"], run)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise StreamRefused(
            f"expected a frame of the state stream, got a {event} that cannot be read", reason="frame"
        ) from None


def _initial(event: str, seq: int, data: bytes, _: str) -> Frame:
    return Frame(event=event, seq=seq, versions=_versions(data))


def _versions(data: bytes) -> dict[str, int]:
    """The member `versions`, without reading the state before it, which may be megabytes for each reader.

    What follows a member of the outermost object, up to the data's end, is an object again if a brace is put
    in front; of an inner one it is not, it closes too many.
    """
    at = data.rfind(VERSIONS)
    try:
        found: dict[str, int] = orjson.loads(b"{" + data[at:])["versions"]
    except (orjson.JSONDecodeError, KeyError):
        found = orjson.loads(data)["versions"]
    return found


def _update(event: str, seq: int, data: bytes, run: str) -> Frame:
    value = orjson.loads(data)
    id = value["cause"]["id"]
    number = id.removeprefix(run) if id.startswith(run) else ""
    return Frame(
        event=event,
        seq=seq,
        number=int(number) if number.isdigit() else NOT_OURS,
        changes=(_change(value),),
        removed=_removed([value]),
    )


def _catchup(event: str, seq: int, data: bytes, _: str) -> Frame:
    updates = orjson.loads(data)["updates"]
    return Frame(event=event, seq=seq, changes=tuple(map(_change, updates)), removed=_removed(updates))


def _heartbeat(event: str, seq: int, _: bytes, __: str) -> Frame:
    return Frame(event=event, seq=seq)


def _end(event: str, _: int, data: bytes, __: str) -> Frame:
    return Frame(event=event, end=str(orjson.loads(data)["reason"]))


def _change(value: Any) -> Change:
    return str(value["slice"]), int(value["from"]), int(value["version"])


def _removed(values: Sequence[Any]) -> frozenset[str]:
    return frozenset(value["slice"] for value in values if value.get("removed"))


_PARSERS: Final = {
    "state.initial": _initial,
    "state.update": _update,
    "state.catchup": _catchup,
    "heartbeat": _heartbeat,
    "stream.end": _end,
}
