"""Writing a recording while a stream goes on.

Invariants: each line is written at once and whole, or it is the last: whatever ends the process, the file is good up to
its last whole line. An error of the disk never reaches the stream.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Self

from statestream.client.recording.lines import MAX_LINE, frame_line, header_line, initial_frame
from statestream.client.replica import Replica
from statestream.core.errors import RecordingFailed
from statestream.protocol.sse import Event

log = logging.getLogger("statestream")


class StreamRecorder:
    """Writes the frames of a stream into a file; returned by `Stream.record`. A context manager.

    It never raises while the stream goes on: an error of the disk is logged, kept in `failure`, and raised by `close`.
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
        self._lock = threading.Lock()  # `close` may be called in another thread than the stream's
        self._file: BinaryIO | None = self._open(overwrite)
        lines = [header_line(url, slices)]
        if replica.position is not None and replica.heartbeat_ms is not None:
            lines.append(frame_line(0, initial_frame(replica)))
            self.frames = 1
        self._write(b"".join(lines), longest=max(map(len, lines)))
        if not self.bytes and not overwrite:
            with contextlib.suppress(OSError):
                self.path.unlink()  # it was created here; left empty, it would make the next attempt fail
        self._raise_failure()

    def _open(self, overwrite: bool) -> BinaryIO:
        """Without a buffer in this process, so that a written line survives the end of the process."""
        try:
            return self.path.open("wb" if overwrite else "xb", buffering=0)
        except FileExistsError:
            raise RecordingFailed(f"{self.path} exists; use another path or allow overwriting") from None
        except OSError as error:
            raise RecordingFailed(f"cannot write {self.path}: {error.strerror or error}") from None

    @property
    def closed(self) -> bool:
        return self._file is None

    @property
    def seconds(self) -> float:
        """The length of the recording: until now, or until it was closed."""
        return ((self._ended or time.monotonic_ns()) - self._began) / 1e9

    def record(self, event: Event) -> None:
        """Writes one more frame."""
        with self._lock:
            if self._file is not None:
                line = frame_line(int(self.seconds * 1000), event)
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
                f"the recording {self.path} ends after {self.bytes:,} bytes: {error.strerror or error}"
            )
            log.error("%s", self.failure)  # noqa: TRY400  # a full disk needs no traceback
            self._end()

    def stop(self) -> None:
        """Ends the recording without raising `failure`."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._ended = time.monotonic_ns()
            file.close()

    def close(self) -> None:
        """Ends the recording. Raises RecordingFailed if an error had ended it before."""
        self.stop()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.stop()  # an error of the recording must not hide the error that is on its way
