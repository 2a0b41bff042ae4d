"""A network of a server's own, whose cables can be pulled. It takes root on Linux.

Packets that a broken network loses are lost without a word: nobody is told that a connection has ended, and what is
sent meanwhile arrives later, when TCP sends it again. A relay in front of the server cannot do that, since its kernel
goes on acknowledging what it receives.

Invariants: everything ends with the process that holds the name space, whatever becomes of the test. No packet leaves
the machine: the addresses are from a range that no network routes (RFC 2544).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from typing import Final, Self

RANGE: Final = "198.18.0.0/15"
_PAIR: Final = "unshare -n ip link add one type veth peer name other"


@cache
def why_not() -> str:
    """Why there can be no such network here; empty: there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "makes a network name space, which takes root on Linux"
    try:
        done = subprocess.run(_PAIR.split(), capture_output=True, check=False, text=True)
    except FileNotFoundError as error:
        return f"takes {error.filename}"
    return f"no network name space can be made: {done.stderr.strip()}" if done.returncode else ""


class Network:
    """`with Network(ways) as network:`. What is started with `prefix` is in it, at `hosts`, one for each way there."""

    def __init__(self, ways: int = 1) -> None:
        self._ways = range(ways)

    def __enter__(self) -> Self:
        script = "ip link set lo up && echo ready && exec cat"
        command = ["unshare", "-n", "sh", "-c", script]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"ready\n"
        self.prefix = ("nsenter", "-n", "-t", str(self._holder.pid))
        self.hosts = tuple(map(self._lay, self._ways))
        return self

    def _lay(self, way: int) -> str:
        """Lays a cable, and returns the address at its far end."""
        pid, near = self._holder.pid, f"cable{self._holder.pid}-{way}"
        number = (pid * len(self._ways) + way) % (1 << 15) * 4
        here, there = (f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number + end & 255}" for end in (1, 2))
        macs = [f"02:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}:{end:02x}" for end in (1, 2)]
        add = f"ip link add {near} address {macs[0]} type veth peer name way{way} address {macs[1]} netns {pid}"
        _run(add.split())
        _run(["ip", "address", "add", f"{here}/30", "dev", near])
        _run(["ip", "link", "set", near, "up"])
        _run([*self.prefix, "ip", "address", "add", f"{there}/30", "dev", f"way{way}"])
        self.restore(way)
        # otherwise the kernel asks who has the address, and says that nobody has once the cable is pulled
        _run(["ip", "neighbour", "replace", there, "lladdr", macs[1], "dev", near, "nud", "permanent"])
        return there

    def cut(self, way: int = 0) -> None:
        """From now on, every packet on that way is lost."""
        _run([*self.prefix, "ip", "link", "set", f"way{way}", "down"])

    def restore(self, way: int = 0) -> None:
        _run([*self.prefix, "ip", "link", "set", f"way{way}", "up"])

    def __exit__(self, *_: object) -> None:
        with self._holder:  # closes its pipes, which ends it
            pass


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
