"""`without_io_uring.py COMMAND …` runs it as a container does that forbids io_uring: its system calls answer EPERM.

Invariants: a seccomp filter of this process and what it becomes, nothing of the system.
"""

import ctypes
import os
import struct
import sys

NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD_NUMBER, IS_ONE_OF, ANSWER = 0x20, 0x15, 0x06
IO_URING = (425, 426, 427)
EPERM, ALLOW = 0x0005_0001, 0x7FFF_0000


def instruction(code: int, then: int, otherwise: int, value: int) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)


program = instruction(LOAD_NUMBER, 0, 0, 0)
for left, number in zip(range(len(IO_URING), 0, -1), IO_URING, strict=True):
    program += instruction(IS_ONE_OF, left, 0, number)
program += instruction(ANSWER, 0, 0, ALLOW) + instruction(ANSWER, 0, 0, EPERM)
kept = ctypes.create_string_buffer(program)
described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
prctl = ctypes.CDLL(None).prctl
assert prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
assert prctl(SET_SECCOMP, FILTER, ctypes.c_char_p(described), 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
