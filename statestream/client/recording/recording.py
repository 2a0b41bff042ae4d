"""Reading a recording from a file, one line at a time.

Invariants: a last line without its end does not count, whatever it contains: the recording was cut off there. A file of
any size is never in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from statestream.client.recording.lines import MAX_LINE, RecordedFrame, parse_frame, parse_header
from statestream.core.errors import Malformed, RecordingFailed


class Recording:
    """A recording in a file. Iterating reads its frames from the beginning.

    `slices` is what the recorded client asked for (None: every plain slice), `began` is Unix ms. Raises Malformed if
    the file is not a recording, RecordingFailed if it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with self._open() as file:
            header = parse_header(_read_line(file, 1))
            self.size = os.fstat(file.fileno()).st_size
        self.url, self.slices, self.began = header.url, header.slices, header.began

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise RecordingFailed(f"cannot read {self.path}: {error.strerror or error}") from None

    def cut_off(self) -> bool:
        """Whether the file ends in the middle of a line."""
        with self._open() as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def __iter__(self) -> Iterator[RecordedFrame]:
        with self._open() as file:
            _read_line(file, 1)
            number, before = 1, 0
            while (line := _read_line(file, number := number + 1)) is not None:
                frame = parse_frame(line, number, before, file.tell())
                before = frame.at
                yield frame

    def reaches(self, position: str) -> bool:
        """Whether one of its frames has this position."""
        return any(frame.event.last_id == position for frame in self)


def _read_line(file: BinaryIO, number: int) -> bytes | None:
    """The next whole line; None after the last one. Raises Malformed, RecordingFailed."""
    try:
        line = file.readline(MAX_LINE + 1)
    except OSError as error:
        raise RecordingFailed(f"cannot read line {number}: {error.strerror or error}") from None
    if len(line) > MAX_LINE:
        raise Malformed(f"line {number}: expected at most {MAX_LINE} bytes, got a longer line")
    return line if line.endswith(b"\n") else None
