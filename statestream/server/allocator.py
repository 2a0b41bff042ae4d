"""The memory of large blocks: reused while they are needed, and returned to the system when they are not.

A snapshot or a text of megabytes is copied several times on its way to a socket. glibc takes each large block from the
system, which hands out its pages one by one: that takes seven times as long as the copying, and nothing else in the
server happens meanwhile. Blocks from the heap have their pages already. But glibc returns only what is free at the end
of the heap, so after a burst a server would keep what lies below any small object that stays. Hence large blocks come
from the heap, and what has been free for some seconds is returned, wherever it lies.

Invariants: does nothing where the C library is another one. Sources: mallopt(3), malloc_trim(3), mallinfo(3).
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from collections import deque
from typing import Any, Final

HEAP_BYTES: Final = 32 << 20
"""Blocks up to here come from the heap: the largest limit that glibc accepts."""
SPARE_BYTES: Final = 8 << 20
"""So much may stay free, so that the heap does not shrink and grow all the time."""
LOOK_SECONDS: Final = 1.0
LOOKS: Final = 5
"""What is free in so many looks in a row is not needed."""
_NEVER: Final = 2**31 - 1
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_MMAP_THRESHOLD: Final = -3


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h; `fordblks` are the free bytes of the heap."""

    _fields_ = [
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    ]


def _glibc() -> Any:
    """The C library if it is glibc 2.33 or newer, which can count what is free; else None."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _Mallinfo
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library


async def return_unneeded() -> None:
    """Has large blocks come from the heap, and returns what is not needed of it, until cancelled."""
    library = _glibc()
    if library is None:
        return
    library.mallopt(_MMAP_THRESHOLD, HEAP_BYTES)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    free: deque[int] = deque(maxlen=LOOKS)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        free.append(library.mallinfo2().fordblks)
        if len(free) == LOOKS and min(free) > SPARE_BYTES:
            library.malloc_trim(SPARE_BYTES)
            free.clear()
