"""The settings of the C library's allocator with which large objects leave no gaps behind.

glibc takes large blocks from the system one by one, and returns each when it is freed. But it raises the size from
which on it does so, up to 32 MiB, whenever such a block is freed. From then on, snapshots and texts of megabytes lie in
one heap between small objects that stay, and what lies below the topmost of these is never returned. After a burst, a
server kept three times the memory that it needed.

Invariants: called once, before the server accepts connections. Does nothing where the C library is another one.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

MAPPED_BYTES: Final = 256 << 10
"""From this size on, a block is taken from the system and returned to it. That takes the system some 20 µs."""
SPARE_BYTES: Final = 8 << 20
"""So much may stay free at the end of the heap, so that it does not shrink and grow all the time."""
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3


def return_large_blocks() -> None:
    """Has the allocator of this process return large blocks to the system when they are freed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none, and keeps no large blocks
        mallopt(_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_TRIM_THRESHOLD, SPARE_BYTES)
