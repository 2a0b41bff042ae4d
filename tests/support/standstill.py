"""A process that stands still, as when its machine is paused, and that nobody has to wait for.

SQLite's lock belongs to the process that writes. If that stops in the middle of a transaction, all others wait until it
goes on, which is what SQLite promises, and not what these tests are about.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path


def stop_between_writes(pid: int, journal: Path) -> None:
    """SIGSTOP, at a moment at which the process does not hold the lock of that journal."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        while _state(pid) != "T":
            pass
        with closing(sqlite3.connect(journal, timeout=0, isolation_level=None)) as sql:
            try:
                sql.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
            else:
                return


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
