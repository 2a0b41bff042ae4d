"""The board's store with a retention from the environment, and a wall clock that a file moves."""

from __future__ import annotations

import os

import orjson

from statestream import Store
from statestream.journal import Journal, MemoryJournal, PostgresqlJournal, Retention, SqliteJournal
from statestream.journal.redis import RedisJournal
from tests.apps.board import board, counter, room
from tests.support import moved_clock

if "AHEAD" in os.environ:
    moved_clock.follow(os.environ["AHEAD"])

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
