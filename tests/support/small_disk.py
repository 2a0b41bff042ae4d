"""A file system of a few megabytes, which fills up and gets room again. It takes root on Linux.

Invariants: it is mounted in a name space of its own, which ends with the process that holds it: nothing stays mounted,
whatever becomes of the test. Who is to see it is started with `prefix`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

AVAILABLE = sys.platform == "linux" and os.geteuid() == 0


class SmallDisk:
    """`with SmallDisk(folder, "64m") as disk:` is mounted at a folder, which `user` owns, a number."""

    def __init__(self, folder: Path, size: str, user: int = 0) -> None:
        self._folder, self._options = folder, f"size={size},mode=700,uid={user}"

    def __enter__(self) -> Self:
        script = f"mount -t tmpfs -o {self._options} tmpfs {self._folder} && echo mounted && exec cat"
        command = ["unshare", "-m", "sh", "-c", script]
        self._holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"mounted\n"
        self.prefix = ("nsenter", "-m", "-t", str(self._holder.pid))
        self._seen = Path(f"/proc/{self._holder.pid}/root{self._folder}")
        return self

    def fill(self) -> None:
        """Leaves no byte free."""
        with (self._seen / "filler").open("wb", buffering=0) as file:
            while free := os.statvfs(self._seen).f_bavail * os.statvfs(self._seen).f_frsize:
                file.write(bytes(min(free, 1 << 20)))

    def empty(self) -> None:
        """Gives back what `fill` took."""
        (self._seen / "filler").unlink()

    def __exit__(self, *_: object) -> None:
        with self._holder:  # closes its pipes, which ends it
            pass
