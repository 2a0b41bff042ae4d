"""The frames of the state stream, as bytes.

Invariants: pure. The functions return bytes: of a frame, of an item of a catch-up, or of a line of the history. Encoded
data (values, patches, payloads) is spliced, never decoded. docs/protocol.md describes every member; changing one here
changes it for every client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from typing_extensions import TypedDict

from statestream.core.change import Change, Position, SliceState, now_ms
from statestream.protocol import sse
from statestream.protocol.frame_types import End, EndReason, Initial, Reason, Resumed

RETRY_MS: Final = 2_000


def initial(
    reason: Reason,
    position: Position,
    slices: Mapping[str, SliceState],
    heartbeat_ms: int,
    *,
    retry: int | None,
    view: str | None = None,
) -> bytes:
    data: Initial = {
        "type": "state.initial",
        "reason": reason,
        "position": str(position),
        "slices": {name: orjson.Fragment(state.encoded()) for name, state in slices.items()},
        "versions": {name: state.version for name, state in slices.items()},
        "heartbeat": heartbeat_ms,
        **_optional(retry, view),
        "timestamp": now_ms(),
    }
    return sse.encode("state.initial", orjson.dumps(data), id=str(position), retry=retry)


def resumed(position: Position, versions: bytes, heartbeat_ms: int, *, view: str | None = None) -> bytes:
    """`versions` are encoded."""
    encoded: Any = orjson.Fragment(versions)
    data: Resumed = {
        "type": "state.resumed",
        "position": str(position),
        "versions": encoded,
        "heartbeat": heartbeat_ms,
        **_optional(RETRY_MS, view),
        "timestamp": now_ms(),
    }
    return sse.encode("state.resumed", orjson.dumps(data), id=str(position), retry=RETRY_MS)


class _Optional(TypedDict, total=False):
    retry: int
    view: str


def _optional(retry: int | None, view: str | None) -> _Optional:
    """The members of a first frame that it may lack. `retry` is there again: an EventSource hides the field."""
    members: _Optional = {}
    if retry is not None:
        members["retry"] = retry
    if view is not None:
        members["view"] = view
    return members


def update(change: Change, *, full: bool) -> bytes:
    return sse.encode("state.update", b"{" + _members(change, full=full), id=str(change.position))


def line(change: Change, *, full: bool) -> bytes:
    """A change as a line of `GET /history` (NDJSON): the members of an update, and the position."""
    return b'{"position":"%b",%b\n' % (str(change.position).encode(), _members(change, full=full))


def _members(change: Change, *, full: bool) -> bytes:
    """`full` adds the payload to the cause, unless the reader may not see it.

    Slice names are ASCII without quotes, so they need no escaping.
    """
    cause = change.cause
    why: dict[str, Any] = {"type": cause.type, "id": cause.id}
    if cause.actor is not None:
        why["actor"] = cause.actor
    if full and cause.payload:
        why["payload"] = orjson.Fragment(cause.payload)
    return b'"type":"state.update","slice":"%b","from":%d,"version":%d,%b,"cause":%b,"timestamp":%d}' % (
        change.slice.encode(),
        change.from_version,
        change.version,
        _content(change.kind, change.data),
        orjson.dumps(why),
        change.at,
    )


def _content(kind: str, data: bytes) -> bytes:
    if kind == "removed":
        return b'"removed":true'
    return b'"%b":%b' % (kind.encode(), data)


def coalesce(changes: Sequence[Change], slices: Mapping[str, SliceState]) -> list[bytes]:
    """The items of a catch-up's `updates`, one for each slice: its patches one after the other, or its value.

    `changes` are all changes that a client missed of these slices, and `slices` has the states that they lead to.
    """
    by_slice: dict[str, list[Change]] = {}
    for change in changes:
        by_slice.setdefault(change.slice, []).append(change)
    items = []
    for name, missed in by_slice.items():
        first, last = missed[0], missed[-1]
        if last.kind == "removed":
            if first.from_version == 0:
                continue
            content = _content("removed", b"")
        else:
            content = _shorter(missed, slices[name])
        items.append(_item(name, first.from_version, last.version, content))
    return items


def _shorter(missed: Sequence[Change], state: SliceState) -> bytes:
    if all(change.kind == "patches" for change in missed):
        patches = b"[" + b",".join(change.data[1:-1] for change in missed) + b"]"
        if len(patches) < state.measured or len(patches) < len(state.encoded()):
            return _content("patches", patches)
    return _content("value", state.encoded())


def gained(name: str, state: SliceState) -> bytes:
    """The item of a catch-up for a slice that the client may read from now on."""
    return _item(name, 0, state.version, _content("value", state.encoded()))


def lost(name: str, version: int, position: Position) -> bytes:
    """The item of a catch-up for a slice that the client may not read any more, and holds at a version."""
    return _item(name, version, position.seq, _content("removed", b""))


def _item(name: str, before: int, version: int, content: bytes) -> bytes:
    return b'{"slice":"%b","from":%d,"version":%d,%b}' % (name.encode(), before, version, content)


def catchup(position: Position, items: Sequence[bytes]) -> bytes:
    data = b'{"type":"state.catchup","position":"%b","updates":[%b],"timestamp":%d}' % (
        str(position).encode(),
        b",".join(items),
        now_ms(),
    )
    return sse.encode("state.catchup", data, id=str(position))


def heartbeat(position: Position) -> bytes:
    data = b'{"type":"heartbeat","position":"%b","timestamp":%d}' % (str(position).encode(), now_ms())
    return sse.encode("heartbeat", data, id=str(position))


def end(reason: EndReason, retry: int | None) -> bytes:
    """`retry` in ms; None tells clients not to return."""
    data: End = {"type": "stream.end", "reason": reason}
    if retry is not None:
        data["retry"] = retry
    return sse.encode("stream.end", orjson.dumps(data), retry=retry)
