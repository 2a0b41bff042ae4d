"""What the kernel queues for the peer of a connection and for how long, and what it has sent.

Invariants: where the kernel cannot be told or asked, nothing is limited, and nothing is known to be queued.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Final

if sys.platform != "win32":
    import fcntl
    import termios

UNSENT: Final = 1 << 20
"""Bytes that the kernel may queue beyond what is in flight. Without a limit that is megabytes of outdated frames."""
UNACKNOWLEDGED_MS: Final = 30_000
"""After this time the kernel drops a peer that acknowledges nothing, or whose TCP window stays closed."""
LINUX: Final = sys.platform == "linux"
TCP_INFO: Final = 11
_COUNTS: Final = struct.Struct("@200x QQ")
"""`tcpi_bytes_sent` and `tcpi_bytes_retrans` in the kernel's `struct tcp_info`, since Linux 4.19."""


def unacknowledged(descriptor: int) -> int:
    """The bytes that the kernel holds for the peer of a connection; 0 if it does not say."""
    if sys.platform == "win32" or descriptor < 0:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def bytes_sent(descriptor: int) -> int | None:
    """The bytes that the kernel has sent over a TCP connection, each once; None if it does not say."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _COUNTS.size)
    except OSError:
        return None
    if len(info) < _COUNTS.size:
        return None
    sent, again = _COUNTS.unpack(info)
    return int(sent) - int(again)


def bound_socket(fd: int, family: int) -> None:
    """Lets the kernel end the connection of a peer that has vanished, and bounds what it queues."""
    if family == socket.AF_UNIX or not LINUX:
        return
    connection = socket.socket(family, socket.SOCK_STREAM, 0, fileno=fd)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    finally:
        connection.detach()
