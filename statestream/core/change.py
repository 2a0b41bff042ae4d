"""The values that travel: actions, pending changes, changes, positions, results, snapshots, pages.

A Change is the only thing that flows downstream of the store: journal rows, frames and projections are views of
changes. Its `data` is JSON text, encoded once where the change arises and spliced everywhere else.

Invariants: frozen, keyword-only, no behaviour beyond parsing and printing themselves. Only SliceState does more: it
caches its own encoding, and makes the state that follows it. `gc=False` only where every field is text, bytes, a number
or another such value, which cannot form cycles. `new_id` keeps a stock of ids, which a forked process must forget.
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
"""Ids are generated in bulk: one system call for each would be a few percent of what an action costs."""
_ids: Final[list[str]] = []
_LETTERS_ONLY: Final = bytes.maketrans(b"+/", b"xy")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Removed(Enum):
    """The type of `REMOVED`."""

    REMOVED = "removed"

    def __repr__(self) -> str:
        return "REMOVED"


REMOVED: Final = Removed.REMOVED
"""A handler of a keyed slice returns this to remove the instance."""

ERASED: Final = "statestream/erased"
"""The type of the cause of a change that was erased."""
FOLDED: Final = "statestream/folded"
"""The type of the cause of a change that was folded."""

Kind = Literal["patches", "value", "removed"]
IdempotencyKey = tuple[str, str]
"""(actor, id): ids are idempotent for each actor. The actor of anonymous callers is ``""``."""


class Position(Struct, frozen=True, kw_only=True, gc=False):
    """A point of a history, `<seq>.<tag>`. Two positions belong to the same history only if both parts agree."""

    seq: int
    tag: str

    def __str__(self) -> str:
        return f"{self.seq}.{self.tag}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parses the one spelling of a position. Raises Malformed for anything else."""
        match = _POSITION.fullmatch(text) if len(text) <= 64 else None
        if match is None or int(match[1]) > MAX_INT:
            raise Malformed(
                "expected a position such as 1042.k3v9x2m, copied from the id of a frame; or start without one"
            )
        position = cls(seq=int(match[1]), tag=match[2])
        if position.seq == 0 and position != START:
            raise Malformed("the start of a history is 0.0")
        return position


START: Final = Position(seq=0, tag="0")


def new_tag() -> str:
    """The random tag of one batch: about 47 bits, so that equal numbers of different histories are told apart."""
    return b2a_base64(os.urandom(6), newline=False).translate(_LETTERS_ONLY).decode()


def new_id() -> str:
    """A random id of 72 bits, for a request that came without one."""
    try:
        return _ids.pop()
    except IndexError:
        letters = b2a_base64(os.urandom(9 * IDS_AHEAD), newline=False).translate(_URL_SAFE).decode()
        _ids.extend(letters[at : at + 12] for at in range(12, len(letters), 12))
        return letters[:12]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)  # otherwise both processes would use the same ids


def now_ms() -> int:
    """The Unix time in ms, which every timestamp is."""
    return time.time_ns() // 1_000_000


class Action(Struct, frozen=True, kw_only=True):
    """A request for something to happen. The store fills in `id`, `actor` and `at` (Unix ms) when it accepts one."""

    type: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    id: str = ""
    actor: str | None = None
    at: int = 0


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """The action that made a change. `payload` is JSON text; clients see it if they ask for `cause=full`."""

    type: str
    id: str
    actor: str | None
    payload: bytes


class PendingChange(Struct, frozen=True, kw_only=True, gc=False):
    """What one action would do to one slice, before the journal has numbered it.

    `data` is JSON text: an array of RFC 6902 operations for `patches`, the value for `value`, empty for `removed`.
    """

    slice: str
    kind: Kind
    data: bytes
    cause: Cause


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """What one action did to one slice, with its position in the history of the store."""

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
        """The operations, decoded. An empty list unless `kind` is `patches`."""
        return orjson.loads(self.data) if self.kind == "patches" else []

    @property
    def value(self) -> Any:
        """The new value, decoded. None unless `kind` is `value`."""
        return orjson.loads(self.data) if self.kind == "value" else None

    @property
    def is_erased(self) -> bool:
        """Whether its slice was erased, by this change or a later one. Then it has neither data nor a payload.

        It says `removed`, whatever the slice was before, so its `from_version` need not be a version that exists.
        """
        return self.cause.type == ERASED

    @property
    def is_erasure(self) -> bool:
        """Whether this is the change that erased its slice, and not one that was erased."""
        return self.is_erased and bool(self.cause.id)

    @property
    def is_folded(self) -> bool:
        """Whether what it did is part of a later change. Then it does nothing."""
        return self.cause.type == FOLDED

    @property
    def size(self) -> int:
        """Approximately the bytes that it takes to keep this change."""
        return len(self.data) + len(self.cause.payload) + 200


class IdempotencyRecord(Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a request, with which a repeat of it is answered."""

    digest: bytes
    position: Position
    changes: tuple[tuple[str, int], ...]


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a dispatch. `changes` are pairs of slice and version; empty if nothing changed.

    From a store, it contains a Position. From a client, it contains the received text, which is opaque to the client.
    """

    id: str
    position: Position | str
    duplicate: bool
    changes: tuple[tuple[str, int], ...]


class SliceState:
    """The value of a slice as of its last change. The value never changes; it is encoded at most once.

    `measured` is the length of the encoding when it was last made. It is measured again after as many bytes of patches,
    so that knowing it approximately costs an action no more than its own patch. The encoding has `at_most` that many
    bytes now.
    """

    __slots__ = ("_encoded", "_since", "measured", "position", "value")

    def __init__(self, value: Any, position: Position, encoded: bytes | None = None) -> None:
        self.value, self.position, self._encoded = value, position, encoded
        self.measured, self._since = len(self.encoded()), 0

    @property
    def version(self) -> int:
        return self.position.seq

    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = encode(self.value)
            self.measured, self._since = len(self._encoded), 0
        return self._encoded

    @property
    def at_most(self) -> int:
        return self.measured + self._since

    def patched(self, value: Any, change: Change) -> SliceState:
        """The state after a change of kind `patches` that leads to `value`."""
        since = self._since + len(change.data)
        if since > self.measured:
            return SliceState(value, change.position)
        after = SliceState.__new__(SliceState)
        after.value, after.position, after._encoded = value, change.position, None
        after.measured, after._since = self.measured, since
        return after


class Snapshot(Struct, frozen=True, kw_only=True):
    """Slices at one position. Slices that do not exist are absent.

    A snapshot that was loaded from a journal also has the seq of the checkpoint that it was made from, and the changes
    after `since`, which is that checkpoint or earlier. One of the newest position has the `versions` of all slices, and
    the states of some. One of the past has an earlier state of the slices whose changes around it are `folded`.
    """

    position: Position
    slices: Mapping[str, SliceState]
    checkpoint: int = 0
    since: Position = START
    changes: tuple[Change, ...] = ()
    versions: Mapping[str, int] = field(default_factory=dict)
    folded: frozenset[str] = frozenset()


class Page(Struct, frozen=True, kw_only=True):
    """The selected changes after a position, up to and including `until`, which may be later than the last of them."""

    changes: Sequence[Change]
    until: Position


def total_size(changes: Iterable[Change]) -> int:
    return sum(change.size for change in changes)
