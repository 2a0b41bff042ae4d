"""The board's store with a retention from the environment, and a wall clock that a file moves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson

ahead = Path(os.environ.get("AHEAD", "/dev/null"))
real_time, real_time_ns = time.time, time.time_ns


def ahead_seconds() -> int:
    return int(ahead.read_text() or 0)


time.time = lambda: real_time() + ahead_seconds()
time.time_ns = lambda: real_time_ns() + ahead_seconds() * 1_000_000_000

from statestream import Store  # noqa: E402  # after the clock has been replaced
from statestream.journal import Journal, MemoryJournal, PostgresqlJournal, Retention, SqliteJournal  # noqa: E402
from statestream.journal.redis import RedisJournal  # noqa: E402
from tests.apps.board import board, counter, room  # noqa: E402

bounds = os.environ.get("RETENTION")
retention = None if bounds is None else Retention(**orjson.loads(bounds))
path = os.environ.get("JOURNAL")
journal: Journal
if path is None:
    journal = MemoryJournal(retention)
elif "://" not in path:
    journal = SqliteJournal(path, retention)
else:
    engine = RedisJournal if path.startswith("redis:") else PostgresqlJournal
    journal = engine(path, retention)
store = Store([board, room, counter], journal=journal)
