"""The server's processes, if it runs on this machine: their memory, CPU and limits.

Invariants: Linux only, and read-only: everything is read from /proc. If something cannot be known, `Unknown` is raised
with a sentence to print; nothing is guessed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

PROC: Final = Path("/proc")
LISTENING: Final = "0A"  # the state TCP_LISTEN
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


class Unknown(Exception):
    """The server's processes cannot be inspected; the message is the reason."""


class ServerProcess(Struct, frozen=True, kw_only=True):
    """One or several processes that listen on the same port, such as a server with workers."""

    pids: tuple[int, ...]

    @classmethod
    def listening(cls, host: str, port: int) -> ServerProcess:
        """Raises Unknown."""
        if not sys.platform.startswith("linux"):
            raise Unknown("its memory and CPU can be read on Linux only")
        if not _is_here(host):
            raise Unknown("it is not on this machine")
        inodes = set(_listeners(host, port))
        pids = tuple(sorted(pid for pid in _pids() if inodes & set(_sockets(pid))))
        if not pids:
            raise Unknown(f"its process cannot be seen: another user's, or in a container, behind port {port}")
        return cls(pids=pids)

    @property
    def name(self) -> str:
        """The name of the first process, such as `python3`. Raises Unknown if it has ended."""
        return _read(self.pids[0], "comm").strip()

    def rss_bytes(self) -> int:
        """The resident memory of all processes. Raises Unknown if one has ended."""
        return sum(_kilobytes(pid) for pid in self.pids) << 10

    def cpu_seconds(self) -> float:
        """User and system time of all processes since they started. Raises Unknown if one has ended."""
        ticks = os.sysconf("SC_CLK_TCK")
        fields = [_read(pid, "stat").rpartition(")")[2].split() for pid in self.pids]
        return sum(int(each[11]) + int(each[12]) for each in fields) / ticks

    def open_files(self) -> int:
        """How many sockets and files all processes together may have open."""
        lines = [_line(pid, "limits", "Max open files") for pid in self.pids]
        return sum(sys.maxsize if line[0] == "unlimited" else int(line[0]) for line in lines)


def _is_here(host: str) -> bool:
    """Tries to bind the address: only an address of this machine can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((host, 0))
        except OSError:
            return False
    return True


def _listeners(host: str, port: int) -> Iterator[int]:
    """The inodes of sockets that listen on the port, at the host's address or at all addresses."""
    wanted = ipaddress.ip_address(host.partition("%")[0])
    for table in ("net/tcp", "net/tcp6"):
        path = PROC / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            address, _, number = fields[1].rpartition(":")
            if fields[3] == LISTENING and int(number, 16) == port:
                found = _address(address)
                if found == wanted or found.is_unspecified:
                    yield int(fields[9])


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parses an address as the kernel prints it: words of four bytes, in the byte order of the machine."""
    words = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))
    return getattr(address, "ipv4_mapped", None) or address


def _pids() -> Iterator[int]:
    return (int(path.name) for path in PROC.iterdir() if path.name.isdigit())


def _sockets(pid: int) -> Iterator[int]:
    try:
        for path in (PROC / str(pid) / "fd").iterdir():
            found = _SOCKET.fullmatch(str(path.readlink()))
            if found:
                yield int(found[1])
    except OSError:
        return  # another user's process, or it has ended meanwhile


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text()
    except OSError:
        raise Unknown(f"its process {pid} has ended") from None


def _line(pid: int, name: str, head: str) -> list[str]:
    """The words after `head` in the line that begins with it."""
    for line in _read(pid, name).splitlines():
        if line.startswith(head):
            return line[len(head) :].lstrip(":").split()
    raise Unknown(f"its process {pid} is ending")


def _kilobytes(pid: int) -> int:
    return int(_line(pid, "status", "VmRSS")[0])
