"""The board's store with settings from the environment: short heartbeats, little history, few readers."""

from __future__ import annotations

import os

from statestream import Store, create_app
from statestream.journal import MemoryJournal, Retention, SqliteJournal
from tests.apps.board import board, counter, room

path = os.environ.get("JOURNAL")
retention = Retention(changes=int(os.environ.get("KEPT", "20")), age=0.0, bytes=0, checkpoint=10)
journal = SqliteJournal(path, retention) if path else MemoryJournal(retention)
app = create_app(
    Store([board, room, counter], journal=journal),
    heartbeat=float(os.environ.get("HEARTBEAT", "15")),
    max_subscribers=int(os.environ.get("MAX_READERS", "10000")),
    handoff=os.environ.get("HANDOFF") != "0",
    hosts=os.environ["NAMES"].split() if "NAMES" in os.environ else None,
)
