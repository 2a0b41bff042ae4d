"""How many readers fit: files that a process may open, and ports between two addresses.

Invariants: a limit is reported before the first reader is opened, with what to do about it.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
from pathlib import Path
from typing import Final

from statestream.core.errors import TooLarge
from statestream.tools.bench.server_process import ServerProcess

OTHER_FILES: Final = 64
"""Files that a process has open besides its readers, generously."""
READERS_PER_PROCESS: Final = 250
READERS_PER_SOURCE: Final = 25_000
LOOPBACK: Final = "127.0.0.1"
MAX_CHANGES: Final = 1_000_000
DEFAULT_PORTS: Final = 16_384
_PORT_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def raise_file_limit() -> None:
    """Lets this process open as many files as the system allows it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems report "unlimited" and allow less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def processes_for(readers: int, requested: int | None) -> int:
    """How many worker processes to use. Raises TooLarge.

    By default one for 250 readers, but no more than leave a core to the server.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = readers if hard == resource.RLIM_INFINITY else max(1, hard - OTHER_FILES)
    needed = -(-readers // room)
    if requested is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(needed, min(-(-readers // READERS_PER_PROCESS), max(1, cores - 1)))
    if needed > requested:
        raise TooLarge(
            f"expected at most {requested * room:,} readers in {requested} processes that may open {hard:,} files "
            f"each, got {readers:,}; raise `ulimit -Hn`, or use --processes {needed}"
        )
    return min(requested, readers)


def sources_for(readers: int, address: str) -> list[str]:
    """The addresses to connect from; none if the default one has enough ports. Raises TooLarge."""
    ports = _ports()
    if readers <= min(READERS_PER_SOURCE, ports):
        return []
    if address == LOOPBACK:
        each = min(READERS_PER_SOURCE, ports)
        return [f"127.0.0.{1 + at}" for at in range(-(-readers // each))]
    if readers <= ports:
        return []
    raise TooLarge(
        f"expected at most {ports:,} readers, because there are as many ports from here to {address}, "
        f"got {readers:,}; use several machines, or a server at 127.0.0.1, where several addresses are used"
    )


def _ports() -> int:
    if not _PORT_RANGE.exists():
        return DEFAULT_PORTS
    low, high = map(int, _PORT_RANGE.read_text().split())
    return high - low + 1


def changes_of(rate: float, seconds: float) -> int:
    """The number of changes. Raises TooLarge, because every worker has counters for each change."""
    changes = max(1, math.floor(rate * seconds + 1e-9))
    if changes > MAX_CHANGES:
        raise TooLarge(f"expected at most {MAX_CHANGES:,} changes, got {changes:,}; use a lower --rate or --seconds")
    return changes


def check_server(server: ServerProcess, readers: int) -> None:
    """Raises TooLarge if the server cannot accept so many."""
    room = server.open_files() - OTHER_FILES // 2
    if readers > room:
        raise TooLarge(
            f"expected at most {room:,} readers, because the server's process may open {room + OTHER_FILES // 2:,} "
            f"files, got {readers:,}; start the server with a higher `ulimit -n`"
        )
