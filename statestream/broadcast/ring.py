"""A few bytes objects, each to many sockets, in one system call: io_uring, as far as a broadcast needs it.

A thousand calls of `write` are a thousand crossings into the kernel and a thousand passes through a Python loop. Here
the descriptors are copied into a queue that is shared with the kernel, one `io_uring_enter` sends to all of them, and a
second queue has the result of each when the call returns. Sources: io_uring(7), io_uring_enter(2), and the structs
`io_uring_params`, `io_uring_sqe` and `io_uring_cqe` in linux/io_uring.h, whose layouts the numbers below describe.

Invariants: nothing waits. Every send has MSG_DONTWAIT, so the kernel is done with all of them, and with the bytes, when
the call returns. A ring belongs to the thread that opened it. Descriptors are used at once and never kept, so closing
one needs no coordination with the ring.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

GONE: Final = -1
"""In place of a number of bytes: the peer has closed the connection."""
LOST: Final = -2
"""The same, if the kernel closed the connection because the peer did not answer."""
ROOM: Final = 1_024
"""Sends in one call."""

Write = tuple[Sequence[int], bytes]
"""Descriptors, and what is sent to each of them."""
Send = Callable[[Sequence[Write]], list[tuple[int, int]]]
"""Makes writes, all to different descriptors. Returns those that took only a part, with the number of bytes, or GONE or
LOST.
"""

_SETUP: Final = 425
_ENTER: Final = 426
_WAIT: Final = 1  # IORING_ENTER_GETEVENTS
_SEND: Final = 26  # IORING_OP_SEND
_ENTRIES_AT: Final = 0x1000_0000  # IORING_OFF_SQES
_NEEDED: Final = 1 << 0 | 1 << 12
"""IORING_FEAT_SINGLE_MMAP, and LINKED_FILE as a sign of Linux 5.18: nothing that is used here has changed since."""
_GIVEN_UP: Final = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
_LATER: Final = (-errno.EAGAIN, -errno.EINTR)
_U32: Final = 0xFFFF_FFFF
_ENTRY: Final = 64
_PARAMETERS: Final = struct.Struct("30I")


class Ring:
    """Use `open` to make one, `send` to send, `close` to release everything."""

    def __init__(self, fd: int, parameters: tuple[int, ...]) -> None:
        """`parameters` are io_uring_params as the kernel filled them in, as 32-bit words."""
        self._fd = fd
        self._answers = parameters[1]  # cq_entries, a power of two: completions wrap around there
        submissions, completions = parameters[10:20], parameters[20:30]  # sq_off and cq_off, offsets into the mapping
        # both queues are in one mapping (FEAT_SINGLE_MMAP), which must reach to the end of the longer one
        size = max(submissions[6] + 4 * ROOM, completions[5] + 16 * self._answers)
        self._queues = mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._entries = mmap.mmap(fd, ROOM * _ENTRY, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, offset=_ENTRIES_AT)
        words, entries = memoryview(self._queues).cast("I"), memoryview(self._entries)
        self._submitted, self._completed, self._seen = (
            words[at // 4 : at // 4 + 1] for at in (submissions[1], completions[1], completions[0])
        )  # the tails of both queues, and how far we have read the second; the kernel reads and writes them too
        # a completion is 16 bytes: user_data (u64), result (i32), flags. Strided views give a column as one slice
        answers = memoryview(self._queues)[completions[5] :][: 16 * self._answers]
        self._which, self._results = answers.cast("Q")[0::2], answers.cast("i")[2::4]
        # a submission is 64 bytes; fd is its second 32-bit word, addr its third 64-bit word, len its seventh word
        self._descriptors = entries.cast("i")[1::16]
        self._addresses, self._sizes = entries.cast("Q")[2::8], entries.cast("i")[6::16]
        order = words[submissions[6] // 4 :][:ROOM]
        for at in range(ROOM):  # set once, because it is the same in every send: order, opcode, flags, user_data
            order[at] = at
            entries[at * _ENTRY] = _SEND
        entries.cast("I")[7::16] = memoryview(array("I", [socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL]) * ROOM)
        entries.cast("Q")[4::8] = memoryview(array("Q", range(ROOM)))

    @classmethod
    def open(cls) -> Ring | None:
        """A ring; None if the system has no io_uring, is too old, or does not allow it (seccomp)."""
        if sys.platform != "linux":
            return None
        parameters = bytearray(_PARAMETERS.size)
        fd = _call(_SETUP, ROOM, ctypes.addressof((ctypes.c_char * len(parameters)).from_buffer(parameters)))
        if fd < 0:
            return None
        values = _PARAMETERS.unpack(parameters)
        try:
            if values[5] & _NEEDED == _NEEDED and values[0] == ROOM:
                return cls(fd, values)
        except OSError:  # the memory lock limit does not allow the mapping
            pass
        os.close(fd)
        return None

    def send(self, writes: Sequence[Write]) -> list[tuple[int, int]]:
        """See `Send`."""
        numbers, addresses, sizes = _columns(writes)
        short: list[tuple[int, int]] = []
        for at in range(0, len(numbers), ROOM):
            part = slice(at, at + ROOM)
            there, taken = numbers[part], self._send(short, numbers[part], addresses[part], sizes[part])
            if taken < len(there):
                return short + send_each(_after(writes, at + taken))
        return short

    def _send(self, short: list[tuple[int, int]], numbers: array[int], addresses: array[int], sizes: array[int]) -> int:
        """Returns how many sends the kernel took. Adds to `short` those of them that were not taken whole."""
        # every submission that the kernel took has completed, so both tails are equal, also if the last call raised in
        # the middle: taking the tail from the completions brings the two back into step
        count, tail = len(numbers), self._completed[0]
        self._seen[0] = tail
        self._fill(tail, numbers, addresses, sizes)
        self._submitted[0] = tail + count & _U32
        # the call is a system call, hence a full barrier: the kernel sees all entries before it sees the new tail
        taken = max(0, _call(_ENTER, self._fd, count, count, _WAIT))
        short += self._outcomes(tail, taken, sizes)
        return taken

    def _fill(self, tail: int, numbers: array[int], addresses: array[int], sizes: array[int]) -> None:
        for at, begin, end in _stretches(tail % ROOM, len(numbers), ROOM):
            to = slice(at, at + end - begin)
            self._descriptors[to] = memoryview(numbers)[begin:end]
            self._addresses[to] = memoryview(addresses)[begin:end]
            self._sizes[to] = memoryview(sizes)[begin:end]

    def _outcomes(self, seen: int, count: int, sizes: array[int]) -> list[tuple[int, int]]:
        """Reads `count` completions after `seen`. Returns the sends that were not taken whole."""
        while (there := self._completed[0] - seen & _U32) < count:
            _call(_ENTER, self._fd, 0, count - there, _WAIT)
        short = []
        all_of_it = memoryview(sizes)
        for at, begin, end in _stretches(seen % self._answers, count, self._answers):
            # nearly always all were taken: one comparison of memory says so, without a Python loop. If the kernel has
            # completed sends of different sizes in another order, they differ, and are looked at one by one
            here = slice(at, at + end - begin)
            if self._results[here] != all_of_it[begin:end]:
                short += [
                    (self._descriptors[entry], result if result >= 0 else 0 if result in _LATER else closed_by(-result))
                    for entry, result in zip(self._which[here], self._results[here], strict=True)
                    if result != self._sizes[entry]
                ]
        self._seen[0] = seen + count & _U32
        return short

    def close(self) -> None:
        """May be called in a forked child too, where the ring must not be used."""
        views = self._submitted, self._completed, self._seen, self._which, self._results
        with contextlib.suppress(BufferError):  # a thread that held a view was lost in a fork, and the view with it
            for view in (*views, self._descriptors, self._addresses, self._sizes):
                view.release()
            self._queues.close()
            self._entries.close()
        os.close(self._fd)


def send_each(writes: Iterable[Write]) -> list[tuple[int, int]]:
    """The same with one `write` for each: without a ring, and for a few descriptors."""
    write = os.write
    short: list[tuple[int, int]] = []
    for descriptors, data in writes:
        size = len(data)
        for descriptor in descriptors:
            try:
                sent = write(descriptor, data)
                if sent != size:
                    short.append((descriptor, sent))
            except BlockingIOError:
                short.append((descriptor, 0))
            except OSError as error:
                short.append((descriptor, closed_by(error.errno)))
    return short


def _columns(writes: Sequence[Write]) -> tuple[array[int], array[int], array[int]]:
    """The descriptors, the addresses and the sizes of all sends."""
    numbers, addresses, sizes = array("i"), array("Q"), array("i")
    for descriptors, data in writes:
        count = len(descriptors)
        numbers += array("i", descriptors)
        addresses += array("Q", [ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0]) * count
        sizes += array("i", [len(data)]) * count
    return numbers, addresses, sizes


def _after(writes: Sequence[Write], done: int) -> Iterator[Write]:
    """What is left of writes, of whose sends so many are done."""
    for descriptors, data in writes:
        yield descriptors[done:], data
        done = max(0, done - len(descriptors))


def closed_by(number: int | None) -> int:
    """GONE or LOST, by the number of the error."""
    return LOST if number in _GIVEN_UP else GONE


def _stretches(at: int, count: int, room: int) -> Iterator[tuple[int, int, int]]:
    """Where items 0 to `count` lie in a ring buffer, from `at` on: (place, begin, end), once, or twice if it wraps."""
    first = min(count, room - at)
    yield at, 0, first
    if first < count:
        yield 0, first, count


if sys.platform == "linux":
    _syscall = ctypes.CDLL(None).syscall
    _syscall.argtypes, _syscall.restype = [ctypes.c_long] * 7, ctypes.c_long


def _call(number: int, a: int, b: int, c: int = 0, d: int = 0) -> int:
    """A system call. Returns -1 if it failed."""
    return int(_syscall(number, a, b, c, d, 0, 0))
