"""Writes the log to stderr, as text or as JSON, from a thread of its own.

Invariants: the event loop never waits for whoever reads stderr. If nobody reads it, lines are dropped and counted, and
the process can end all the same. It is for `statestream serve`: a program of your own configures logging as it likes.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, Final, Literal, Self, TextIO

import orjson

from statestream.server.log_line import Line

Format = Literal["text", "json"]
MOST_WAITING: Final = 10_000
END_SECONDS: Final = 2.0
"""The longest wait at the end for lines that nobody reads."""


class TextFormat(logging.Formatter):
    """`time LEVEL message`."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname} {super().format(record)}"


class JsonFormat(logging.Formatter):
    """One JSON object on one line. The fields of a structured line are its members."""

    def format(self, record: logging.LogRecord) -> str:
        about = {"time": _time(record), "level": record.levelname, "logger": record.name}
        if isinstance(record.msg, Line):
            content: dict[str, Any] = {"event": record.msg.event, **record.msg.fields}
        else:
            content = {"message": record.getMessage()}
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(about | content, default=str).decode()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FORMATS: Final[dict[Format, type[logging.Formatter]]] = {"text": TextFormat, "json": JsonFormat}


class LogOutput(logging.Handler):
    """Handles all loggers while `with LogOutput(…):` lasts. `requests`: also a line for each request and stream."""

    def __init__(self, form: Format, *, requests: bool, to: TextIO | None = None) -> None:
        super().__init__()
        self._formatter, self._requests, self._to = FORMATS[form](), requests, to or sys.stderr
        self._records: SimpleQueue[logging.LogRecord | None] = SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="statestream-log", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        logging.getLogger().addHandler(self)
        if self._requests:
            logging.getLogger("statestream.access").setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        self._records.put(None)
        self._thread.join(END_SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        if self._records.qsize() < MOST_WAITING:
            self._records.put(record)
        else:
            self._dropped += 1

    def _write_all(self) -> None:
        while (record := self._records.get()) is not None:
            self._write(record)
            if self._dropped and self._records.empty():
                dropped, self._dropped = self._dropped, 0
                text = f"{dropped} lines of the log were dropped, because nobody read them in time"
                self._write(logging.LogRecord("statestream", logging.WARNING, "", 0, text, (), None))

    def _write(self, record: logging.LogRecord) -> None:
        try:
            self._to.write(self._formatter.format(record) + "\n")
            self._to.flush()
        except Exception:  # nobody is left to tell
            self.handleError(record)
