"""How many readers fit: files that a process may open, and ports between two addresses.

Invariants: said before the first reader is opened, with what to do about it.
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
READERS_A_PROCESS: Final = 250
READERS_A_SOURCE: Final = 25_000
LOOPBACK: Final = "127.0.0.1"
MAX_CHANGES: Final = 1_000_000
_PORTS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def raise_files() -> None:
    """Lets this process open as many files as it may allow itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems say "unlimited" and mean less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def processes_for(readers: int, asked: int | None) -> int:
    """How many worker processes: as asked, else one for 250 readers, a core left to the server. Raises TooLarge."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = readers if hard == resource.RLIM_INFINITY else max(1, hard - OTHER_FILES)
    needed = -(-readers // room)
    if asked is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(needed, min(-(-readers // READERS_A_PROCESS), max(1, cores - 1)))
    if needed > asked:
        raise TooLarge(
            f"expected at most {asked * room:,} readers in {asked} processes that may open {hard:,} files each, "
            f"got {readers:,}; raise `ulimit -Hn`, or take --processes {needed}"
        )
    return min(asked, readers)


def sources_for(readers: int, address: str) -> list[str]:
    """The addresses that readers come from; none: one is enough. Raises TooLarge."""
    ports = _ports()
    if readers <= min(READERS_A_SOURCE, ports):
        return []
    if address == LOOPBACK:
        each = min(READERS_A_SOURCE, ports)
        return [f"127.0.0.{1 + at}" for at in range(-(-readers // each))]
    if readers <= ports:
        return []
    raise TooLarge(
        f"expected at most {ports:,} readers, as many as there are ports from here to {address}, got {readers:,}; "
        "run it on several machines, or against 127.0.0.1, where it takes several addresses"
    )


def _ports() -> int:
    if not _PORTS.exists():
        return 16_384
    low, high = map(int, _PORTS.read_text().split())
    return high - low + 1


def changes_of(rate: float, seconds: float) -> int:
    """How many changes that is. Raises TooLarge: each has a place in every worker."""
    changes = max(1, math.floor(rate * seconds + 1e-9))
    if changes > MAX_CHANGES:
        raise TooLarge(f"expected at most {MAX_CHANGES:,} changes, got {changes:,}; take a lower --rate or --seconds")
    return changes


def check_server(server: ServerProcess, readers: int) -> None:
    """Raises TooLarge where the server cannot accept so many."""
    room = server.open_files() - OTHER_FILES // 2
    if readers > room:
        raise TooLarge(
            f"expected at most {room:,} readers, as the server's process may open {room + OTHER_FILES // 2:,} files, "
            f"got {readers:,}; start the server with a higher `ulimit -n`"
        )
