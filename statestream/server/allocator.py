"""The memory of large blocks: reused while they are needed, and returned to the system when they are not.

A snapshot or a text of megabytes is copied several times on its way to a socket. glibc takes each large block from the
system, which hands out its pages one by one: that takes seven times as long as the copying, and nothing else in the
server happens meanwhile. Blocks from the heap have their pages already. But glibc returns only what is free at the end
of the heap, so after a burst a server would keep what lies below any small object that stays. Hence large blocks come
from the heap, and if the process has grown for some seconds, what is free in the heap is returned, wherever it lies.

Invariants: nothing is returned while it is in use, and nothing happens where the C library is not glibc. Sources:
mallopt(3), malloc_trim(3), mallinfo(3), proc_pid_statm(5).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Final

HEAP_BYTES: Final = 32 << 20
"""Blocks up to here come from the heap: the largest limit that glibc accepts."""
SPARE_BYTES: Final = 8 << 20
"""The process may grow by so much before anything is returned: returning costs a look at all that is free."""
LOOK_SECONDS: Final = 3.0
"""A process that has grown in two looks in a row does not need all of it, or needs it for long."""
_NEVER: Final = 2**31 - 1
_FREE: Final = 8  # the place of fordblks in struct mallinfo2
_TRIM_THRESHOLD: Final = -1  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of malloc.h
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of malloc.h."""

    _fields_ = [("numbers", ctypes.c_size_t * 10)]


def reuse_large_blocks() -> Any:
    """Has large blocks come from one heap. Returns the C library, for `return_unneeded`; None if it is another one.

    Threads would take their blocks from heaps of their own, of which nothing is returned.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt"):  # musl has none, and keeps no large blocks
        return None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    if hasattr(library, "mallinfo2"):  # since glibc 2.33; it returns ten numbers of the type size_t
        library.mallinfo2.restype = _Mallinfo
    library.mallopt(_ARENA_MAX, 1)
    library.mallopt(_MMAP_THRESHOLD, HEAP_BYTES)
    library.mallopt(_TRIM_THRESHOLD, _NEVER)
    return library


async def return_unneeded(library: Any) -> None:
    """Returns what is not needed of the heap to the system, until cancelled.

    There may be something to return if the process has grown, or if more has become free.
    """
    if library is None:
        return
    settled, grown = _sizes(library), False
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = _sizes(library)
        settled = (min(settled[0], now[0]), min(settled[1], now[1]))
        if now[0] <= settled[0] + SPARE_BYTES and now[1] <= settled[1] + SPARE_BYTES:
            grown = False
        elif not grown:
            grown = True
        else:
            library.malloc_trim(SPARE_BYTES)
            settled, grown = _sizes(library), False


def _sizes(library: Any) -> tuple[int, int]:
    """The bytes of the process that are in memory, and those of the heap that are free; 0 if that is not known.

    What was returned still counts as free.
    """
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, library.mallinfo2().numbers[_FREE] if hasattr(library, "mallinfo2") else 0
