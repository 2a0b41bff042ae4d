"""The format of a recording: JSON lines, of which the first is a header.

    {"recording":1,"url":"http://127.0.0.1:8000","slices":["board"],"began":1795273610382}
    {"at":0,"event":"state.initial","id":"1.k3v9x2m","data":{…}}
    {"at":281,"event":"state.update","id":"2.o5as4bj","data":{…}}

`at` is in ms since the recording began, `data` is the frame as it was received. The first frame is made from the state
that the stream had, so that a recording is complete by itself.

Invariants: pure. A line that cannot be parsed is an error with its number, never skipped. Writing and reading have the
same limit, so that a recording that was written can be read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeGuard

import orjson
from msgspec import Struct

from statestream.client.address import address
from statestream.client.replica import Replica
from statestream.core.change import now_ms
from statestream.core.errors import Malformed
from statestream.core.values import MAX_INT
from statestream.protocol.sse import MAX_EVENT, Event

VERSION: Final = 1
MAX_LINE: Final = MAX_EVENT
"""The limit of a line in bytes, with its end."""
_TEXT: Final = rb'"([^"\\\x00-\x1f]*)"'
_CANONICAL: Final = re.compile(
    rb'\{"at":(0|[1-9][0-9]{0,15}),"event":%b,"id":%b,"data":(.+)\}\n' % (_TEXT, _TEXT), re.DOTALL
)
_LINE_BREAK: Final = re.compile(r"[\r\n]")


class Header(Struct, frozen=True, kw_only=True):
    """The first line: the server, the slices that were asked for (None: every plain slice), and when, in Unix ms."""

    url: str
    slices: list[str] | None
    began: int


class RecordedFrame(Struct, frozen=True, kw_only=True):
    """An event as it was received, `at` ms after the beginning. `end` is the offset in the file where its line ends."""

    at: int
    event: Event
    end: int


# writing


def header_line(url: str, slices: Sequence[str] | None) -> bytes:
    names = None if slices is None else list(slices)
    root, _ = address(url)  # recordings are shared, credentials are not
    return orjson.dumps({"recording": VERSION, "url": root, "slices": names, "began": now_ms()}) + b"\n"


def frame_line(at: int, event: Event) -> bytes:
    data = event.data
    if "\n" in data:  # a frame may have several `data:` lines, but a recording has one line for each frame
        data = orjson.dumps(orjson.loads(data)).decode()
    frame = {"at": at, "event": event.event, "id": event.last_id, "data": orjson.Fragment(data)}
    return orjson.dumps(frame) + b"\n"


def initial_frame(replica: Replica) -> Event:
    """The `state.initial` that leads to what the replica holds."""
    assert replica.position is not None
    data = {
        "type": "state.initial",
        "reason": "start",
        "position": replica.position,
        "slices": replica.state,
        "versions": replica.versions,
        "heartbeat": replica.heartbeat_ms,
        "timestamp": now_ms(),
    }
    return Event(event="state.initial", data=orjson.dumps(data).decode(), last_id=replica.position)


# reading


def parse_header(line: bytes | None) -> Header:
    """Raises Malformed."""
    header: dict[str, Any] = {} if line is None else _object(line, 1)
    version = header.get("recording")
    if type(version) is not int or version < 1:
        raise Malformed(
            f'line 1: expected a recording, which begins with {{"recording":{VERSION},…}}, but this file does not'
        )
    if version > VERSION:
        raise Malformed(
            f"line 1: expected a recording of version {VERSION}, got {version}; a newer statestream can read it"
        )
    url, slices, began = header.get("url"), header.get("slices"), header.get("began")
    if type(url) is not str or not _is_names(slices) or type(began) is not int:
        raise Malformed("line 1: expected `url`, `slices` and `began` of a recording; at least one is not valid")
    return Header(url=url, slices=slices, began=began)


def _is_names(value: Any) -> TypeGuard[list[str] | None]:
    return value is None or (type(value) is list and all(type(name) is str for name in value))


def parse_frame(line: bytes, number: int, before: int, end: int) -> RecordedFrame:
    """The frame in line `number`, after a frame at `before` ms. Raises Malformed."""
    at, event, id, data = _canonical(line) or _any_spelling(line, number)
    if type(at) is not int or not before <= at <= MAX_INT:
        raise Malformed(f"line {number}: expected `at` in whole ms, not less than in the line before")
    if not _is_field(event) or not event or not _is_field(id):
        raise Malformed(f"line {number}: expected `event` and `id` as an event stream contains them")
    return RecordedFrame(at=at, event=Event(event=event, data=data, last_id=id), end=end)


def _canonical(line: bytes) -> tuple[Any, Any, Any, str] | None:
    """`at`, `event`, `id` and the text of `data`, if the line is spelt as `frame_line` spells it.

    This keeps the text of `data`, and costs less than to parse the line and encode `data` again.
    """
    found = _CANONICAL.fullmatch(line)
    if found is None:
        return None
    try:
        is_object = type(orjson.loads(found[4])) is dict
        return (int(found[1]), found[2].decode(), found[3].decode(), found[4].decode()) if is_object else None
    except ValueError:  # not JSON or not UTF-8; parsing the whole line produces the error message
        return None


def _any_spelling(line: bytes, number: int) -> tuple[Any, Any, Any, str]:
    """The same of a line that another program wrote. Raises Malformed."""
    value = _object(line, number)
    data = value.get("data")
    if type(data) is not dict:
        raise Malformed(f"line {number}: expected `data`, the JSON object of a frame")
    try:
        return value.get("at"), value.get("event"), value.get("id"), orjson.dumps(data).decode()
    except orjson.JSONEncodeError as error:
        raise Malformed(f"line {number}: expected `data` that can be written as JSON again ({error})") from None


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"line {number}: expected a line of a recording, but it is not JSON ({error.msg})") from None
    if type(value) is not dict:
        raise Malformed(f"line {number}: expected a line of a recording, a JSON object, but got another value")
    return value


def _is_field(value: Any) -> TypeGuard[str]:
    """Whether it is text that an event stream can carry in one line."""
    return type(value) is str and not _LINE_BREAK.search(value)
