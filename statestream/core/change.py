"""The values that travel: Action, Effect, Change, Position, Result, Snapshot.

Invariants: frozen, slotted, keyword-only; no behaviour beyond parsing and printing themselves (SliceState
also keeps its own encoding); `new_id` keeps ids in stock, and a forked process forgets them. `gc=False`
stands where every field is text, bytes, a number or such a value again: none is part of a cycle. A Change
is the only thing that flows downstream of the store: journal rows, frames and projections are views of it.
Its `data` is encoded JSON, made once where the change arises and spliced everywhere after.
"""

from __future__ import annotations

import os
import re
import time
from binascii import b2a_base64
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal

import orjson
from msgspec import Struct, field

from statestream.core.errors import Malformed
from statestream.core.values import MAX_INT, encode

_POSITION = re.compile(r"(0|[1-9][0-9]{0,15})\.([A-Za-z0-9]{1,32})", re.ASCII)
PAGE: Final = 1_000
"""The number of changes to read at a time."""
IDS_AHEAD: Final = 256
"""How many ids are drawn at a time: a system call for each would be some percent of what an action costs."""
_ids: Final[list[str]] = []
_LETTERS_ONLY: Final = bytes.maketrans(b"+/", b"xy")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class _Removed(Enum):
    REMOVED = "removed"

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = _Removed.REMOVED
"""What a handler of a keyed slice returns to remove the instance."""

Kind = Literal["patches", "value", "removed"]
IdempotencyKey = tuple[str, str]
"""(actor, id): ids are idempotent for their sender; anonymous callers are the sender ``""``."""


class Position(Struct, frozen=True, kw_only=True, gc=False):
    """A point of the history: `<seq>.<tag>`. Two positions are the same history only if both parts are."""

    seq: int
    tag: str

    def __str__(self) -> str:
        return f"{self.seq}.{self.tag}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """The position that `text` spells. Raises Malformed for anything but the one spelling."""
        match = _POSITION.fullmatch(text) if len(text) <= 64 else None
        if match is None or int(match[1]) > MAX_INT:
            raise Malformed("expected a position like 1042.k3v9x2m, as a frame's id gave it; start without one")
        position = cls(seq=int(match[1]), tag=match[2])
        if position.seq == 0 and position != START:
            raise Malformed("expected 0.0 for the start of a history")
        return position


START: Final = Position(seq=0, tag="0")


def new_tag() -> str:
    """The random tag of one written batch: 47 bits, so that a reused number is not taken for the same history."""
    return b2a_base64(os.urandom(6), newline=False).translate(_LETTERS_ONLY).decode()


def new_id() -> str:
    """A random id for a request that has none: 72 bits."""
    try:
        return _ids.pop()
    except IndexError:
        letters = b2a_base64(os.urandom(9 * IDS_AHEAD), newline=False).translate(_URL_SAFE).decode()
        _ids.extend(letters[at : at + 12] for at in range(12, len(letters), 12))
        return letters[:12]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)  # or both would go on with the same ones


def now_ms() -> int:
    """The Unix time in ms: what every stamp of the system is."""
    return time.time_ns() // 1_000_000


class Action(Struct, frozen=True, kw_only=True):
    """What somebody wants to happen. The store fills in `id`, `actor` and `at` (Unix ms) at acceptance."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    id: str = ""
    actor: str | None = None
    at: int = 0


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """Which action made a change. `payload` is its encoded JSON, shown to readers that asked for `cause=full`."""

    type: str
    id: str
    actor: str | None
    payload: bytes


class PendingChange(Struct, frozen=True, kw_only=True, gc=False):
    """What one action would do to one slice, before the journal has numbered it.

    `data` is encoded JSON: an array of RFC 6902 operations for `patches`, the value for `value`,
    empty for `removed`.
    """

    slice: str
    kind: Kind
    data: bytes
    cause: Cause


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """What one action did to one slice, at its place in the history of the whole store."""

    position: Position
    slice: str
    from_version: int
    kind: Kind
    data: bytes
    cause: Cause
    at: int

    @property
    def version(self) -> int:
        return self.position.seq

    @property
    def patches(self) -> list[dict[str, Any]]:
        """The operations, decoded; an empty list unless `kind` is `patches`."""
        return orjson.loads(self.data) if self.kind == "patches" else []

    @property
    def value(self) -> Any:
        """The new value, decoded; None unless `kind` is `value`."""
        return orjson.loads(self.data) if self.kind == "value" else None

    @property
    def size(self) -> int:
        """Bytes that keeping this change costs, nearly."""
        return len(self.data) + len(self.cause.payload) + 200


class IdempotencyRecord(Struct, frozen=True, kw_only=True, gc=False):
    """How a request ended: what a repeat of it is answered with."""

    digest: bytes
    position: Position
    changes: tuple[tuple[str, int], ...]


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a dispatch. `changes` are (slice, version) pairs; empty when nothing changed."""

    id: str
    position: Position
    duplicate: bool
    changes: tuple[tuple[str, int], ...]


class SliceState:
    """A slice's value as of its last change. The value is never mutated; its encoding is made at most once.

    `measured` is what the encoding's length was when it was last known; it is looked at again after as
    many bytes of patches, so that knowing it nearly costs each action no more than its own patch.
    """

    __slots__ = ("_encoded", "_since", "measured", "position", "value")

    def __init__(self, value: Any, position: Position, encoded: bytes | None = None) -> None:
        self.value, self.position, self._encoded = value, position, encoded
        self.measured = len(self.encoded())
        self._since = 0

    @property
    def version(self) -> int:
        return self.position.seq

    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = encode(self.value)
        return self._encoded

    def patched(self, value: Any, change: Change) -> SliceState:
        """The state after a change of kind `patches` that led to `value`."""
        since = self._since + len(change.data)
        if since > self.measured:
            return SliceState(value, change.position)
        after = SliceState.__new__(SliceState)
        after.value, after.position, after._encoded = value, change.position, None
        after.measured, after._since = self.measured, since
        return after


class Snapshot(Struct, frozen=True, kw_only=True):
    """Slices at one position. Slices that do not exist are absent.

    It was made from the checkpoint at seq `checkpoint`. `changes` are those behind `since`, which is that
    checkpoint or before it: a writer's next checkpoint must hold what they changed.
    """

    position: Position
    slices: Mapping[str, SliceState]
    checkpoint: int = 0
    since: Position = START
    changes: tuple[Change, ...] = ()


class Page(Struct, frozen=True, kw_only=True):
    """The selected changes after a position, up to and including `until`, which may be later than the last of them."""

    changes: Sequence[Change]
    until: Position


def total_size(changes: Iterable[Change]) -> int:
    return sum(change.size for change in changes)
