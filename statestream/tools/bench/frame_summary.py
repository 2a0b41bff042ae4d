"""What counts of a frame: its kind, its position, the versions in it, and the change of this run that caused it.

All readers receive the same bytes, so the summary of a piece of bytes is worked out once for all of them, whenever the
piece begins and ends with a frame; a reader then only compares numbers.

Invariants: pure. It follows the protocol, not the server's habits: the order of members and the grouping of frames mean
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from msgspec import Struct, field

from statestream.core.errors import StreamRefused

MAX_CACHED: Final = 512
MAX_CACHED_BYTES: Final = 16 << 10
NOT_OURS: Final = -1
_VERSIONS: Final = b'"versions":{'

SliceChange = tuple[str, int, int]
"""(slice, from, version); the version of a removed slice is its last."""


class FrameSummary(Struct, frozen=True, kw_only=True):
    """`number` is the change of this run that caused the frame, `end` the reason of a `stream.end`."""

    event: str
    seq: int = 0
    number: int = NOT_OURS
    changes: tuple[SliceChange, ...] = ()
    removed: frozenset[str] = frozenset()
    versions: dict[str, int] = field(default_factory=dict)
    end: str | None = None


class SummaryCache:
    """Bytes to summaries, each piece of bytes once. `run` is the prefix of the ids of this run's actions."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._frames: dict[bytes, FrameSummary | None] = {}
        self.pieces: dict[tuple[bytes, bool], tuple[FrameSummary, ...]] = {}
        """The frames in a piece of a response, by the piece and whether the response is chunked."""

    def of(self, blocks: Sequence[bytes]) -> tuple[FrameSummary, ...]:
        return tuple(frame for block in blocks if (frame := self._of(block)) is not None)

    def keep(self, piece: bytes, chunked: bool, frames: tuple[FrameSummary, ...]) -> None:
        if len(piece) <= MAX_CACHED_BYTES:
            if len(self.pieces) >= MAX_CACHED:
                self.pieces.clear()
            self.pieces[piece, chunked] = frames

    def _of(self, block: bytes) -> FrameSummary | None:
        if len(block) > MAX_CACHED_BYTES:
            return summarize(block, self._run)
        if block not in self._frames:
            if len(self._frames) >= MAX_CACHED:
                self._frames.clear()
            self._frames[block] = summarize(block, self._run)
        return self._frames[block]


def summarize(block: bytes, run: str) -> FrameSummary | None:
    """The summary of a block; None for a comment or an event of a later version. Raises StreamRefused."""
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    event = fields.get(b"event", b"").decode(errors="replace")
    try:
        summary = _SUMMARIES.get(event)
        if summary is None:
            return None
        seq = int(fields.get(b"id", b"0").partition(b".")[0])
        return summary(event, seq, fields[b"data"], run)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        raise StreamRefused(f"a frame of the state stream cannot be parsed: {event}", reason="frame") from None


def _initial(event: str, seq: int, data: bytes, _: str) -> FrameSummary:
    return FrameSummary(event=event, seq=seq, versions=_versions(data))


def _versions(data: bytes) -> dict[str, int]:
    """The member `versions`, without parsing the state before it, which may be megabytes for each reader.

    The text from a member of the outermost object to the end of the data is an object again with a brace in front. From
    a member of an inner object it is not, because it closes too many braces.
    """
    at = data.rfind(_VERSIONS)
    try:
        found: dict[str, int] = orjson.loads(b"{" + data[at:])["versions"]
    except (orjson.JSONDecodeError, KeyError):
        found = orjson.loads(data)["versions"]
    return found


def _update(event: str, seq: int, data: bytes, run: str) -> FrameSummary:
    value = orjson.loads(data)
    id = value["cause"]["id"]
    number = id.removeprefix(run) if id.startswith(run) else ""
    return FrameSummary(
        event=event,
        seq=seq,
        number=int(number) if number.isdigit() else NOT_OURS,
        changes=(_change(value),),
        removed=_removed([value]),
    )


def _catchup(event: str, seq: int, data: bytes, _: str) -> FrameSummary:
    updates = orjson.loads(data)["updates"]
    return FrameSummary(event=event, seq=seq, changes=tuple(map(_change, updates)), removed=_removed(updates))


def _heartbeat(event: str, seq: int, _: bytes, __: str) -> FrameSummary:
    return FrameSummary(event=event, seq=seq)


def _end(event: str, _: int, data: bytes, __: str) -> FrameSummary:
    return FrameSummary(event=event, end=str(orjson.loads(data)["reason"]))


def _change(value: Any) -> SliceChange:
    return str(value["slice"]), int(value["from"]), int(value["version"])


def _removed(values: Sequence[Any]) -> frozenset[str]:
    return frozenset(value["slice"] for value in values if value.get("removed"))


_SUMMARIES: Final = {
    "state.initial": _initial,
    "state.update": _update,
    "state.catchup": _catchup,
    "heartbeat": _heartbeat,
    "stream.end": _end,
}
