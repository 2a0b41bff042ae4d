"""A stream in a file: what came, in order, and when. JSON lines, the first of them says what it is:

    {"recording":1,"url":"http://127.0.0.1:8000","slices":["board"],"began":1795273610382}
    {"at":0,"event":"state.initial","id":"1.k3v9x2m","data":{…}}
    {"at":281,"event":"state.update","id":"2.o5as4bj","data":{…}}

`at` is in ms since the beginning, `data` the frame as it came. The first frame is made of what the stream
held, so that a recording is whole by itself.

Invariants: a line is written at once and whole, or it is the last: a recording that was cut off anywhere is good up to
there. A line without its end does not count, whatever it holds; any other line that cannot be read is an error
with its number, never skipped. What one side writes the other reads: both have the same limit.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, TypeGuard

import orjson
from msgspec import Struct

from statestream.client.address import address
from statestream.client.replica import Replica
from statestream.core.change import now_ms
from statestream.core.errors import Malformed, RecordingFailed
from statestream.core.values import MAX_INT
from statestream.protocol.sse import MAX_EVENT, Event

log = logging.getLogger("statestream")

VERSION: Final = 1
MAX_LINE: Final = MAX_EVENT
"""Bytes of a line, with its end."""
_TEXT: Final = rb'"([^"\\\x00-\x1f]*)"'
_OURS: Final = re.compile(
    rb'\{"at":(0|[1-9][0-9]{0,15}),"event":%b,"id":%b,"data":(.+)\}\n' % (_TEXT, _TEXT), re.DOTALL
)
_BREAKS: Final = re.compile(r"[\r\n]")


class Frame(Struct, frozen=True, kw_only=True):
    """An event as it came, `at` ms after the beginning. `end` is where its line ends in the file."""

    at: int
    event: Event
    end: int


class Recorder:
    """Writes what a stream hears into a file; made by `Stream.record`. A context manager.

    It never raises while the stream goes on: what the disk says is logged, kept in `failure`, and raised by `close`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        url: str,
        slices: Sequence[str] | None,
        replica: Replica,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.frames = self.bytes = 0
        self.failure: RecordingFailed | None = None
        self._began, self._ended = time.monotonic_ns(), 0
        self._lock = threading.Lock()  # whoever closes may be in another thread than the stream
        self._file: BinaryIO | None = self._opened(overwrite)
        lines = [_header(url, slices)]
        if replica.position is not None and replica.heartbeat_ms is not None:
            lines.append(_line(0, _initial(replica)))
            self.frames = 1
        self._write(b"".join(lines), longest=max(map(len, lines)))
        if not self.bytes and not overwrite:
            with contextlib.suppress(OSError):
                self.path.unlink()  # it was made here, and empty it would stand in the way of the next try
        self._raise()

    def _opened(self, overwrite: bool) -> BinaryIO:
        """Without a buffer of ours: what is written is the system's, also when this process is killed."""
        try:
            return self.path.open("wb" if overwrite else "xb", buffering=0)
        except FileExistsError:
            raise RecordingFailed(
                f"expected a path where nothing is yet, {self.path} exists; name another or allow overwriting"
            ) from None
        except OSError as error:
            raise RecordingFailed(f"expected to write {self.path}: {error.strerror or error}") from None

    @property
    def closed(self) -> bool:
        return self._file is None

    @property
    def seconds(self) -> float:
        """From the beginning until now, or until it was closed."""
        return ((self._ended or time.monotonic_ns()) - self._began) / 1e9

    def heard(self, event: Event) -> None:
        """One more frame."""
        with self._lock:
            if self._file is not None:
                line = _line(int(self.seconds * 1000), event)
                self._write(line, longest=len(line))
                self.frames += self._file is not None

    def _write(self, data: bytes, longest: int) -> None:
        assert self._file is not None
        try:
            if longest > MAX_LINE:
                raise OSError(f"a frame takes more than {MAX_LINE} bytes")
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            self.bytes += len(data)
        except OSError as error:
            self.failure = RecordingFailed(
                f"expected to go on writing {self.path}, it ends after {self.bytes:,} bytes: {error.strerror or error}"
            )
            log.error("%s", self.failure)  # noqa: TRY400  # a full disk needs no traceback
            self._end()

    def stop(self) -> None:
        """Ends the recording; says nothing of a failure."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._ended = time.monotonic_ns()
            file.close()

    def close(self) -> None:
        """Ends the recording. Raises RecordingFailed where it had ended by itself."""
        self.stop()
        self._raise()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.stop()


def _header(url: str, slices: Sequence[str] | None) -> bytes:
    names = None if slices is None else list(slices)
    root, _ = address(url)  # recordings are passed on; who recorded them is not
    return orjson.dumps({"recording": VERSION, "url": root, "slices": names, "began": now_ms()}) + b"\n"


def _initial(replica: Replica) -> Event:
    """What the replica holds, as the frame that would bring it."""
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


def _line(at: int, event: Event) -> bytes:
    data = event.data
    if "\n" in data:  # several `data:` lines: legal, and no line of ours
        data = orjson.dumps(orjson.loads(data)).decode()
    frame = {"at": at, "event": event.event, "id": event.last_id, "data": orjson.Fragment(data)}
    return orjson.dumps(frame) + b"\n"


class Recording:
    """A recording in a file. Iterating reads its frames from the beginning, a line at a time.

    `slices` is what was asked for (None: every plain slice), `began` Unix ms. Raises Malformed for what is no
    recording, RecordingFailed where the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self._opened() as file:
            self._first(_read_line(file, 1))
            self.size = os.fstat(file.fileno()).st_size

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise RecordingFailed(f"expected to read {self.path}: {error.strerror or error}") from None

    def _first(self, line: bytes | None) -> None:
        header: dict[str, Any] = {} if line is None else _object(line, 1)
        version = header.get("recording")
        if type(version) is not int or version < 1:
            raise Malformed(
                f'line 1: expected a recording, which begins with {{"recording":{VERSION},…}}; {self.path} does not'
            )
        if version > VERSION:
            raise Malformed(
                f"line 1: expected a recording of version {VERSION}, got {version}; a newer statestream reads it"
            )
        self.url, self.slices, self.began = header.get("url"), header.get("slices"), header.get("began")
        names = self.slices if self.slices is not None else []
        whole = type(self.url) is str and type(self.began) is int and type(names) is list
        if not whole or not all(type(name) is str for name in names):
            raise Malformed('line 1: expected "url" and "slices" and "began" of a recording, got something else')

    def cut_off(self) -> bool:
        """Whether it ends in the middle of a line, which then does not count."""
        with self._opened() as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def __iter__(self) -> Iterator[Frame]:
        with self._opened() as file:
            _read_line(file, 1)
            number, before = 1, 0
            while (line := _read_line(file, number := number + 1)) is not None:
                frame = _frame(line, number, before, file.tell())
                before = frame.at
                yield frame

    def passes(self, position: str) -> bool:
        """Whether one of its frames stands at `position`."""
        return any(frame.event.last_id == position for frame in self)


def _read_line(file: BinaryIO, number: int) -> bytes | None:
    """The next whole line; None behind the last. Raises Malformed."""
    try:
        line = file.readline(MAX_LINE + 1)
    except OSError as error:
        raise RecordingFailed(f"expected to read line {number}: {error.strerror or error}") from None
    if len(line) > MAX_LINE:
        raise Malformed(f"line {number}: expected at most {MAX_LINE} bytes, got a longer one")
    return line if line.endswith(b"\n") else None


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"line {number}: expected a line of a recording, got what is no JSON ({error.msg})") from None
    if type(value) is not dict:
        raise Malformed(f"line {number}: expected a line of a recording, a JSON object, got another value")
    return value


def _frame(line: bytes, number: int, before: int, end: int) -> Frame:
    at, event, id, data = _as_we_write_it(line) or _as_others_do(line, number)
    if type(at) is not int or not before <= at <= MAX_INT:
        raise Malformed(f"line {number}: expected `at` in whole ms, not before the line above's")
    if not _is_field(event) or not event or not _is_field(id):
        raise Malformed(f"line {number}: expected `event` and `id` as a stream gave them")
    return Frame(at=at, event=Event(event=event, data=data, last_id=id), end=end)


def _as_we_write_it(line: bytes) -> tuple[Any, Any, Any, str] | None:
    """`at`, `event`, `id` and the text of `data`, if the line is spelt as a Recorder spells it."""
    found = _OURS.fullmatch(line)
    if found is None:
        return None
    try:
        whole = type(orjson.loads(found[4])) is dict
        return (int(found[1]), found[2].decode(), found[3].decode(), found[4].decode()) if whole else None
    except ValueError:  # no JSON, no UTF-8: the line as a whole tells why
        return None


def _as_others_do(line: bytes, number: int) -> tuple[Any, Any, Any, str]:
    """The same of any line of JSON. Raises Malformed."""
    value = _object(line, number)
    data = value.get("data")
    if type(data) is not dict:
        raise Malformed(f"line {number}: expected `data`, the frame's JSON object")
    try:
        return value.get("at"), value.get("event"), value.get("id"), orjson.dumps(data).decode()
    except orjson.JSONEncodeError as error:
        raise Malformed(f"line {number}: expected `data` of a frame, it cannot be written as JSON ({error})") from None


def _is_field(value: Any) -> TypeGuard[str]:
    """Text that an event stream can carry: nothing in it ends the line."""
    return type(value) is str and not _BREAKS.search(value)
