"""One server on core 0, its readers on core 1, and what the kernel says about both.

Invariants: whatever is started here ends with its `with` block, whole process group and all; nothing else is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from tests.benchmarks.measure import TICKS
from tests.benchmarks.peers.servers import ADAPTERS, BUILT, HERE, Server

SERVER_CORE: Final = "0"
LOAD_CORE: Final = "1"
PATIENCE: Final = 60.0
ROOT: Final = HERE.parents[2]
PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


class Unfit(RuntimeError):
    """A server or the load did not do its part: there is no figure."""


def build() -> None:
    """Compiles the limit and the load, if they have changed."""
    BUILT.mkdir(parents=True, exist_ok=True)
    newest = max(source.stat().st_mtime for source in HERE.glob("*.[ch]"))
    for name, more in (("floor", ()), ("load", ("-lm",))):
        source, binary = HERE / f"{name}.c", BUILT / name
        if not binary.exists() or binary.stat().st_mtime < newest:
            command = ["gcc", "-O3", "-march=native", "-Wall", "-Wextra", "-o", str(binary), str(source), *more]
            subprocess.run(command, check=True)


def raise_limits() -> int:
    """As many files as the system lets us have, for what is started, too; gives how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def start(core: str, command: list[str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(["taskset", "-c", core, *command], start_new_session=True, text=True, **more)


def end(process: subprocess.Popen[str]) -> None:
    """kill -9 to its whole group: it was measured, nobody wants its goodbye."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Running:
    """A server that answers, and a publisher beside it where it needs one."""

    def __init__(self, server: Server, **env: object) -> None:
        self.server = server
        self.port = self.control_port = free_port()
        settings = {"PORT": str(self.port), "PYTHONPATH": str(ROOT), **server.env}
        self.env = os.environ | settings | {name: str(value) for name, value in env.items()}
        self._folder = tempfile.TemporaryDirectory()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody drains would stop the server
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        try:
            self._start(SERVER_CORE, self._command())
            if self.server.nchan:
                self._listening()
                self.control_port = free_port()
                self.env |= {"PORT": str(self.control_port), "NCHAN_PORT": str(self.port)}
                self._start(LOAD_CORE, [sys.executable, str(ADAPTERS / "publisher.py")])
            self._answering()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self, core: str, command: list[str]) -> None:
        self._processes.append(start(core, command, env=self.env, stdout=self._log, stderr=self._log))

    def _command(self) -> list[str]:
        if self.server.nchan:
            text = (ADAPTERS / "nchan.conf").read_text().replace("@PORT@", str(self.port))
            (Path(self._folder.name) / "nginx.conf").write_text(text)
            return [*self.server.command, f"{self._folder.name}/"]
        return [str(self.port) if word == "PORT" else word for word in self.server.command]

    def _attempts(self) -> Iterator[None]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and all(process.poll() is None for process in self._processes):
            yield
            time.sleep(0.02)
        self._log.seek(0)
        raise Unfit(f"expected {self.server.name} to answer, it said: {self._log.read()[-2000:]}")

    def _listening(self) -> None:
        for _ in self._attempts():
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return

    def _answering(self) -> None:
        for _ in self._attempts():
            try:
                self.control(0)
            except OSError:
                continue
            return

    def control(self, rate: float, count: int = 0) -> None:
        """From now on it makes `rate` changes a second; `count` of them, or without end."""
        url = f"http://127.0.0.1:{self.control_port}/ctl?rate={rate:g}&count={count}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            answer.read()

    def cpu_seconds(self) -> float:
        """What the server has used, in user and system time."""
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_kb(self) -> int:
        return int(self._stat()[21]) * PAGE_KB

    def _stat(self) -> list[str]:
        """The kernel's line about the server, from the process's state on."""
        return Path(f"/proc/{self._processes[0].pid}/stat").read_text().rpartition(")")[2].split()

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            end(process)
        self._log.close()
        self._folder.cleanup()


class Load:
    """Readers of a server. In the path, `%d` is the reader's number; of the first `frozen` nothing is counted."""

    def __init__(
        self,
        running: Running,
        readers: int,
        *,
        path: str = "",
        frozen: int = 0,
        at_a_time: int = 200,
        sources: int = 1,
    ) -> None:
        target = path or running.server.path
        options = {"p": running.port, "n": readers, "u": target, "m": frozen, "i": at_a_time, "s": sources}
        command = [str(BUILT / "load"), *(str(word) for name, value in options.items() for word in (f"-{name}", value))]
        self._wanted = readers
        self._process = start(LOAD_CORE, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)

    def __enter__(self) -> Self:
        return self

    def joined(self) -> dict[str, Any]:
        """Waits until all have; raises Unfit where some did not get so far."""
        said = self._said()
        if said["joined"] != self._wanted:
            end(self._process)
            raise Unfit(f"expected {self._wanted} readers, {said['joined']} joined, {said['failed']} failed")
        return said

    def window(self, seconds: float) -> dict[str, Any]:
        """What comes in the next seconds."""
        return self._asked(f"win {seconds}")

    def so_far(self) -> dict[str, Any]:
        """What has come since the last answer."""
        return self._asked("stat")

    def _asked(self, command: str) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(command + "\n")
        return self._said()

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Unfit("expected the load to go on, it ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def __exit__(self, *_: object) -> None:
        end(self._process)
